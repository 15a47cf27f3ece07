"""The learning rates of a call of training, and what becomes of them where it gets nowhere.

scikit-learn's three words are here, and what a schedule of `fastbp.optim` comes to in epochs of so
many batches. None keeps a count of its own: the counts are the training state's, so that training
that goes on goes on with the right rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastbp.nn.parameter import Array
from fastbp.optim import ReduceOnPlateau, Schedule
from fastbp.train.state import TrainingState

# scikit-learn's: an adaptive rate is divided by 5 until it is this small.
_SMALLEST_RATE, _RATE_DIVISOR = 1e-6, 5.0


@dataclass(frozen=True)
class Steady:
    """The same rate at every step."""

    rate: float

    # Whether the rates of epochs can be known before the losses of those before them.
    known_ahead = True

    def begin(self, state: TrainingState) -> None:
        """Take up the state, or start anew where other rates left it."""
        origin = (type(self).__name__, self.rate)
        if state.rate_origin != origin:
            state.rate_origin, state.rate = origin, self.rate

    def rates(self, state: TrainingState, n_epochs: int, n_samples: int, n_batches: int) -> Array:
        """Of the next epochs, (n_epochs,), or of each of their steps, (n_epochs, n_batches)."""
        return np.full(n_epochs, state.rate)

    def lower(self, state: TrainingState) -> bool:
        """Lower the rate where patience is lost; False where training is to stop instead."""
        return False


@dataclass(frozen=True)
class InverseOfSamples(Steady):
    """scikit-learn's "invscaling": rate / (t + 1)**power_t before an epoch, t the samples seen."""

    power_t: float

    def rates(self, state: TrainingState, n_epochs: int, n_samples: int, n_batches: int) -> Array:
        seen = [state.samples + i * n_samples for i in range(n_epochs)]
        return np.array([self.rate / (t + 1) ** self.power_t for t in seen])


@dataclass(frozen=True)
class Adaptive(Steady):
    """scikit-learn's "adaptive": a fifth of it each time that training would otherwise stop."""

    def lower(self, state: TrainingState) -> bool:
        if state.rate <= _SMALLEST_RATE:
            return False
        state.rate /= _RATE_DIVISOR
        return True


class OfSteps:
    """A schedule of `fastbp.optim`: a rate for every batch, counted over all calls."""

    known_ahead = True

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def begin(self, state: TrainingState) -> None:
        """The schedule knows the rate of every step."""

    def rates(self, state: TrainingState, n_epochs: int, n_samples: int, n_batches: int) -> Array:
        """As those of `Steady`."""
        steps = np.arange(state.batches, state.batches + n_epochs * n_batches)
        return self._schedule(steps).reshape(n_epochs, n_batches)

    def lower(self, state: TrainingState) -> bool:
        """Never: the schedule is not one of losses."""
        return False


class OfLosses(OfSteps):
    """A `ReduceOnPlateau`: the rate of an epoch follows the losses of all epochs before it.

    Of the samples held out, where there are such; in its mode "max" it follows their score.
    """

    known_ahead = False

    def __init__(self, plateau: ReduceOnPlateau) -> None:
        self._plateau = plateau

    def rates(self, state: TrainingState, n_epochs: int, n_samples: int, n_batches: int) -> Array:
        if self._plateau.mode == "max":
            followed = state.history.get("validation_score", [])
        else:
            followed = state.history.get("validation_loss") or state.history["loss"]
        return np.full(n_epochs, self._plateau(followed))


Rates = Steady | OfSteps


def rates_of(schedule: Schedule | ReduceOnPlateau | None, rate: float, *, scored: bool) -> Rates:
    """The rates that a user's `schedule` means; without one the same `rate` at every step.

    `scored` tells whether there will be scores of samples held out.
    """
    if schedule is None:
        return Steady(rate)
    if isinstance(schedule, ReduceOnPlateau):
        if schedule.mode == "max" and not scored:
            raise ValueError(
                'schedule: found ReduceOnPlateau(mode="max"), which follows a score, and no score'
                ' to follow; wanted mode="min", or early_stopping=True of an estimator'
            )
        return OfLosses(schedule)
    return OfSteps(schedule)
