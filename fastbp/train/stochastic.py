"""Training by update rules: whole epochs in C, scikit-learn's rules for stopping between them.

Training can only stop, or lower its rate, where `stale` (epochs in a row without improvement) has
exceeded the patience, and `stale` grows by one an epoch at most. So that many epochs run in one
call into the engine, and the rules are then applied to their losses in order: the same decisions as
after every epoch, without Python in between. With early stopping or verbose, epochs run one by one.
"""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp import _core
from fastbp.nn.network import Array
from fastbp.nn.rows import rows
from fastbp.train.notices import warn, warn_of_interruption
from fastbp.train.state import Problem, Settings, TrainingState, Validation

# Steps of a call into the engine, whose losses may be kept: 8 MB at most.
_MOST_STEPS = 2**20

# scikit-learn's: an adaptive rate is divided by 5 until it is this small.
_SMALLEST_RATE, _RATE_DIVISOR = 1e-6, 5.0


def train(
    problem: Problem,
    settings: Settings,
    state: TrainingState,
    validation: Validation | None = None,
) -> None:
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

    Warns
    -----
    UserWarning
        Ctrl-C ended training.
    ConvergenceWarning
        `max_epochs` were made without convergence.

    Raises
    ------
    NonFiniteError
        A loss or weight became infinite or NaN. After this and any other exception
        `problem.params` are those of the last whole epoch, the state tells of the whole epochs, and
        the optimiser will start from zero.
    """
    training = _training(problem, settings, state, validation)
    progress = _Progress(settings, state, problem.X.shape[0])
    stopped = interrupted = False
    try:
        while progress.done < settings.max_epochs and not (stopped or interrupted):
            size = _block(settings, state, progress, validation)
            try:
                interrupted = progress.run(training, size)
            finally:
                stopped = _apply_rules(problem, settings, state, validation, progress.losses)
    except BaseException as error:
        # The engine gives back the weights of the last whole epoch, but not the optimiser's
        # vectors.
        state.drop_vectors()
        if not isinstance(error, KeyboardInterrupt):
            raise
        interrupted = True  # it came while Python, not the engine, was at work
    if interrupted:
        state.drop_vectors()
        if validation is None:
            warn_of_interruption(progress.done, "epoch", shown="last")
        else:  # without a score, no epoch's weights have come to be shown
            scored = 0 if state.best == -np.inf else progress.done
            warn_of_interruption(scored, "epoch", shown="one with the best score")
    elif not (stopped or settings.incremental):
        warn(
            f"Training has not converged within max_iter={settings.max_epochs} epochs. A larger"
            " max_iter or learning rate, or standardised features, may help.",
            ConvergenceWarning,
        )


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


def _training(
    problem: Problem, settings: Settings, state: TrainingState, validation: Validation | None
) -> _core.Training:
    return _core.Training(
        problem.plan,
        problem.params,
        problem.X,
        problem.y,
        rule=settings.rule,
        attrs=settings.attributes,
        states=_prepare(problem, settings, state, validation),
        alpha=problem.alpha,
        batch_size=settings.batch_size,
        sample_weight=problem.sample_weight,
        shuffle=settings.shuffle,
        seed=state.seed,
        n_threads=settings.n_threads,
    )


class _Progress:
    """Runs blocks of epochs, and books the whole ones in the state, however a block ends."""

    def __init__(self, settings: Settings, state: TrainingState, n_samples: int) -> None:
        self._settings, self._state, self._n_samples = settings, state, n_samples
        self.n_steps = -(-n_samples // settings.batch_size)
        self.done = 0
        self.losses: list[float] = []  # of the whole epochs of the last block
        self._all_losses = state.history.setdefault("loss", [])
        self._all_rates = state.history.setdefault("learning_rate", [])

    def run(self, training: _core.Training, size: int) -> bool:
        """Run the next `size` epochs; tell whether Ctrl-C ended them."""
        state = self._state
        self.losses = []
        rates = _rates(self._settings, state, self._n_samples, size)
        steps = np.empty(size * self.n_steps) if self._settings.keep_steps else None
        before = training.progress
        try:
            training.run(rates, first_epoch=state.epoch, step=state.step, step_losses=steps)
        finally:
            # An error that came before the engine ran leaves the progress of the block before.
            progress = training.progress
            if progress is not before:
                self._book(progress["losses"].tolist(), rates, steps)
                state.step = progress["step"]
        return bool(progress["interrupted"])

    def _book(self, losses: list[float], rates: Array, steps: Array | None) -> None:
        state, n_epochs = self._state, len(losses)
        self.losses = losses
        state.epoch += n_epochs
        state.samples += n_epochs * self._n_samples
        self._all_losses.extend(losses)
        self._all_rates.extend(rates[:n_epochs].tolist())
        if steps is not None:
            kept = steps[: n_epochs * self.n_steps].tolist()
            state.history.setdefault("step_loss", []).extend(kept)
        for loss in losses:
            self.done += 1
            if self._settings.verbose:
                print(f"Iteration {self.done}, loss = {loss:.8f}")


def _block(
    settings: Settings, state: TrainingState, progress: _Progress, validation: Validation | None
) -> int:
    """Epochs that can run before training might stop: 1 at least."""
    if settings.verbose or validation is not None:
        return 1
    until_judged = max(1.0, settings.patience - state.stale + 1)
    left = settings.max_epochs - progress.done
    return int(min(left, until_judged, max(1, _MOST_STEPS // progress.n_steps)))


def _rates(settings: Settings, state: TrainingState, n_samples: int, size: int) -> Array:
    """The learning rates of the next `size` epochs, by scikit-learn's schedules."""
    if settings.schedule == "invscaling":
        seen = [state.samples + i * n_samples for i in range(size)]
        return np.array([settings.rate / (t + 1) ** settings.power_t for t in seen])
    return np.full(size, state.rate)


def _apply_rules(
    problem: Problem,
    settings: Settings,
    state: TrainingState,
    validation: Validation | None,
    losses: list[float],
) -> bool:
    """Whether training stops after epochs with these losses."""
    stopped = False
    for loss in losses:
        _judge(problem, settings, state, validation, loss)
        if state.stale > settings.patience:
            stopped = _lose_patience(settings, state, validation)
            if not stopped:
                state.stale = 0
    return stopped


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
    # An epoch whose scoring is broken off has NaN in their place.
    validation_losses = state.history.setdefault("validation_loss", [])
    validation_scores = state.history.setdefault("validation_score", [])
    validation_losses.append(np.nan)
    validation_scores.append(np.nan)
    name, attributes = settings.loss
    raw = problem.plan.predict(problem.params, validation.X, raw=True, n_threads=settings.n_threads)
    values, _ = _core.loss(name, raw, validation.y, attributes)
    score = validation.score(_core.link(name, raw), validation.y, validation.sample_weight)
    mean = float(np.average(values, weights=validation.sample_weight))
    validation_losses[-1], validation_scores[-1] = mean, score
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
