"""The life of a training call, from a user's arrays to the fitted attributes.

Parameters are checked, then the data; the starting weights are drawn or taken up; a driver of
`fastbp.train` trains a flat buffer; only then do attributes appear on the estimator. A call that
fails before training leaves the estimator as it was.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from fastbp.errors import NonFiniteError
from fastbp.estimators.preparation import (
    Target,
    Targets,
    check_parameters,
    penalty,
    prepare,
    settings_of,
    split,
    take_batch_size,
)
from fastbp.nn.initializers import draw
from fastbp.nn.network import Network, Parameters
from fastbp.nn.rows import rows
from fastbp.train import lbfgs, stochastic, threads
from fastbp.train.state import Problem, TrainingState, digest, draw_seed

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseMLP


# ------------------------------------------------------------------------------------------ locking

_in_training: set[tuple[int, int]] = set()
_guard = threading.Lock()

# Held while an estimator takes its new weights, and while a reader gathers what belongs together.
swapping = threading.RLock()


@contextmanager
def exclusively(estimator: "BaseMLP") -> Iterator[None]:
    """Hold the estimator for training; a RuntimeError if another thread does."""
    # The process is part of the key, since a child forked meanwhile inherits the set.
    key = (os.getpid(), id(estimator))
    with _guard:
        if key in _in_training:
            raise RuntimeError(
                f"This {type(estimator).__name__} is being trained by another thread; use a clone."
            )
        _in_training.add(key)
    try:
        yield
    finally:
        with _guard:
            _in_training.discard(key)


# ----------------------------------------------------------------------------------------- training

# Fitted attributes that only update rules leave; L-BFGS has none of them.
_STOCHASTIC_ATTRIBUTES = (
    "loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
)


def train(
    estimator: "BaseMLP",
    X: Any,
    y: Any,
    sample_weight: Any,
    targets: Targets,
    *,
    incremental: bool,
) -> None:
    """One call of `fit`, or with `incremental` of `partial_fit`."""
    check_parameters(estimator, incremental)
    fresh = not (estimator.__sklearn_is_fitted__() and (estimator.warm_start or incremental))
    with _features_restored(estimator):
        sample, target, network = prepare(estimator, X, y, sample_weight, targets, fresh)
        if fresh:
            state = TrainingState(draw_seed(estimator.random_state))
            flat = draw(network, estimator.weight_init, state.seed)
            plans: dict[bool, Any] = {}
        else:
            state = estimator._training_state
            flat = np.require(estimator._flat(), requirements="W")  # a copy if memory-mapped
            plans = estimator._plans if network == estimator._network else {}
        sparse = scipy.sparse.issparse(sample.X)
        if sparse not in plans:
            plans[sparse] = network.plan(sparse=sparse)
        problem = Problem(plans[sparse], flat, *sample, penalty(estimator))
        if estimator.solver == "lbfgs":
            fitted, error = _train_lbfgs(estimator, problem, state)
        else:
            fitted, error = _train_stochastic(
                estimator, problem, target, network, state, incremental
            )
    if not (estimator.warm_start or incremental):
        state.drop_arrays()
    with swapping:  # at once, for those who predict meanwhile
        if fresh or flat is not estimator._parameters.flat:
            estimator._parameters = Parameters(flat, plans[sparse].tensors)
            estimator._show_views(anew=True)
        estimator._network, estimator._plans, estimator._training_state = network, plans, state
    for name in _STOCHASTIC_ATTRIBUTES:
        estimator.__dict__.pop(name, None)
    estimator.__dict__.update(
        n_layers_=len(network.sizes),
        n_outputs_=network.n_outputs,
        n_params_=flat.size,
        out_activation_=rows("loss")[target.loss]["link"],
        **target.fitted,
        **fitted,
    )
    if error is not None:
        raise error


def _train_lbfgs(
    estimator: "BaseMLP", problem: Problem, state: TrainingState
) -> tuple[dict[str, Any], NonFiniteError | None]:
    """The fitted attributes that L-BFGS leaves, and the error it ended with."""
    state.drop_arrays()
    state.monitored, state.history = (), {}
    losses: list[float] = []
    error = None
    try:
        n_iterations, loss = lbfgs.minimise(
            problem,
            losses,
            max_iterations=estimator.max_iter,
            max_evaluations=estimator.max_fun,
            tol=estimator.tol,
            verbose=bool(estimator.verbose),
            n_threads=threads.resolve(estimator.n_threads),
        )
    except NonFiniteError as raised:
        n_iterations, loss, error = len(losses), losses[-1] if losses else np.nan, raised
    return {"n_iter_": n_iterations, "loss_": loss, "t_": 0, "history_": {"loss": losses}}, error


def _train_stochastic(
    estimator: "BaseMLP",
    problem: Problem,
    target: Target,
    network: Network,
    state: TrainingState,
    incremental: bool,
) -> tuple[dict[str, Any], NonFiniteError | None]:
    """The fitted attributes that an update rule leaves, and the error it ended with."""
    shown = problem.params
    # With early stopping the estimator shows the best weights; training goes on from the last ones,
    # unless the user has edited what was shown.
    resumed = state.last if state.last is not None and state.shown == digest(shown) else shown
    held_out = None
    if estimator.early_stopping:
        problem, held_out = split(
            estimator, problem._replace(params=resumed.copy()), target, shown, state
        )
    elif resumed is not shown:
        shown[...] = resumed
    state.last = None

    n_samples = problem.X.shape[0]
    batch_size = take_batch_size(estimator, n_samples)
    if target.sorted and not estimator.shuffle and batch_size < n_samples:
        warnings.warn(
            "The samples are sorted by class and shuffle=False: most batches hold a single class,"
            " and training will hardly converge. Shuffle them.",
            UserWarning,
            stacklevel=5,
        )
    settings = settings_of(estimator, network, batch_size, incremental)
    first_epoch, error = state.epoch, None
    try:
        stochastic.train(problem, settings, state, held_out)
    except NonFiniteError as raised:
        error = raised
    if held_out is not None and estimator.warm_start:
        state.last, state.shown = problem.params, digest(shown)
    losses = state.history.setdefault("loss", [])
    return {
        "n_iter_": state.epoch - first_epoch,
        "t_": state.samples,
        "loss_": losses[-1] if losses else np.nan,
        "loss_curve_": losses,
        "best_loss_": state.best if held_out is None else None,
        "validation_scores_": state.history.get("validation_score")
        if held_out is not None
        else None,
        "best_validation_score_": state.best if held_out is not None else None,
        "history_": state.history,
    }, error


@contextmanager
def _features_restored(estimator: "BaseMLP") -> Iterator[None]:
    """Where training fails, give the estimator its names and number of features back."""
    names = ("n_features_in_", "feature_names_in_")
    before = {name: estimator.__dict__[name] for name in names if name in estimator.__dict__}
    try:
        yield
    except BaseException:
        for name in names:
            estimator.__dict__.pop(name, None)
        estimator.__dict__.update(before)
        raise
