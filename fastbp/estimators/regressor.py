"""Regressors: numeric targets, the losses for them, and the one of a multilayer perceptron."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from fastbp.estimators import inputs, losses
from fastbp.estimators.base import by_epochs
from fastbp.estimators.dense import BaseMLP
from fastbp.estimators.docs import documented
from fastbp.estimators.looking import Looking
from fastbp.estimators.preparation import Target
from fastbp.estimators.signatures import of_regressor
from fastbp.nn.parameter import Array
from fastbp.nn.rows import check_attributes, rows


class Scale(NamedTuple):
    """What targets (n, n_outputs) are scaled by: `mean` becomes 0, and `spread` 1, of each."""

    mean: Array
    spread: Array

    @classmethod
    def learnt(cls, values: Array, weight: Array | None) -> "Scale":
        """That of these targets, weighed; a constant one is only shifted."""
        exact = values.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(exact, axis=0, weights=weight)
            spread = np.sqrt(np.average((exact - mean) ** 2, axis=0, weights=weight))
        if not (np.isfinite(mean).all() and np.isfinite(spread).all()):
            raise ValueError("y: found values too large to be scaled; wanted standardize=False")
        return cls(mean, np.where(spread == 0, 1.0, spread))

    def of(self, values: Array) -> Array:
        """Targets, scaled."""
        scaled: Array = (values - self.mean) / self.spread
        return scaled.astype(values.dtype)

    def undone(self, output: Array) -> Array:
        """Predictions of targets as they were, in scikit-learn's shape."""
        return _values((output * self.spread + self.mean).astype(output.dtype))


class Regressing(RegressorMixin, Looking):
    """What regressors do, whatever their network."""

    _y_numeric = True
    _scale: "Scale | None"

    def _loss_attributes(self) -> dict[str, float]:
        row = rows("loss")[losses.regression_loss(self.loss, type(self).__name__)]
        return check_attributes(row, self.loss_params, argument="loss_params", user_name=self.loss)

    def _targets(
        self,
        y: Any,
        dtype: np.dtype[Any],
        *,
        fresh: bool,
        complete: bool = True,
        classes: Any = None,
        weight: Array | None = None,
    ) -> Target:
        loss = losses.regression_loss(self.loss, type(self).__name__)
        scale: Scale | None = None if fresh else self._scale

        def checked(y: Any) -> Array:
            if y.ndim == 2 and y.shape[1] == 1:
                y = column_or_1d(y, warn=True)
            values = inputs.target_array(y, dtype)
            if rows("loss")[loss]["target"] == "nonnegative" and values.min() < 0:
                at = tuple(int(i) for i in np.argwhere(y < 0)[0])
                raise ValueError(
                    f"loss={loss!r} wants targets of 0 or more; y{list(at)} is {y[at]:g}."
                )
            return values

        def encode(y: Any) -> Array:
            values = checked(y)
            return values if scale is None else scale.of(values)

        if fresh and self.standardize and rows("loss")[loss]["link"] == "identity":
            scale = Scale.learnt(checked(y), weight)
        values = encode(y)
        return Target(
            values=values,
            n_outputs=values.shape[1],
            loss=loss,
            score=r2,
            stratify=False,
            sorted=False,
            encode=encode,
            fitted={"_scale": scale},
        )

    @documented
    def predict(self, X: Any) -> Array:
        """Predictions for samples.

        Parameters
        ----------
        <shared features>

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), of the weights' dtype
            One number a sample if there is one output. A row's prediction does not depend on the
            other rows.

        Raises
        ------
        <shared errors of prediction>

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([-2.0, -1.0, 1.0, 2.0])
        >>> model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0)
        >>> model.fit(X, y).predict([[-0.5], [0.5]]).round()
        array([-1.,  1.])
        """
        output = self._output(X)
        answer: Array = self._answer()(output)
        return answer

    def _answer(self) -> Callable[[Array], Any]:
        return _values if self._scale is None else self._scale.undone

    @available_if(by_epochs)  # type: ignore[untyped-decorator]  # scikit-learn's
    @documented
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch on the samples given, and keep the state of training for the next call.

        <shared order of samples>

        Parameters
        ----------
        X, y, sample_weight
            Samples, as for `fit`.

        Returns
        -------
        self : object
            The estimator, one epoch further.

        Raises
        ------
        <shared errors of one epoch>

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([-2.0, -1.0, 1.0, 2.0])
        >>> model = MLPRegressor(4, random_state=0)
        >>> for _ in range(3):
        ...     model = model.partial_fit(X, y)
        >>> len(model.loss_curve_)
        3
        """
        return self._train(X, y, sample_weight, self._targets, incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = (
            self.loss in losses.REGRESSION and rows("loss")[self.loss]["target"] == "nonnegative"
        )
        return tags


@documented
class MLPRegressor(Regressing, BaseMLP):
    """Multilayer perceptron regressor, trained by fastbp's C engine.

    It has the parameters, defaults, attributes and methods of scikit-learn's class of this name,
    with `hidden_layer_sizes` first and `loss` by keyword only; the parameters after `loss` are
    fastbp's own. The loss brings the output activation: the exponential for 'poisson', none for the
    others.

    <shared threads>

    Parameters
    ----------
    <shared parameters>

    loss : str, default='squared_error'
        What is minimised, averaged over samples by their weights, plus the penalty. The loss of a
        sample is the sum over its outputs, whose gradient is what training follows. (scikit-learn
        follows it too, but reports the mean over outputs for 'squared_error'.) The default is
        scikit-learn's, and predicts means.

        - 'squared_error': half of the squared residual.
        - 'absolute_error': its magnitude; predicts medians.
        - 'huber': half its square within delta, linear beyond.
        - 'quantile': the pinball loss; predicts the quantile that `loss_params` names.
        - 'poisson': half of the Poisson deviance, for targets of 0 or more; the prediction is the
          exponential of the last layer's output.

    loss_params : dict or None, default=None
        Numbers that the loss takes, by name: delta of 'huber', above 0 (default 1), and quantile of
        'quantile', in (0, 1) (default 0.5, the median). None leaves every number at its default.

    Attributes
    ----------
    <shared attributes>

    See Also
    --------
    MLPClassifier : The same network for classes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import MLPRegressor
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> y = X[:, 0] ** 2
    >>> model = MLPRegressor((32, 32), max_iter=1000, learning_rate_init=0.01, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.99
    True
    >>> upper = MLPRegressor(
    ...     (32,), loss="quantile", loss_params={"quantile": 0.9}, max_iter=2000, random_state=0
    ... )
    >>> upper.fit(X, y).predict(X).shape
    (200,)
    """

    __init__ = of_regressor(BaseMLP.__init__)


def r2(prediction: Array, target: Array, sample_weight: Array | None) -> float:
    """scikit-learn's R2 score, averaged over outputs; NaN where a prediction is not finite."""
    if not np.isfinite(prediction).all():
        return np.nan
    target = target.astype(np.float64)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        mean = np.average(target, axis=0, weights=sample_weight)
        residual = np.average((target - prediction) ** 2, axis=0, weights=sample_weight)
        spread = np.average((target - mean) ** 2, axis=0, weights=sample_weight)
        scores = 1 - residual / spread
    # A constant target: 1 if it is met exactly, else 0.
    scores[spread == 0] = np.where(residual[spread == 0] == 0, 1.0, 0.0)
    return float(scores.mean())


def _values(output: Array) -> Array:
    """The network's output (n, n_outputs) as scikit-learn returns it: (n,) for one output."""
    return output[:, 0] if output.shape[1] == 1 else output
