"""Training by update rules: whole epochs in C, scikit-learn's rules for stopping between them.

Training can only stop, or lower its rate, where `stale` (epochs in a row without improvement) has
exceeded the patience, and `stale` grows by one an epoch at most. So that many epochs run in one
call into the engine, and the rules are then applied to their losses in order: the same decisions as
after every epoch, without Python in between. Where samples are held out, rates follow losses or
losses are printed, epochs run one by one.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp import _core
from fastbp.nn.parameter import Array
from fastbp.nn.rows import rows
from fastbp.train.notices import warn, warn_of_interruption
from fastbp.train.rates import Adaptive
from fastbp.train.state import Onlooker, Problem, Settings, TrainingState, Validation, digest

# Steps of a call into the engine, whose losses may be kept: 8 MB at most.
_MOST_STEPS = 2**20


def train(
    problem: Problem,
    settings: Settings,
    state: TrainingState,
    validation: Validation | None = None,
    onlooker: Onlooker | None = None,
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
        Samples held out. Where it stops training, `problem.params` are then the weights of the best
        epoch, and those of the last are the state's.
    onlooker : Onlooker or None
        Whoever is told of each epoch.

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
        `problem.params` are those of the last whole epoch, or of the best, the state tells of the
        whole epochs, and the optimiser will start from zero.
    """
    shown = problem.params
    # Training goes on from the last weights, unless what was shown has been edited since.
    last = state.last
    resumed = shown if last is None or state.shown != digest(shown) else last
    state.last = None
    if validation is None or not validation.stops:
        if resumed is not shown:
            shown[...] = resumed
        _Call(problem, settings, state, validation, onlooker, best=None).run()
        return
    own = problem._replace(params=resumed.copy())
    call = _Call(own, settings, state, validation, onlooker, best=shown)
    try:
        call.run()
    finally:
        state.last, state.shown = call.problem.params, digest(shown)


class _Call:
    """A call of training: blocks of epochs, the books on them, the rules applied to them.

    `best`, where there is one, receives the weights of the epoch with the best score.
    """

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        state: TrainingState,
        validation: Validation | None,
        onlooker: Onlooker | None,
        *,
        best: Array | None,
    ) -> None:
        self.problem, self._settings, self._state = problem, settings, state
        self._validation, self._onlooker, self._best = validation, onlooker, best
        self._began = perf_counter()
        self._n_samples = problem.n_samples
        self._n_batches = -(-self._n_samples // (settings.batch_size * settings.accumulate))
        self._done, self._skipped_before = 0, state.scaling[2]
        self._idle = False  # no step of the last block has changed anything
        self._losses: list[float] = []  # of the whole epochs of the last block
        for name in ("loss", "learning_rate", "gradient_norm", "seconds"):
            state.history.setdefault(name, [])
        self._training = self._begin()

    def _begin(self) -> _core.Training:
        """Restart what of the state does not fit this call's settings; set up the engine."""
        problem, settings, state = self.problem, self._settings, self._state
        settings.rates.begin(state)
        monitored = (self._best is not None, *settings.loss)
        if state.monitored != monitored:
            state.monitored, state.stale = monitored, 0
            state.best = np.inf if self._best is None else -np.inf
        if state.rule != settings.rule or state.vectors is None:
            n_states = rows("rule")[settings.rule]["n_states"]
            state.rule, state.step = settings.rule, 0
            state.vectors = np.zeros((n_states, problem.plan.n_params), dtype=problem.params.dtype)
        # A copy, should an estimator have been loaded memory-mapped.
        state.vectors = np.require(state.vectors, requirements="W")
        return _core.Training(
            problem.plan,
            problem.params,
            problem.X,
            problem.y,
            rule=settings.rule,
            attrs=settings.attributes,
            states=state.vectors,
            alpha=problem.alpha,
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            clip_norm=settings.clip_norm,
            clip_value=settings.clip_value,
            rate_factors=settings.rate_factors,
            decay_factors=settings.decay_factors,
            sample_weight=problem.sample_weight,
            shuffle=settings.shuffle,
            seed=state.seed,
            n_threads=settings.n_threads,
        )

    def run(self) -> None:
        """Blocks of epochs, until the rules, an error or Ctrl-C end them."""
        settings, state = self._settings, self._state
        stopped = interrupted = False
        try:
            while self._done < settings.max_epochs and not (stopped or interrupted):
                if self._onlooker is not None:
                    self._onlooker.begin(self.problem.params)
                try:
                    interrupted = self._run_block()
                finally:
                    stopped = self._apply_rules()
                stopped |= self._is_to_stop(interrupted)
        except BaseException as error:
            # The engine gives back the weights of the last whole epoch, but not the optimiser's
            # vectors.
            state.drop_vectors()
            if not isinstance(error, KeyboardInterrupt):
                raise
            interrupted = True  # it came while Python, not the engine, was at work
        skipped = state.scaling[2] - self._skipped_before
        if skipped > 0 and skipped == self._done * self._n_batches:
            warn(
                f"All steps of {self._done} epochs were skipped, since in precision 'fp16' their"
                " gradients overflow: the network is as it was before. Scale the targets, or take"
                " 'bf16'."
            )
        if interrupted:
            state.drop_vectors()
            if self._best is None:
                warn_of_interruption(self._done, "epoch", shown="last")
            else:  # without a score, no epoch's weights have come to be shown
                scored = 0 if state.best == -np.inf else self._done
                warn_of_interruption(scored, "epoch", shown="one with the best score")
        elif not (stopped or settings.limit is None):
            warn(
                f"Training has not converged within {settings.limit}={settings.max_epochs} epochs."
                f" A larger {settings.limit} or learning rate, or standardised features, may help.",
                ConvergenceWarning,
            )

    def _is_to_stop(self, interrupted: bool) -> bool:
        """Whether time is up, or an onlooker wants no more."""
        limit = self._settings.max_seconds
        stop = limit is not None and perf_counter() - self._began >= limit
        if self._onlooker is not None and not interrupted:
            stop |= self._onlooker.end(self.problem.params)
        return stop

    # ---- epochs ----

    def _run_block(self) -> bool:
        """Run the epochs before training might stop; tell whether Ctrl-C ended them."""
        settings, state = self._settings, self._state
        self._losses = []
        size = self._block()
        rates = settings.rates.rates(state, size, self._n_samples, self._n_batches)
        steps = np.empty((2, size * self._n_batches)) if settings.keep_steps else None
        before = self._training.progress
        try:
            self._training.run(
                rates,
                first_epoch=state.epoch,
                step=state.step,
                scaling=state.scaling,
                step_losses=None if steps is None else steps[0],
                gradient_norms=None if steps is None else steps[1],
            )
        finally:
            # An error that came before the engine ran leaves the progress of the block before.
            progress = self._training.progress
            if progress is not before:
                self._book(progress, rates, steps)
                skipped = progress["scaling"][2] - state.scaling[2]
                self._idle = skipped > 0 and skipped == len(self._losses) * self._n_batches
                state.step, state.scaling = progress["step"], progress["scaling"]
        return bool(progress["interrupted"])

    def _block(self) -> int:
        """Epochs that can run before training might stop, or its rate change: 1 at least."""
        settings = self._settings
        watched = self._validation is not None or self._onlooker is not None
        timed = settings.max_seconds is not None
        if settings.verbose or watched or timed or not settings.rates.known_ahead:
            return 1
        until_judged = max(1.0, settings.patience - self._state.stale + 1)
        left = settings.max_epochs - self._done
        return int(min(left, until_judged, max(1, _MOST_STEPS // self._n_batches)))

    def _book(self, progress: Mapping[str, Any], rates: Array, steps: Array | None) -> None:
        """Note whole epochs in the state; of rates that change within epochs, the first."""
        self._losses = losses = progress["losses"].tolist()
        state, n_epochs = self._state, len(losses)
        state.epoch += n_epochs
        state.samples += n_epochs * self._n_samples
        state.batches += n_epochs * self._n_batches
        history = state.history
        history["loss"].extend(losses)
        history["learning_rate"].extend(rates.reshape(len(rates), -1)[:n_epochs, 0].tolist())
        history["gradient_norm"].extend(progress["gradient_norms"].tolist())
        history["seconds"].extend(progress["seconds"].tolist())
        if steps is not None:
            made = n_epochs * self._n_batches
            for name, kept in zip(("step_loss", "step_gradient_norm"), steps, strict=True):
                state.history.setdefault(name, []).extend(kept[:made].tolist())
        for loss in losses:
            self._done += 1
            if self._settings.verbose:
                print(f"Iteration {self._done}, loss = {loss:.8f}")

    # ---- rules ----

    def _apply_rules(self) -> bool:
        """Whether training stops after the epochs of the last block."""
        stopped = False
        for loss in self._losses:
            self._judge(loss)
            if self._state.stale > self._settings.patience:
                stopped = self._lose_patience()
                if not stopped:
                    self._state.stale = 0
        return stopped

    def _judge(self, loss: float) -> None:
        """Update `best` and `stale` by the epoch's loss, or by how it does on held-out samples.

        An epoch whose steps were all skipped, until losses are scaled less, is no sign of an end.
        """
        settings, state = self._settings, self._state
        score = None if self._validation is None else self._score(self._validation)
        if self._idle:
            return
        if self._best is None:
            state.stale = state.stale + 1 if loss > state.best - settings.tol else 0
            state.best = min(state.best, loss)
        elif score is not None:
            state.stale = state.stale + 1 if score < state.best + settings.tol else 0
            if score > state.best:
                state.best = score
                self._best[...] = self.problem.params

    def _score(self, validation: Validation) -> float:
        """What of the held-out samples is to grow: their score, or without one minus their loss."""
        history, problem = self._state.history, self.problem
        names = ("validation_loss", "validation_score")[: 2 if validation.scored else 1]
        for name in names:  # an epoch whose scoring is broken off has NaN in its place
            history.setdefault(name, []).append(np.nan)
        raw = problem.plan.predict(
            problem.params, validation.X, raw=True, n_threads=self._settings.n_threads
        )
        loss, score = validation.evaluate(raw, problem.params)
        for name, value in zip(names, (loss, score), strict=False):
            history[name][-1] = value
        if self._settings.verbose:
            print(f"Validation score: {score:f}")
        return score

    def _lose_patience(self) -> bool:
        """Stop (True), or lower an adaptive rate and go on (False); say so if verbose."""
        settings = self._settings
        lower = settings.rates.lower(self._state)
        if settings.verbose:
            what = "Training loss" if self._best is None else "Validation score"
            then = "Stopping."
            if lower:
                then = f"Setting learning rate to {self._state.rate:f}"
            elif isinstance(settings.rates, Adaptive):
                then = "Learning rate too small. Stopping."
            print(
                f"{what} did not improve more than tol={settings.tol:f} for {settings.patience:d}"
                f" consecutive epochs. {then}"
            )
        return not lower
