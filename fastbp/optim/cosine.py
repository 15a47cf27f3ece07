"""Schedules whose rate falls, or rises, along half a cosine.

The cosine is the engine's, whose bits do not depend on NumPy's build or the width of vectors.
"""

from dataclasses import dataclass

import numpy as np

from fastbp import _core
from fastbp.optim.arguments import keep_real, keep_whole
from fastbp.optim.schedules import Array, Schedule


def _half_wave(first: float, last: float, progress: Array) -> Array:
    """From `first` to `last` as `progress` p goes from 0 to 1, level at both ends.

    (1 + cos(pi p)) / 2 is the square of cos(pi p / 2), which keeps its digits near p = 1.
    """
    root = _core.elementary("cospi", 0.5 * progress)
    return last + (first - last) * (root * root)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From the rate down to eta_min: eta_min + (rate - eta_min) * (1 + cos(pi t / T_max)) / 2.

    One period of Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm
    restarts". PyTorch's schedule of this name rises again after T_max; this one stays.

    Parameters
    ----------
    rate : float
        The rate of step 0, above 0.
    T_max : int
        The first step with the rate eta_min, at least 1.
    eta_min : float, default=0.0
        The last rate, from 0 to `rate`.

    Examples
    --------
    >>> from fastbp.optim import Cosine
    >>> Cosine(0.8, T_max=4, eta_min=0.4)([0, 2, 4, 5]).round(12).tolist()
    [0.8, 0.6, 0.4, 0.4]
    """

    rate: float
    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_whole(self, "T_max", 1)
        keep_real(self, "eta_min", 0, self.rate)

    def rates(self, steps: Array) -> Array:
        return _half_wave(self.rate, self.eta_min, np.minimum(steps, self.T_max) / self.T_max)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Cosines one after another, each as long as the one before, or T_mult times that.

    In the i-th period (from 0), of T_i = T_0 * T_mult**i steps, of which t_i are over, the rate is
    eta_min + (rate - eta_min) * (1 + cos(pi t_i / T_i)) / 2. From Loshchilov and Hutter (2017),
    "SGDR: stochastic gradient descent with warm restarts".

    Parameters
    ----------
    rate : float
        The rate with which every period begins, above 0.
    T_0 : int
        Steps of the first period, at least 1.
    T_mult : int, default=1
        How many times longer each period is than the one before, at least 1.
    eta_min : float, default=0.0
        The rate that periods tend to, from 0 to `rate`.

    Examples
    --------
    >>> from fastbp.optim import CosineRestarts
    >>> CosineRestarts(0.8, T_0=2, T_mult=2)([0, 1, 2, 4, 6]).round(12).tolist()
    [0.8, 0.4, 0.8, 0.4, 0.8]
    """

    rate: float
    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_whole(self, "T_0", 1)
        keep_whole(self, "T_mult", 1)
        keep_real(self, "eta_min", 0, self.rate)

    def rates(self, steps: Array) -> Array:
        if self.T_mult == 1:
            return _half_wave(self.rate, self.eta_min, steps % self.T_0 / self.T_0)
        # Where periods begin is counted in whole numbers: a logarithm would round at just these.
        starts, lengths = [0], [self.T_0]
        while starts[-1] + lengths[-1] <= steps.max(initial=0):
            starts.append(starts[-1] + lengths[-1])
            lengths.append(lengths[-1] * self.T_mult)
        period = np.searchsorted(starts, steps, side="right") - 1
        start, length = np.array([starts, lengths], np.float64)[:, period]
        return _half_wave(self.rate, self.eta_min, (steps - start) / length)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to the rate and then far below where it began, along half a cosine each.

    With n = total_steps and p = pct_start * n - 1, which need not be whole, the rate goes from
    rate / div_factor at step 0 to `rate` at p, and on to rate / (div_factor * final_div_factor) at
    n - 1.
    From Smith and Topin (2019), "Super-convergence: very fast training of neural networks using
    large learning rates", in the form of PyTorch, whose cycle of the momentum is left out.

    Parameters
    ----------
    rate : float
        The highest rate, above 0.
    total_steps : int
        Steps of the cycle, at least 1.
    pct_start : float, default=0.3
        Part of the steps on which the rate rises, from 0 and below 1.
    div_factor : float, default=25.0
        The highest rate over the first, at least 1.
    final_div_factor : float, default=1e4
        The first rate over the last, above 0.

    Examples
    --------
    >>> from fastbp.optim import OneCycle
    >>> schedule = OneCycle(0.8, total_steps=6, pct_start=0.5, div_factor=4, final_div_factor=2)
    >>> schedule([0, 1, 2, 5, 6]).round(12).tolist()
    [0.2, 0.5, 0.8, 0.1, 0.1]
    """

    rate: float
    total_steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_whole(self, "total_steps", 1)
        keep_real(self, "pct_start", 0, 1, open_high=True)
        keep_real(self, "div_factor", 1)
        keep_real(self, "final_div_factor", 0, open_low=True)

    def rates(self, steps: Array) -> Array:
        first = self.rate / self.div_factor
        end = self.total_steps - 1.0
        # Below 0 where the rising part is shorter than a step: then all steps are of the falling.
        peak = self.pct_start * self.total_steps - 1.0
        up = steps / (peak if peak > 0.0 else 1.0)
        down = (np.minimum(steps, end) - peak) / (end - peak)
        falling = _half_wave(self.rate, first / self.final_div_factor, down)
        return np.where(steps < peak, _half_wave(first, self.rate, up), falling)
