"""Classifiers: labels, the losses that go with them, and the one of a multilayer perceptron.

It is long because each public method has its words and an example.
"""

import functools
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if

from fastbp import _core
from fastbp.estimators import labels, losses
from fastbp.estimators.base import by_epochs
from fastbp.estimators.dense import BaseMLP
from fastbp.estimators.docs import documented
from fastbp.estimators.looking import Looking
from fastbp.estimators.preparation import Target
from fastbp.nn.parameter import Array
from fastbp.nn.rows import check_attributes, rows


def _link(estimator: "Classifying") -> str:
    """The link of the estimator's loss for independent outputs."""
    return str(
        rows("loss")[
            losses.classification_loss(estimator.loss, type(estimator).__name__).independent
        ]["link"]
    )


def _has_probabilities(estimator: "Classifying") -> bool:
    if _link(estimator) == "identity":
        raise AttributeError(f"loss={estimator.loss!r} gives scores, not probabilities.")
    return True


def _has_scores(estimator: "Classifying") -> bool:
    if _link(estimator) != "identity":
        raise AttributeError(f"loss={estimator.loss!r} gives probabilities: see predict_proba.")
    return True


class Classifying(ClassifierMixin, Looking):
    """What classifiers do, whatever their network."""

    calibration: str | None
    class_weight: Mapping[Any, float] | str | None
    classes_: Array
    _labels: labels.Labels
    _y_numeric = False

    def _loss_attributes(self) -> dict[str, float]:
        pair = losses.classification_loss(self.loss, type(self).__name__)
        row = rows("loss")[pair.independent]
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
        if not fresh:
            known = self._labels
            if classes is not None and not np.array_equal(labels.distinct(classes), known.classes):
                raise ValueError(
                    f"classes={classes!r} differs from those of the first call, {known.classes!r}."
                )
            encoded = labels.encode(known, y, complete=complete)
        elif classes is not None:
            known = labels.declare(classes, y)
            encoded = labels.encode(known, y, complete=False)
        else:
            known, encoded = labels.learn(y)
        pair = losses.classification_loss(self.loss, type(self).__name__)
        loss = pair.exclusive if known.kind == "multiclass" else pair.independent
        kind = rows("loss")[loss]["target"]

        def encode(y: Any) -> Array:
            return _values(known, labels.encode(known, y, complete=False), kind, dtype)

        return Target(
            values=_values(known, encoded, kind, dtype),
            n_outputs=known.n_outputs,
            loss=loss,
            score=functools.partial(known.accuracy, threshold=_threshold(loss)),
            stratify=known.kind == "binary",
            sorted=known.kind != "multilabel" and _is_sorted(encoded),
            encode=encode,
            fitted={"classes_": known.classes, "_labels": known},
            class_weight=self._class_weights(known, encoded),
        )

    def _class_weights(self, known: labels.Labels, encoded: Array) -> Array | None:
        """What each sample weighs by its class; None: the same."""
        given = self.class_weight
        if given is None:
            return None
        if not isinstance(given, Mapping):
            weights: Array = compute_sample_weight(given, encoded)
            return weights
        listed = known.classes.tolist()
        unknown = [label for label in given if label not in listed]
        if unknown:
            raise ValueError(
                f"class_weight: found weights of {unknown}, wanted those of classes in {listed}."
            )
        for label, weight in given.items():
            if not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
                raise ValueError(f"class_weight[{label!r}]: found {weight!r}, wanted a number >= 0")
        of_classes = np.array([float(given.get(label, 1.0)) for label in listed])
        if known.kind != "multilabel":
            return of_classes[encoded]
        weights = np.where(encoded, of_classes, 1.0).prod(axis=1)
        return weights

    @documented
    def predict(self, X: Any) -> Any:
        """Labels of samples.

        Parameters
        ----------
        <shared features>

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The most probable class of each sample; for multilabel models 0 or 1 for each label (a
            CSR matrix if `fit` was given one). A row's labels do not depend on the other rows.

        Raises
        ------
        <shared errors of prediction>

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier(4, solver="lbfgs", random_state=0)
        >>> model.fit(X, y).predict([[-2.0], [2.0]])
        array([0, 1])
        """
        scores = self._output(X)
        return self._answer()(scores)

    @property
    def _temperature(self) -> float:
        """What raw outputs are divided by before they become probabilities."""
        return float(self.__dict__.get("temperature_", 1.0))

    def _calibrated(self, X: Any) -> Array:
        raw = self._output(X, raw=True)
        link: Array = _core.link(self._network.loss[0], raw / raw.dtype.type(self._temperature))
        return link

    def _answer(self) -> Callable[[Array], Any]:
        return functools.partial(self._labels.decode, threshold=_threshold(self._network.loss[0]))

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]  # scikit-learn's
    @documented
    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        <shared features>

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), of the weights' dtype
            In the order of `classes_`; the rows of single-label models sum to 1. Not available for
            losses whose output is no probability, such as "hinge".

        Raises
        ------
        <shared errors of prediction>

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier(4, solver="lbfgs", random_state=0)
        >>> probabilities = model.fit(X, y).predict_proba([[-2.0], [2.0]])
        >>> bool(np.allclose(probabilities.sum(axis=1), 1))
        True
        """
        output = self._output(X) if self._temperature == 1.0 else self._calibrated(X)
        if self._labels.kind != "binary":
            return output
        return np.concatenate([1 - output, output], axis=1)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]  # scikit-learn's
    @documented
    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        <shared features>

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes), of the weights' dtype
            The logarithms of the probabilities, exact also where `predict_proba` rounds to 0 or 1.

        Raises
        ------
        <shared errors of prediction>

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier(4, solver="lbfgs", random_state=0)
        >>> logarithms = model.fit(X, y).predict_log_proba(X)
        >>> bool(np.allclose(np.exp(logarithms), model.predict_proba(X)))
        True
        """
        raw = self._output(X, raw=True)
        if self._temperature != 1.0:
            raw = raw / raw.dtype.type(self._temperature)
        row = losses.likelihood(self._network.loss[0])
        if rows("loss")[row]["target"] == "class":
            best = raw.argmax(axis=1)
            of_best = _log_probability(row, raw, best.astype(np.int32))
            # Of the others by their distance to it: terms of one sign, so no digits cancel.
            distance: Array = raw - raw.max(axis=1, keepdims=True)
            return distance + of_best[:, None]
        wanted = [1.0] if self._labels.kind != "binary" else [0.0, 1.0]
        outputs = raw.reshape(-1, 1)  # each by itself
        logarithms = [
            _log_probability(row, outputs, np.full_like(outputs, y)).reshape(raw.shape)
            for y in wanted
        ]
        return np.concatenate(logarithms, axis=1)

    @available_if(_has_scores)  # type: ignore[untyped-decorator]  # scikit-learn's
    @documented
    def decision_function(self, X: Any) -> Array:
        """Raw outputs of a model whose loss gives no probabilities, such as "hinge".

        Parameters
        ----------
        <shared features>

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Above 0 for the second class of a binary model, or for each label that holds; of several
            classes the largest wins.

        Raises
        ------
        <shared errors of prediction>

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier(4, solver="lbfgs", loss="hinge", random_state=0)
        >>> model.fit(X, y).decision_function([[-2.0], [2.0]]) > 0
        array([False,  True])
        """
        scores = self._output(X, raw=True)
        return scores[:, 0] if self._labels.kind == "binary" else scores

    @available_if(by_epochs)  # type: ignore[untyped-decorator]  # scikit-learn's
    @documented
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch on the samples given, and keep the state of training for the next call.

        <shared order of samples>

        Parameters
        ----------
        X, y, sample_weight
            Samples, as for `fit`; not every class has to occur in them, and no unknown one may.
        classes : array-like of shape (n_classes,), default=None
            All classes that any call will bring, at least one. Needed at the first call, optional
            later.

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
        >>> from fastbp import MLPClassifier
        >>> X, y = np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([0, 0, 1, 1])
        >>> model = MLPClassifier(4, random_state=0)
        >>> for _ in range(3):
        ...     model = model.partial_fit(X, y, classes=[0, 1])
        >>> len(model.loss_curve_)
        3
        """
        if classes is None and not self.__sklearn_is_fitted__():
            raise ValueError("classes must be given at the first call of partial_fit; found None.")
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' cannot be had of partial_fit, which knows no shares of"
                " classes in samples to come; a dict of weights was wanted, as"
                " sklearn.utils.class_weight.compute_class_weight makes it of all labels."
            )
        targets = functools.partial(self._targets, complete=False, classes=classes)
        return self._train(X, y, sample_weight, targets, incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@documented
class MLPClassifier(Classifying, BaseMLP):
    """Multilayer perceptron classifier, trained by fastbp's C engine.

    It has the parameters, defaults, attributes and methods of scikit-learn's class of this name;
    parameters from `loss` on are fastbp's own. The loss brings the output activation: softmax for
    several classes, the logistic function for two classes or several labels.

    <shared threads>

    Parameters
    ----------
    <shared parameters>

    loss : {'log_loss', 'focal', 'hinge'}, default='log_loss'
        What is minimised, averaged over samples by their weights, plus the penalty. The default is
        scikit-learn's, and gives calibrated probabilities.

        - 'log_loss': cross-entropy.
        - 'focal': Lin et al. (2017), cross-entropy that cares less for samples that are already
          right; `loss_params` has its gamma.
        - 'hinge': the margin loss, for each class against the rest; it gives no probabilities, and
          instead of `predict_proba` there is `decision_function`.

    loss_params : dict or None, default=None
        Numbers that the loss takes, by name: gamma of 'focal', at least 0 (default 2, the
        paper's choice). None leaves every number at its default.

    label_smoothing : float, default=0.0
        The share of each target, in [0, 1), that all classes have alike: of binary and multilabel
        targets, 0 and 1 become label_smoothing / 2 and 1 less that. For 'log_loss'. Szegedy et al.
        2016, arXiv:1512.00567.

    <shared class weights>

    <shared calibration>

    Attributes
    ----------
    <shared attributes>

    classes_ : ndarray of shape (n_classes,)
        The sorted labels; for multilabel targets the numbers of the columns.

    temperature_ : float
        With `calibration`, what raw outputs are divided by before they become probabilities: above
        1 where the network is too certain.

    See Also
    --------
    MLPRegressor : The same network for numeric targets.

    Examples
    --------
    >>> from fastbp import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    >>> model = make_pipeline(
    ...     StandardScaler(), MLPClassifier(16, learning_rate_init=0.01, tol=1e-3, random_state=0)
    ... )
    >>> model.fit(X_train, y_train).score(X_test, y_test) > 0.9
    True
    >>> model.predict_proba(X_test[:2]).shape
    (2, 3)
    """

    def _loss_attributes(self) -> dict[str, float]:
        given = super()._loss_attributes()
        return losses.smoothed(given, self.loss, self.loss_params, self.label_smoothing)


def _log_probability(row: str, raw: Array, target: Array) -> Array:
    """The logarithm of the targets' probability, (n,), by a row that is the negative of it."""
    loss, _ = _core.loss(row, raw, target)
    return 0 - loss  # never -0.0


def _values(known: labels.Labels, encoded: Array, target: str, dtype: np.dtype[Any]) -> Array:
    """Encoded labels as the loss's targets: indices, or 0 and 1 for each output."""
    if target == "class":
        return encoded.astype(np.int32)
    if known.kind == "multiclass":
        encoded = encoded[:, None] == np.arange(known.n_outputs)
    return np.ascontiguousarray(encoded.reshape(len(encoded), -1), dtype=dtype)


def _threshold(loss: str) -> float:
    """The prediction above which a label holds."""
    return 0.0 if rows("loss")[loss]["link"] == "identity" else 0.5


def _is_sorted(encoded: Array) -> bool:
    steps = np.diff(encoded)
    return bool(steps.any() and ((steps >= 0).all() or (steps <= 0).all()))
