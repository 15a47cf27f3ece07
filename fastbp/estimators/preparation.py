"""What goes into a training call: parameters, samples, targets and the network, checked and joined.

Reads estimators and changes none, but for the names and number of features, which scikit-learn's
validation notes on them.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse
from sklearn.base import clone

from fastbp import _core
from fastbp.estimators import inputs
from fastbp.nn.initializers import draw
from fastbp.nn.network import Array, Network
from fastbp.nn.rows import check_attributes, rows
from fastbp.train import locking, threads
from fastbp.train.options import check_options
from fastbp.train.rates import Adaptive, InverseOfSamples, Steady
from fastbp.train.reading import sample_weights
from fastbp.train.state import (
    Problem,
    Settings,
    TrainingState,
    Validation,
    draw_seed,
)
from fastbp.train.validation import LossTerm, hold_out, mean_loss

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseMLP


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
    fitted : dict
        Attributes that the estimator gets once training is over.
    """

    values: Array
    n_outputs: int
    loss: str
    score: Score
    stratify: bool
    sorted: bool
    fitted: dict[str, Any]


class Targets(Protocol):
    """`BaseMLP._targets`, or what is made of it by fixing arguments."""

    def __call__(self, y: Any, dtype: np.dtype[Any], *, fresh: bool) -> Target: ...


class Sample(NamedTuple):
    """Samples as the engine takes them."""

    X: Any
    y: Array
    weight: Array | None


def check_parameters(estimator: "BaseMLP", incremental: bool) -> None:
    check_options(type(estimator).__name__, vars(estimator))
    estimator._loss_attributes()
    _activation(estimator)
    if incremental and estimator.early_stopping:
        raise ValueError(
            "partial_fit holds no samples out: early_stopping must be False; got True."
        )


def _activation(estimator: "BaseMLP") -> tuple[str, dict[str, float]]:
    name, given = estimator.activation, estimator.activation_params
    row = rows("activation")[name]
    return name, check_attributes(row, given, argument="activation_params", user_name=name)


def _hidden(estimator: "BaseMLP") -> tuple[int, ...]:
    sizes = estimator.hidden_layer_sizes
    return tuple(int(n) for n in sizes) if isinstance(sizes, Iterable) else (int(sizes),)


def prepare(
    estimator: "BaseMLP", X: Any, y: Any, sample_weight: Any, targets: Targets, fresh: bool
) -> tuple[Sample, Target, Network]:
    """Check the data and encode it, and describe the network that fits it."""
    dtype = None if estimator.dtype is None else np.dtype(estimator.dtype)
    if not fresh:
        fitted = estimator._network.dtype
        if dtype not in (None, fitted):
            raise ValueError(
                f"dtype={estimator.dtype!r} cannot go on with a model in {fitted}; set dtype to"
                " None, or fit anew with warm_start=False."
            )
        dtype = fitted
    X, y = inputs.training_data(
        estimator, X, y, dtype=dtype, reset=fresh, y_numeric=estimator._y_numeric
    )
    target = targets(y, X.dtype, fresh=fresh)
    network = Network(
        n_inputs=X.shape[1],
        n_outputs=target.n_outputs,
        hidden=_hidden(estimator),
        activation=_activation(estimator),
        loss=(target.loss, estimator._loss_attributes()),
        dtype=X.dtype,
    )
    if not fresh and network.sizes != estimator._network.sizes:
        raise ValueError(
            f"hidden_layer_sizes and the data ask for layers of {network.sizes} units, which cannot"
            f" go on with the weights of {estimator._network.sizes}; fit anew with"
            " warm_start=False."
        )
    weight = sample_weights(sample_weight, X.shape[0], X.dtype)
    return Sample(X, target.values, weight), target, network


def split(
    estimator: "BaseMLP", problem: Problem, target: Target, loss: LossTerm, state: TrainingState
) -> tuple[Problem, Validation]:
    """Set samples aside for early stopping."""
    stratify = target.values if target.stratify else None
    training, held = hold_out(problem, estimator.validation_fraction, state.seed, stratify=stratify)
    evaluate = partial(_evaluated, loss, held, target.score)
    return training, Validation(held.X, evaluate, scored=True, stops=True)


def _evaluated(loss: LossTerm, held: Problem, score: Score, raw: Array) -> tuple[float, float]:
    """The loss and the score of raw outputs for samples held out."""
    mean = mean_loss((loss,), raw, held.y, held.sample_weight)
    return mean, score(_core.link(loss.row, raw), held.y, held.sample_weight)


def penalty(estimator: "BaseMLP") -> float:
    """`alpha` as it stands in the loss; AdamW's is a decay of the weights instead."""
    return 0.0 if estimator.solver == "adamw" else float(estimator.alpha)


def settings_of(
    estimator: "BaseMLP", network: Network, batch_size: int, incremental: bool
) -> Settings:
    sgd = estimator.solver == "sgd"
    rule = estimator.solver
    if sgd and estimator.momentum > 0:
        rule = "nesterov" if estimator.nesterovs_momentum else "momentum"
    # A rule's attributes have the names of the estimator's parameters, with one exception.
    names = {attr["name"] for attr in rows("rule")[rule]["attrs"]}
    source = {name: "alpha" if name == "weight_decay" else name for name in names}
    return Settings(
        loss=LossTerm(*network.loss).identity,
        rule=rule,
        attributes={name: float(getattr(estimator, option)) for name, option in source.items()},
        batch_size=batch_size,
        shuffle=bool(estimator.shuffle),
        rates=_rates(estimator),
        max_epochs=1 if incremental else int(estimator.max_iter),
        limit=None if incremental else "max_iter",
        tol=float(estimator.tol),
        patience=estimator.n_iter_no_change,
        verbose=bool(estimator.verbose),
        keep_steps=estimator.history == "step",
        n_threads=threads.resolve(estimator.n_threads),
    )


def _rates(estimator: "BaseMLP") -> Steady:
    rate = float(estimator.learning_rate_init)
    if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
        return InverseOfSamples(rate, float(estimator.power_t))
    if estimator.solver == "sgd" and estimator.learning_rate == "adaptive":
        return Adaptive(rate)
    return Steady(rate)


def gradient_problem(
    estimator: "BaseMLP", X: Any, y: Any, sample_weight: Any, dtype: np.dtype[Any]
) -> Problem:
    """Samples with a plan and a copy of the weights, in `dtype`; the estimator stays as it is."""
    if not estimator.__sklearn_is_fitted__():
        estimator = clone(estimator).set_params(dtype=dtype)
        check_parameters(estimator, incremental=False)
        sample, _, network = prepare(estimator, X, y, sample_weight, estimator._targets, True)
        # First, since it refuses sizes that cannot be.
        plan = network.plan(sparse=scipy.sparse.issparse(sample.X))
        flat = draw(network, estimator.weight_init, draw_seed(estimator.random_state))
    else:
        X, y = inputs.training_data(
            estimator, X, y, dtype=dtype, reset=False, y_numeric=estimator._y_numeric
        )
        weight = sample_weights(sample_weight, X.shape[0], dtype)
        with locking.swapping:
            target = estimator._targets(y, dtype, fresh=False, complete=False)
            network = replace(estimator._network, dtype=dtype)
            flat = estimator._flat().astype(dtype)
        sample = Sample(X, target.values, weight)
        plan = network.plan(sparse=scipy.sparse.issparse(sample.X))
    return Problem(plan, flat, *sample, penalty(estimator))
