"""What the classifier and the regressor share: parameters, weights, pickling, prediction.

Knows neither labels nor which losses there are: the two estimators supply them. How a training call
goes is told in `fitting`; arithmetic is the engine's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, Self, TypeVar, cast

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fastbp import _core
from fastbp.estimators import fitting, inputs, preparation
from fastbp.estimators.predictor import Predictor
from fastbp.nn.network import Array, Network, Parameters
from fastbp.train import locking, threads
from fastbp.train.options import STOCHASTIC_SOLVERS
from fastbp.train.state import Problem, TrainingState

_Init = TypeVar("_Init", bound=Callable[..., None])


def with_default(init: _Init, **defaults: object) -> _Init:
    """A copy of `init` with other defaults for keyword-only parameters.

    scikit-learn reads an estimator's parameters and defaults from the signature of its `__init__`.
    A copy has the two estimators' thirty common parameters written once, and differing ones right.
    """
    function = cast(FunctionType, init)
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    copy.__kwdefaults__ = {**(function.__kwdefaults__ or {}), **defaults}
    copy.__annotations__, copy.__qualname__ = function.__annotations__, function.__qualname__
    return cast(_Init, copy)


class BaseMLP(BaseEstimator, ABC):
    """A multilayer perceptron behind scikit-learn's methods; see the two classes made from it."""

    # One line for each parameter, as scikit-learn wants it. Defaults are scikit-learn's; the last
    # seven parameters are fastbp's own. `loss` here is the classifier's.
    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | Array = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: str = "log_loss",
        loss_params: dict[str, float] | None = None,
        activation_params: dict[str, float] | None = None,
        weight_init: str = "glorot_uniform",
        n_threads: int | None = None,
        dtype: Any = None,
        history: str = "epoch",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.loss_params = loss_params
        self.activation_params = activation_params
        self.weight_init = weight_init
        self.n_threads = n_threads
        self.dtype = dtype
        self.history = history

    # What the estimators supply.

    _y_numeric: bool

    @abstractmethod
    def _loss_attributes(self) -> dict[str, float]:
        """Check `loss` and `loss_params`; give the attributes of the loss's row."""

    @abstractmethod
    def _targets(
        self,
        y: Any,
        dtype: np.dtype[Any],
        *,
        fresh: bool,
        complete: bool = True,
        classes: Any = None,
    ) -> preparation.Target:
        """Check and encode `y`: learn what is to be known of it if `fresh`, else go by what is
        known.

        With `complete`, every known class has to occur. `classes` names them beforehand.
        """

    # What training leaves; absent before. The two lists of views belong to the user as well.

    coefs_: list[Array]
    intercepts_: list[Array]
    _parameters: Parameters
    _network: Network
    _plans: dict[bool, _core.Plan]
    _training_state: TrainingState

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on all samples, anew unless `warm_start` is set and the model is fitted.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
            The features: finite numbers. float32 and float64 arrays are not copied, CSC becomes
            CSR.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets: class labels or a 0/1 indicator matrix for a classifier, finite numbers for
            a regressor.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples: finite, not negative, not all zero. None weighs all the same.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            A parameter or an array is not what it should be; the message names it.
        NonFiniteError
            A loss or weight became infinite or NaN. The estimator then holds the weights of the
            last whole epoch, or the best ones with `early_stopping`, and can be used.
        RuntimeError
            Another thread is training this estimator.
        BaseException
            Whatever a signal's handler raises ends training. A new model is then dropped; one that
            was trained on holds the weights of the last whole epoch. Ctrl-C ends it with a
            UserWarning instead, and the model is that of the last whole epoch, or of the best one
            with `early_stopping`; if none was whole, its weights are those from before training.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([-2.0, -1.0, 1.0, 2.0])
        >>> model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0)
        >>> model.fit(X, y).score(X, y) > 0.99
        True
        """
        return self._train(X, y, sample_weight, self._targets, incremental=False)

    def _train(
        self, X: Any, y: Any, sample_weight: Any, targets: preparation.Targets, *, incremental: bool
    ) -> Self:
        with locking.exclusively(self, type(self).__name__):
            fitting.train(self, X, y, sample_weight, targets, incremental=incremental)
        return self

    def inspect(self, X: Any, y: Any, sample_weight: Any = None) -> list[dict[str, Array]]:
        """Show one forward and one backward pass: what every unit says, and what it is blamed for.

        Parameters
        ----------
        X, y, sample_weight
            Samples, as for `fit`.

        Returns
        -------
        layers : list of dict, one for each linear layer
            "z" (n_samples, units), the sums before the activation; "a" (n_samples, units), after it
            (of the last layer: the prediction); "delta" (n_samples, units), the derivative of the
            loss by z. The gradient of a layer's weights is the product of the transposed "a" of the
            layer below (X for the first) and its "delta", without the penalty.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X, y = np.array([[0.0, 1.0], [1.0, 0.5]]), np.array([1.0, 2.0])
        >>> model = MLPRegressor(2, solver="sgd", max_iter=1, random_state=0)
        >>> first, last = model.partial_fit(X, y).inspect(X, y)
        >>> bool(np.allclose(last["delta"][:, 0], (last["a"][:, 0] - y) / 2))
        True
        """
        check_is_fitted(self)
        problem = self._gradient_problem(X, y, sample_weight, self._network.dtype)
        return list(
            problem.plan.inspect(
                problem.params, problem.X, problem.y, sample_weight=problem.sample_weight
            )
        )

    def _gradient_problem(
        self, X: Any, y: Any, sample_weight: Any = None, dtype: Any = np.float64
    ) -> Problem:
        """Samples, a plan and a copy of the weights, in `dtype`, for looking at gradients.

        An estimator that is not fitted gives the weights that its training would start from.
        """
        return preparation.gradient_problem(self, X, y, sample_weight, np.dtype(dtype))

    # Prediction.

    @abstractmethod
    def _answer(self) -> Callable[[Array], Any]:
        """What makes the answer of `predict` from the network's output, free of this estimator."""

    def predictor(self) -> Predictor:
        """`predict` as a small callable with weights of its own, for many calls on few rows.

        It takes a 2-D ndarray of the weights' dtype, checks its shape and dtype and nothing else,
        and returns what `predict` does, some 20 us sooner. Later changes of the estimator do not
        change it.

        Returns
        -------
        predictor : callable

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> predict = MLPClassifier(4, solver="lbfgs", random_state=0).fit(X, y).predictor()
        >>> predict(np.array([[-2.0], [2.0]]))
        array([0, 1])
        """
        check_is_fitted(self)
        with locking.swapping:
            return Predictor(self._network, self._flat(), self._answer(), self.n_threads)

    def _output(self, X: Any, *, raw: bool = False) -> Array:
        """Predictions, or raw outputs, (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = inputs.features(self, X, self._network.dtype)
        with locking.swapping:
            plan, flat = self._plan(scipy.sparse.issparse(X)), self._flat()
        return plan.predict(flat, X, raw=raw, n_threads=threads.resolve(self.n_threads))

    def _plan(self, sparse: bool) -> _core.Plan:
        if sparse not in self._plans:
            self._plans[sparse] = self._network.plan(sparse=sparse)
        return self._plans[sparse]

    def _flat(self) -> Array:
        """The weights, with what the user has put in the place of views copied in."""
        if self._parameters.absorb(self.coefs_, self.intercepts_):
            self._show_views()
        return self._parameters.flat

    def _show_views(self, *, anew: bool = False) -> None:
        """Have `coefs_` and `intercepts_` list the views of the buffer, as new lists if `anew`."""
        for name in ("coefs_", "intercepts_"):
            views = getattr(self._parameters, name.rstrip("_"))
            shown = getattr(self, name, None)
            if isinstance(shown, list) and not anew:
                shown[:] = views  # the same list, since the user may hold it
            else:
                setattr(self, name, list(views))

    # scikit-learn's protocols.

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_parameters")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        with locking.swapping:
            if self.__sklearn_is_fitted__():
                self._flat()
            state = dict(super().__getstate__())
        for name in ("coefs_", "intercepts_", "_plans"):  # made anew from the flat buffer
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():
            self._plans = {}
            self._show_views()

    def _is_stochastic(self) -> bool:
        """For `available_if`: whether `partial_fit` can be had."""
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit takes one of the solvers {STOCHASTIC_SOLVERS}; found {self.solver!r}."
            )
        return True
