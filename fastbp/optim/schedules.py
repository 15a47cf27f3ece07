"""Learning-rate schedules: the rate as a function of the step, and of nothing else.

A schedule is a small frozen value. It keeps no count of its own, so that training which goes on
from a saved step goes on with the right rate, and all rates of a run can be had before it begins.
What a step is, an update or an epoch, is for the caller to say: the rates of every update of a run
are `schedule(numpy.arange(n_epochs * n_batches)).reshape(n_epochs, n_batches)`.

Schedules with an end stay at their last rate after it. Those made of cosines are in `cosine`; the
rate that follows the losses, which no function of the step can, is in `plateau`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastbp.optim.arguments import keep_real, keep_whole, refuse

Array = NDArray[np.float64]

# The largest step: beyond it not every whole number is a float64.
_LAST = 2**53


class Schedule(ABC):
    """A learning rate for each step. A schedule of one's own defines `rates`."""

    @abstractmethod
    def rates(self, steps: Array) -> Array:
        """The rates of steps that have been checked: whole numbers in an array that is not 0-d."""

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: NDArray[Any] | Sequence[int]) -> Array: ...
    def __call__(self, step: Any) -> Any:
        """The rate of a step, or the rates of an array of steps.

        Parameters
        ----------
        step : int or array_like of int
            From 0 to 2**53.

        Returns
        -------
        float64, or ndarray of float64 of the same shape
            The learning rate.
        """
        steps = np.asarray(step)
        whole = steps.dtype.kind in "iu" or steps.size == 0
        if not whole or steps.min(initial=0) < 0 or steps.max(initial=0) > _LAST:
            refuse(self, "step", "whole numbers from 0 to 2**53", step)
        rates = self.rates(np.atleast_1d(steps).astype(np.float64))
        return rates.reshape(steps.shape)[()]


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step.

    Parameters
    ----------
    rate : float
        The learning rate, above 0.

    Examples
    --------
    >>> from fastbp.optim import Constant
    >>> Constant(0.1)([0, 1000]).tolist()
    [0.1, 0.1]
    """

    rate: float

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)

    def rates(self, steps: Array) -> Array:
        return np.full(steps.shape, self.rate)


@dataclass(frozen=True)
class Step(Schedule):
    """A fixed factor every so many steps: rate * gamma**floor(t / step_size).

    Parameters
    ----------
    rate : float
        The rate of step 0, above 0.
    step_size : int
        Steps between two changes, at least 1.
    gamma : float, default=0.1
        The factor, above 0.

    Examples
    --------
    >>> from fastbp.optim import Step
    >>> Step(0.8, step_size=2, gamma=0.5)([0, 1, 2, 3, 4]).tolist()
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """

    rate: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_whole(self, "step_size", 1)
        keep_real(self, "gamma", 0, open_low=True)

    def rates(self, steps: Array) -> Array:
        return self.rate * self.gamma ** (steps // self.step_size)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """A fixed factor at given steps: rate * gamma**(milestones up to t).

    So He et al. (2016), "Deep residual learning for image recognition", trained their networks.

    Parameters
    ----------
    rate : float
        The rate before the first milestone, above 0.
    milestones : sequence of int
        The steps from which the rate is lower, rising, at least 1; they are kept as a tuple.
    gamma : float, default=0.1
        The factor, above 0.

    Examples
    --------
    >>> from fastbp.optim import MultiStep
    >>> MultiStep(0.8, [2, 3], gamma=0.5)([0, 1, 2, 3, 4]).tolist()
    [0.8, 0.8, 0.4, 0.2, 0.2]
    """

    rate: float
    milestones: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_real(self, "gamma", 0, open_low=True)
        given = np.asarray(self.milestones)
        rising = given.ndim == 1 and given.dtype.kind in "iu" and (np.diff(given) > 0).all()
        if not rising or given.min() < 1:
            wanted = "one or more whole numbers of at least 1, each above the one before"
            refuse(self, "milestones", wanted, self.milestones)
        object.__setattr__(self, "milestones", tuple(given.tolist()))

    def rates(self, steps: Array) -> Array:
        passed = np.searchsorted(self.milestones, steps, side="right")
        return self.rate * self.gamma ** passed.astype(np.float64)


@dataclass(frozen=True)
class Exponential(Schedule):
    """A fixed factor at every step: rate * gamma**t.

    With gamma above 1 it is the range test by which Smith (2017), "Cyclical learning rates for
    training neural networks", looks for the largest rate that still trains.

    Parameters
    ----------
    rate : float
        The rate of step 0, above 0.
    gamma : float
        The factor, above 0.

    Examples
    --------
    >>> from fastbp.optim import Exponential
    >>> Exponential(0.8, gamma=0.5)([0, 1, 2, 3]).tolist()
    [0.8, 0.4, 0.2, 0.1]
    """

    rate: float
    gamma: float

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_real(self, "gamma", 0, open_low=True)

    def rates(self, steps: Array) -> Array:
        return self.rate * self.gamma**steps


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """A power of the step: rate / (t + 1)**power_t.

    For power_t above 1/2 and up to 1 the rates have the sums under which Robbins and Monro (1951),
    "A stochastic approximation method", prove convergence.

    Parameters
    ----------
    rate : float
        The rate of step 0, above 0.
    power_t : float, default=0.5
        The exponent, at least 0.

    Examples
    --------
    >>> from fastbp.optim import InverseScaling
    >>> InverseScaling(0.6)([0, 3, 8]).round(12).tolist()
    [0.6, 0.3, 0.2]
    """

    rate: float
    power_t: float = 0.5

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_real(self, "power_t", 0)

    def rates(self, steps: Array) -> Array:
        return self.rate / (steps + 1.0) ** self.power_t


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Down to 0 along a power: rate * (1 - t / total_iters)**power, and 0 after total_iters.

    Chen et al. (2018), "DeepLab: semantic image segmentation with deep convolutional nets", train
    with a power of 0.9.

    Parameters
    ----------
    rate : float
        The rate of step 0, above 0.
    total_iters : int
        The first step with a rate of 0, at least 1.
    power : float, default=1.0
        The exponent, above 0: 1 is a straight line.

    Examples
    --------
    >>> from fastbp.optim import Polynomial
    >>> Polynomial(0.8, total_iters=4, power=2)([0, 1, 2, 3, 4, 5]).round(12).tolist()
    [0.8, 0.45, 0.2, 0.05, 0.0, 0.0]
    """

    rate: float
    total_iters: int
    power: float = 1.0

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_whole(self, "total_iters", 1)
        keep_real(self, "power", 0, open_low=True)

    def rates(self, steps: Array) -> Array:
        left = 1.0 - np.minimum(steps, self.total_iters) / self.total_iters
        return self.rate * left**self.power


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line up to the first rate of another schedule, which then begins.

    With f = start_factor and n = total_iters, the rate is schedule(0) * (f + (1 - f) * t / n) for
    t < n, and schedule(t - n) from there on. Goyal et al. (2017), "Accurate, large minibatch SGD",
    show what it is good for: early steps are too uncertain to be large.

    Parameters
    ----------
    schedule : Schedule
        What comes after; a Warmup too if that is wanted.
    total_iters : int
        Steps of the warmup, at least 1.
    start_factor : float, default=1/3
        Part of schedule(0) at step 0, above 0 and up to 1.

    Examples
    --------
    >>> from fastbp.optim import Exponential, Warmup
    >>> schedule = Warmup(Exponential(0.8, gamma=0.5), total_iters=3, start_factor=0.25)
    >>> schedule([0, 1, 2, 3, 4]).round(12).tolist()
    [0.2, 0.4, 0.6, 0.8, 0.4]
    """

    schedule: Schedule
    total_iters: int
    start_factor: float = 1.0 / 3.0

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            refuse(self, "schedule", "a Schedule", self.schedule)
        keep_whole(self, "total_iters", 1)
        keep_real(self, "start_factor", 0, 1, open_low=True)

    def rates(self, steps: Array) -> Array:
        rise = self.start_factor + (1.0 - self.start_factor) * steps / self.total_iters
        after = self.schedule.rates(np.maximum(steps - self.total_iters, 0))
        return np.where(steps < self.total_iters, self.schedule(0) * rise, after)
