"""The life of a training call, from a user's arrays to the fitted attributes.

Parameters are checked, then the data; the starting weights are drawn or taken up; a driver of
`fastbp.train` trains a flat buffer; only then do attributes appear on the estimator. A call that
fails before training leaves the estimator as it was.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from fastbp.errors import NonFiniteError
from fastbp.estimators.built import BuiltNetwork, Start
from fastbp.estimators.calibration import temperature
from fastbp.estimators.callbacks import Tasks
from fastbp.estimators.holding import NOTHING, Given, Passed, check_given, held_out
from fastbp.estimators.losses import likelihood
from fastbp.estimators.preparation import (
    Sample,
    Target,
    Targets,
    check_parameters,
    prepare,
    settings_of,
)
from fastbp.nn import locking
from fastbp.nn.parameter import Array
from fastbp.nn.rows import rows
from fastbp.train import lbfgs, stochastic, threads
from fastbp.train.notices import warn
from fastbp.train.options import batch_size_of
from fastbp.train.state import Problem, TrainingState, Validation, draw_seed
from fastbp.train.validation import LossTerm

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseTrained


# Fitted attributes that are not there after each training; L-BFGS leaves none of them.
_STOCHASTIC_ATTRIBUTES = (
    "loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
    "temperature_",
)


def train(
    estimator: "BaseTrained",
    X: Any,
    y: Any,
    sample_weight: Any,
    targets: Targets,
    *,
    incremental: bool,
    given: Given = NOTHING,
) -> None:
    """One call of `fit`, or with `incremental` of `partial_fit`.

    Whatever ends training early, a model that was trained in place tells of its whole epochs; a
    fresh one replaces the estimator's old model only if it is complete, was interrupted by Ctrl-C
    or met a number that is not finite.
    """
    check_parameters(estimator, incremental)
    check_given(estimator, given)
    fresh = not (estimator.__sklearn_is_fitted__() and (estimator.warm_start or incremental))
    with _features_restored(estimator):
        sample, target, dtype = prepare(estimator, X, y, sample_weight, targets, fresh)
        if fresh:
            state = TrainingState(draw_seed(estimator.random_state))
            start = estimator._begin(sample.X, target, dtype, state.seed)
        else:
            state = estimator._training_state
            start = estimator._go_on(sample.X, target)
        with locking.exclusively(start.network.home, f"{type(estimator).__name__}'s module_"):
            problem = _problem(start, sample, estimator._rule().alpha)
            tasks, passed, n_tasks = None, Passed(X, y), estimator._limit()[1]
            if not incremental and getattr(estimator, "_skl_callbacks", None):
                tasks = Tasks(estimator, start, target, passed, sample_weight, n_tasks)
            if estimator._by_lbfgs:
                fitted, error = _train_lbfgs(estimator, problem, state, tasks)
            else:
                held = held_out(estimator, start, problem, target, state, passed, given)
                fitted, error = _train_stochastic(
                    estimator, *held, target, start.network, state, incremental, tasks
                )
                fitted |= _calibrated(estimator, problem, held[1], target.loss)
            if tasks is not None and error is None:
                tasks.finish(problem.params)
        if fresh and not (error is None or isinstance(error, NonFiniteError)):
            raise error
    if not (estimator.warm_start or incremental):
        state.drop_arrays()
    with locking.swapping:  # at once, for those who predict meanwhile
        estimator._show(start)
        estimator._network, estimator._plans, estimator._training_state = *start[:2], state
        for name in _STOCHASTIC_ATTRIBUTES:
            estimator.__dict__.pop(name, None)
        estimator.__dict__.update(
            n_outputs_=start.network.n_outputs,
            n_params_=start.flat.size,
            out_activation_=rows("loss")[target.loss]["link"],
            **target.fitted,
            **fitted,
        )
    if error is not None:
        raise error


def _problem(start: Start, sample: Sample, alpha: float) -> Problem:
    plan = start.plans[scipy.sparse.issparse(sample.X)]
    return Problem(plan, start.flat, start.network.samples(sample.X), *sample[1:], alpha)


def _train_lbfgs(
    estimator: "BaseTrained", problem: Problem, state: TrainingState, tasks: Tasks | None
) -> tuple[dict[str, Any], BaseException | None]:
    """The fitted attributes that L-BFGS leaves, and the error it ended with."""
    lbfgs.refuse_what_varies(problem.plan)
    n_threads = threads.resolve(estimator.n_threads)
    state.drop_arrays()
    state.monitored, state.history = (), {}
    losses: list[float] = []
    error = None
    try:
        n_iterations, loss = lbfgs.minimise(
            problem,
            losses,
            max_iterations=estimator._limit()[1],
            max_evaluations=estimator._most_evaluations,
            tol=estimator.tol,
            verbose=bool(estimator.verbose),
            n_threads=n_threads,
            onlooker=tasks,
        )
    except BaseException as raised:
        n_iterations, loss, error = len(losses), losses[-1] if losses else np.nan, raised
        _tell_of_small_weights(raised, problem, problem.n_samples)
    history = _arrays_of({"loss": losses})
    return {"n_iter_": n_iterations, "loss_": loss, "t_": 0, "history_": history}, error


def _train_stochastic(
    estimator: "BaseTrained",
    problem: Problem,
    held_out: Validation | None,
    target: Target,
    network: BuiltNetwork,
    state: TrainingState,
    incremental: bool,
    tasks: Tasks | None,
) -> tuple[dict[str, Any], BaseException | None]:
    """The fitted attributes that an update rule leaves, and the error it ended with."""
    term = LossTerm(*network.loss)
    batch_size = batch_size_of(estimator.batch_size, problem.n_samples)
    settings = settings_of(estimator, term, batch_size, incremental)
    settings, plan = estimator._adapted(settings, network, problem.n_samples)
    if plan is not None:
        problem = problem._replace(plan=plan)
    step_size = min(settings.batch_size * settings.accumulate, problem.n_samples)
    _tell_if_sorted(estimator, target, problem.n_samples, step_size)
    first_epoch, error = state.epoch, None
    try:
        stochastic.train(problem, settings, state, held_out, tasks)
    except BaseException as raised:
        error = raised
        _tell_of_small_weights(raised, problem, step_size)
    return _logged(state, state.epoch - first_epoch, held_out), error


def _calibrated(
    estimator: "BaseTrained", problem: Problem, held_out: Validation | None, loss: str
) -> dict[str, Any]:
    """The temperature of a classifier that wants one, as a fitted attribute."""
    if held_out is None or getattr(estimator, "calibration", None) is None:
        return {}
    raw = problem.plan.predict(
        problem.params, held_out.X, raw=True, n_threads=threads.resolve(estimator.n_threads)
    )
    if not np.isfinite(raw).all():  # the error that training ended with tells of it
        return {}
    found = temperature(likelihood(loss), raw, held_out.y, held_out.sample_weight)
    return {"temperature_": found}


def _tell_if_sorted(
    estimator: "BaseTrained", target: Target, n_samples: int, step_size: int
) -> None:
    if target.sorted and not estimator.shuffle and step_size < n_samples:
        warn(
            "The samples are sorted by class and shuffle=False: most batches hold a single class,"
            " and training will hardly converge. Shuffle them."
        )


def _tell_of_small_weights(error: BaseException, problem: Problem, step_size: int) -> None:
    """Say so where not the learning rate or the data but the sample weights blew up the penalty.

    A step's penalty is alpha / 2 times the squared weights over the sum of its sample weights.
    """
    if problem.sample_weight is None or not isinstance(error, NonFiniteError):
        return
    total = step_size * float(problem.sample_weight.mean(dtype=np.float64))
    if total < problem.alpha:
        error.args = (
            f"{str(error).rstrip('.')}. The penalty may outweigh the loss, since it is divided by"
            f" the sum of a batch's sample weights, here {total:.1g}: scale sample_weight up, or"
            f" lower alpha={problem.alpha:g}.",
        )


def _logged(state: TrainingState, n_epochs: int, held_out: Validation | None) -> dict[str, Any]:
    """The fitted attributes that tell how training by an update rule went."""
    losses = state.history.setdefault("loss", [])
    scores = state.history.get("validation_score")
    stops = held_out is not None and held_out.stops
    return {
        "n_iter_": n_epochs,
        "t_": state.samples,
        "loss_": losses[-1] if losses else np.nan,
        "loss_curve_": losses,
        "best_loss_": None if stops else state.best,
        "validation_scores_": None if held_out is None else scores,
        "best_validation_score_": state.best if stops else None,
        "history_": _arrays_of(state.history),
    }


def _arrays_of(history: Mapping[str, list[float]]) -> dict[str, Array]:
    return {name: np.array(values) for name, values in history.items()}


@contextmanager
def _features_restored(estimator: "BaseTrained") -> Iterator[None]:
    """Where training fails, give the estimator its names and number of features back."""
    names = ("n_features_in_", "feature_names_in_", "_columns")
    before = {name: estimator.__dict__[name] for name in names if name in estimator.__dict__}
    try:
        yield
    except BaseException:
        for name in names:
            estimator.__dict__.pop(name, None)
        estimator.__dict__.update(before)
        raise
