"""What goes into a training call: parameters, samples, targets and the network, checked and joined.

Reads estimators and changes none, but for the names and number of features, which scikit-learn's
validation notes on them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse
from sklearn.base import clone

from fastbp.estimators.built import Start
from fastbp.nn import locking
from fastbp.nn.parameter import Array
from fastbp.train import threads
from fastbp.train.options import check_options
from fastbp.train.reading import sample_weights
from fastbp.train.state import (
    Settings,
    draw_seed,
)
from fastbp.train.validation import LossTerm

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseTrained


Score = Callable[[Array, Array, Array | None], float]


class Target(NamedTuple):
    """What to learn, as the engine takes it.

    Attributes
    ----------
    values : ndarray
        int32 (n,) for a loss over classes, else (n, n_outputs) of the weights' dtype.
    n_outputs : int
        Outputs of the network.
    loss : str
        The loss's row.
    score : callable
        Of (prediction, values, sample_weight), for early stopping; higher is better.
    stratify : bool
        Whether a validation split keeps the classes' shares.
    sorted : bool
        Whether the samples are sorted by class.
    encode : callable
        Makes values of other targets, as this estimator's are.
    fitted : dict
        Attributes that the estimator gets once training is over.
    class_weight : ndarray of shape (n,) or None
        What each sample weighs by its class.
    """

    values: Array
    n_outputs: int
    loss: str
    score: Score
    stratify: bool
    sorted: bool
    encode: Callable[[Any], Array]
    fitted: dict[str, Any]
    class_weight: Array | None = None


class Targets(Protocol):
    """`BaseTrained._targets`, or what is made of it by fixing arguments."""

    def __call__(
        self, y: Any, dtype: np.dtype[Any], *, fresh: bool, weight: Array | None = None
    ) -> Target: ...


class Sample(NamedTuple):
    """Samples as the engine takes them."""

    X: Any
    y: Array
    weight: Array | None


def check_parameters(estimator: "BaseTrained", incremental: bool) -> None:
    check_options(type(estimator).__name__, vars(estimator))
    estimator._loss_attributes()
    estimator._check()
    if incremental:
        for name, unset in (
            ("early_stopping", False),
            ("validation_cv", None),
            ("calibration", None),
        ):
            if getattr(estimator, name, unset) not in (unset, np.False_):
                raise ValueError(
                    f"partial_fit holds no samples out: {name} must be {unset}; got"
                    f" {getattr(estimator, name)!r}."
                )


def wanted_dtype(estimator: "BaseTrained", fresh: bool) -> np.dtype[Any] | None:
    """The dtype that is asked for, or that the fitted model has; None where the data decide."""
    asked = None if estimator.dtype is None else np.dtype(estimator.dtype)
    if fresh:
        return asked
    fitted = estimator._network.dtype
    if asked not in (None, fitted):
        raise ValueError(
            f"dtype={estimator.dtype!r} cannot go on with a model in {fitted}; set dtype to None,"
            " or fit anew with warm_start=False."
        )
    return fitted


def prepare(
    estimator: "BaseTrained", X: Any, y: Any, sample_weight: Any, targets: Targets, fresh: bool
) -> tuple[Sample, Target, np.dtype[Any]]:
    """Check the data and encode it."""
    X, y, dtype = estimator._data(X, y, fresh=fresh, weight=sample_weight)
    weight = sample_weights(sample_weight, y.shape[0], dtype)
    target = targets(y, dtype, fresh=fresh, weight=weight)
    return Sample(X, target.values, weights_of(weight, target, dtype)), target, dtype


def weights_of(weight: Array | None, target: Target, dtype: np.dtype[Any]) -> Array | None:
    """What each sample weighs, its class considered."""
    if target.class_weight is None:
        return weight
    both = target.class_weight if weight is None else weight * target.class_weight
    return sample_weights(both, len(both), dtype)


def settings_of(estimator: "BaseTrained", loss: LossTerm, batch_size: int, once: bool) -> Settings:
    """The choices of a training call, of `once` a single epoch."""
    rule, (limit, n_epochs) = estimator._rule(), estimator._limit()
    return Settings(
        loss=(*loss.identity, str(estimator.scoring)),
        rule=rule.row,
        attributes=rule.attributes,
        batch_size=batch_size,
        shuffle=bool(estimator.shuffle),
        rates=estimator._rates(),
        max_epochs=1 if once else n_epochs,
        limit=None if once else limit,
        tol=float(estimator.tol),
        patience=estimator.n_iter_no_change,
        verbose=bool(estimator.verbose),
        keep_steps=estimator.history == "step",
        n_threads=threads.resolve(estimator.n_threads),
        max_seconds=estimator.max_seconds,
    )


def looked_at(
    estimator: "BaseTrained",
    X: Any,
    y: Any,
    sample_weight: Any,
    dtype: np.dtype[Any] | None = None,
) -> tuple[Start, Sample]:
    """Samples, and the network with a copy of its weights, in `dtype`, if any is asked for; the
    estimator stays as it is. One that is not fitted gives what its training would start from.
    """
    if not estimator.__sklearn_is_fitted__():
        estimator = clone(estimator)
        if dtype is not None:
            estimator.set_params(dtype=dtype)
            if "precision" in estimator.get_params(deep=False):
                estimator.set_params(precision="full")
        check_parameters(estimator, incremental=False)
        sample, target, dtype = prepare(estimator, X, y, sample_weight, estimator._targets, True)
        seed = draw_seed(estimator.random_state)
        return estimator._begin(sample.X, target, dtype, seed), sample
    X, y, dtype = estimator._data(X, y, fresh=False, dtype=dtype)
    with locking.swapping:
        target = estimator._targets(y, dtype, fresh=False, complete=False)
        estimator._flat()  # what the user has put in place of the weights
        network = estimator._network.in_dtype(dtype)
    weight = weights_of(sample_weights(sample_weight, y.shape[0], dtype), target, dtype)
    return network.start(scipy.sparse.issparse(X)), Sample(X, target.values, weight)
