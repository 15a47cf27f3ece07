"""Training by update rules: whole epochs in C, scikit-learn's rules for stopping between them.

Training can only stop, or lower its rate, where `stale` (epochs in a row without improvement) has
exceeded the patience, and `stale` grows by one an epoch at most. So that many epochs run in one
call into the engine, and the rules are then applied to their losses in order: the same decisions as
after every epoch, without Python in between. With early stopping or verbose, epochs run one by one.
"""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp import _core
from fastbp.errors import NonFiniteError
from fastbp.nn.network import Array
from fastbp.nn.rows import rows
from fastbp.train.state import Problem, Settings, TrainingState, Validation

# The losses of all steps of a call into the engine are kept: 8 MB at most.
_MOST_STEPS = 2**20

# scikit-learn's: an adaptive rate is divided by 5 until it is this small.
_SMALLEST_RATE, _RATE_DIVISOR = 1e-6, 5.0


def train(
    problem: Problem,
    settings: Settings,
    state: TrainingState,
    validation: Validation | None = None,
) -> int:
    """Train `problem.params` in place until the rules stop it.

    Parameters
    ----------
    problem : Problem
        The training samples and the weights to train.
    settings : Settings
        The choices of this call.
    state : TrainingState
        What earlier calls left; brought up to date.
    validation : Validation or None
        With early stopping: decides when to stop; its `best` receives the best epoch's weights.

    Returns
    -------
    n_epochs : int
        Whole epochs made. After Ctrl-C there is a UserWarning, after `max_epochs` without
        convergence a ConvergenceWarning.

    Raises
    ------
    NonFiniteError
        A loss or weight became infinite or NaN. `problem.params` are those of the last whole epoch,
        the state tells of the whole epochs, and the optimiser will start from zero.
    """
    vectors = _prepare(problem, settings, state, validation)
    training = _core.Training(
        problem.plan,
        problem.params,
        problem.X,
        problem.y,
        rule=settings.rule,
        attrs=settings.attributes,
        states=vectors,
        alpha=problem.alpha,
        batch_size=settings.batch_size,
        sample_weight=problem.sample_weight,
        shuffle=settings.shuffle,
        seed=state.seed,
        n_threads=settings.n_threads,
    )
    n_samples = problem.X.shape[0]
    n_steps = -(-n_samples // settings.batch_size)
    one_by_one = settings.verbose or validation is not None
    logged_losses = state.history.setdefault("loss", [])
    logged_rates = state.history.setdefault("learning_rate", [])
    done, stopped, interrupted = 0, False, False
    try:
        while done < settings.max_epochs and not (stopped or interrupted):
            size = 1
            if not one_by_one:
                size = _block(settings, state, settings.max_epochs - done, n_steps)
            rates = _rates(settings, state, n_samples, size)
            steps = np.empty(size * n_steps)
            losses, interrupted, error = _run(training, rates, state, settings, n_samples, steps)
            for loss, rate in zip(losses, rates.tolist(), strict=False):
                done += 1
                state.epoch += 1
                state.samples += n_samples
                logged_losses.append(loss)
                logged_rates.append(rate)
                if settings.verbose:
                    print(f"Iteration {done}, loss = {loss:.8f}")
                _judge(problem, settings, state, validation, loss)
                if state.stale > settings.patience:
                    stopped = _lose_patience(settings, state, validation)
                    if not stopped:
                        state.stale = 0
            if settings.keep_steps:
                state.history.setdefault("step_loss", []).extend(
                    steps[: len(losses) * n_steps].tolist()
                )
            if error is not None:
                raise error
    except KeyboardInterrupt:  # it came while Python, not the engine, was at work
        interrupted = True
    except BaseException:
        state.drop_vectors()
        raise
    if interrupted:
        # The engine gives back the weights of the last whole epoch, but not the optimiser's
        # vectors.
        state.drop_vectors()
        warnings.warn(
            f"Training was interrupted after {done} whole epochs; the model is that of the last.",
            UserWarning,
            stacklevel=6,
        )
    elif not (stopped or settings.incremental):
        warnings.warn(
            f"Training has not converged within max_iter={settings.max_epochs} epochs. A larger"
            " max_iter or learning rate, or standardised features, may help.",
            ConvergenceWarning,
            stacklevel=6,
        )
    return done


def _prepare(
    problem: Problem, settings: Settings, state: TrainingState, validation: Validation | None
) -> Array:
    """Restart what of the state does not fit this call's settings; give the optimiser's vectors."""
    origin = (settings.schedule, settings.rate)
    if state.rate_origin != origin:
        state.rate_origin, state.rate = origin, settings.rate

    name, attributes = settings.loss
    monitored = (validation is not None, name, tuple(sorted(attributes.items())))
    if state.monitored != monitored:
        state.monitored, state.stale = monitored, 0
        state.best = np.inf if validation is None else -np.inf

    if state.rule != settings.rule or state.vectors is None:
        n_states = rows("rule")[settings.rule]["n_states"]
        state.rule, state.step = settings.rule, 0
        state.vectors = np.zeros((n_states, problem.plan.n_params), dtype=problem.params.dtype)
    # A copy, should an estimator have been loaded memory-mapped.
    state.vectors = np.require(state.vectors, requirements="W")
    return state.vectors


def _block(settings: Settings, state: TrainingState, left: int, n_steps: int) -> int:
    """Epochs that can run before training might stop: 1 at least."""
    until_judged = max(1.0, settings.patience - state.stale + 1)
    return int(min(left, until_judged, max(1, _MOST_STEPS // n_steps)))


def _rates(settings: Settings, state: TrainingState, n_samples: int, size: int) -> Array:
    """The learning rates of the next `size` epochs, by scikit-learn's schedules."""
    if settings.schedule == "invscaling":
        seen = [state.samples + i * n_samples for i in range(size)]
        return np.array([settings.rate / (t + 1) ** settings.power_t for t in seen])
    return np.full(size, state.rate)


def _run(
    training: Any,
    rates: Array,
    state: TrainingState,
    settings: Settings,
    n_samples: int,
    steps: Array,
) -> tuple[list[float], bool, NonFiniteError | None]:
    """One call into the engine: losses of its whole epochs, whether Ctrl-C came, what failed."""
    try:
        result = training.run(rates, first_epoch=state.epoch, step=state.step, step_losses=steps)
    except NonFiniteError as error:
        # The error tells how many epochs were whole; their losses follow from those of the steps.
        whole = error.epoch - state.epoch
        sizes = np.full(steps.size // rates.size, settings.batch_size)
        sizes[-1] = n_samples - settings.batch_size * (sizes.size - 1)
        made = steps.reshape(rates.size, -1)[:whole]
        # cumsum adds in order, as the engine does, and so gives the same bits.
        return (np.cumsum(made * sizes, axis=1)[:, -1] / n_samples).tolist(), False, error
    state.step = result["step"]
    return result["losses"].tolist(), result["interrupted"], None


def _judge(
    problem: Problem,
    settings: Settings,
    state: TrainingState,
    validation: Validation | None,
    loss: float,
) -> None:
    """Update `best` and `stale` by the epoch's loss, or by its score on held-out samples."""
    if validation is None:
        state.stale = state.stale + 1 if loss > state.best - settings.tol else 0
        state.best = min(state.best, loss)
        return
    name, attributes = settings.loss
    raw = problem.plan.predict(problem.params, validation.X, raw=True, n_threads=settings.n_threads)
    values, _ = _core.loss(name, raw, validation.y, attributes)
    score = validation.score(_core.link(name, raw), validation.y, validation.sample_weight)
    mean = float(np.average(values, weights=validation.sample_weight))
    state.history.setdefault("validation_loss", []).append(mean)
    state.history.setdefault("validation_score", []).append(score)
    if settings.verbose:
        print(f"Validation score: {score:f}")
    state.stale = state.stale + 1 if score < state.best + settings.tol else 0
    if score > state.best:
        state.best = score
        validation.best[...] = problem.params


def _lose_patience(settings: Settings, state: TrainingState, validation: Validation | None) -> bool:
    """Stop (True), or lower an adaptive rate and go on (False); say so if verbose."""
    lower = settings.schedule == "adaptive" and state.rate > _SMALLEST_RATE
    if lower:
        state.rate /= _RATE_DIVISOR
    if settings.verbose:
        what = "Training loss" if validation is None else "Validation score"
        then = "Stopping."
        if lower:
            then = f"Setting learning rate to {state.rate:f}"
        elif settings.schedule == "adaptive":
            then = "Learning rate too small. Stopping."
        print(
            f"{what} did not improve more than tol={settings.tol:f} for {settings.patience:d}"
            f" consecutive epochs. {then}"
        )
    return not lower
