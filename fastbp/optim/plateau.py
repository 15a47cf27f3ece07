"""A learning rate that is lowered where training stops getting anywhere.

What has to be done depends on the losses so far, so this is no function of the step; but it is one
of those losses, and keeps nothing else: training that goes on from a saved history goes on with the
same rates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.optim.arguments import keep_one_of, keep_real, keep_whole, refuse
from fastbp.optim.schedules import Array


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Lowers the rate by a factor after epochs that bring no improvement.

    An epoch is better if its loss is below best * (1 - threshold) or, with threshold_mode="abs",
    below best - threshold, where best is the loss of the last better one. After more than
    `patience` others in a row the next epoch's rate is max(rate * factor, min_lr); then `cooldown`
    epochs are not counted against it. The semantics are those of
    torch.optim.lr_scheduler.ReduceLROnPlateau.

    Parameters
    ----------
    rate : float
        The rate of the first epoch, above 0.
    mode : {"min", "max"}, default="min"
        "max" where a higher number is better, as of a score: above best * (1 + threshold) or above
        best + threshold.
    factor : float, default=0.1
        What the rate is multiplied by, above 0 and below 1.
    patience : int, default=10
        Epochs without improvement that are let pass.
    threshold : float, default=1e-4
        The least improvement that counts, at least 0.
    threshold_mode : {"rel", "abs"}, default="rel"
        Whether the threshold is a part of the best loss or a difference from it.
    cooldown : int, default=0
        Epochs after a reduction before others are counted again.
    min_lr : float, default=0.0
        The lowest rate, from 0 to `rate`.
    eps : float, default=1e-8
        A reduction by no more than this is left out, at least 0.

    Examples
    --------
    >>> from fastbp.optim import ReduceOnPlateau
    >>> plateau = ReduceOnPlateau(0.8, factor=0.5, patience=1)
    >>> plateau([])
    np.float64(0.8)
    >>> plateau([1.0, 0.9, 0.9, 0.95])
    np.float64(0.4)
    >>> plateau.rates([1.0, 0.9, 0.9, 0.95]).tolist()
    [0.8, 0.8, 0.8, 0.8, 0.4]
    """

    rate: float
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        keep_real(self, "rate", 0, open_low=True)
        keep_one_of(self, "mode", "min", "max")
        keep_real(self, "factor", 0, 1, open_low=True, open_high=True)
        keep_whole(self, "patience", 0)
        keep_real(self, "threshold", 0)
        keep_one_of(self, "threshold_mode", "rel", "abs")
        keep_whole(self, "cooldown", 0)
        keep_real(self, "min_lr", 0, self.rate)
        keep_real(self, "eps", 0)

    def __call__(self, losses: Sequence[float] | NDArray[Any]) -> float:
        """The rate of the epoch after those with these losses.

        Parameters
        ----------
        losses : array_like of shape (n_epochs,)
            The loss of every epoch so far, in order; a NaN is no improvement.

        Returns
        -------
        float64
            The learning rate.
        """
        rate: np.float64 = self.rates(losses)[-1]
        return rate

    def rates(self, losses: Sequence[float] | NDArray[Any]) -> Array:
        """The rates of all epochs with these losses, and of the one after them.

        Parameters
        ----------
        losses : array_like of shape (n_epochs,)
            The loss of every epoch so far, in order; a NaN is no improvement.

        Returns
        -------
        ndarray of float64 of shape (n_epochs + 1,)
            The learning rates.
        """
        history = np.asarray(losses)
        if history.ndim != 1 or (history.size and history.dtype.kind not in "fiu"):
            refuse(self, "losses", "a list or 1-D array of numbers", losses)
        rate, best = self.rate, math.inf if self.mode == "min" else -math.inf
        n_bad = n_cooling = 0
        rates = [rate]
        for loss in history.tolist():
            if self._is_better(loss, best):
                best, n_bad = loss, 0
            else:
                n_bad += 1
            if n_cooling > 0:
                n_cooling, n_bad = n_cooling - 1, 0
            if n_bad > self.patience:
                lower = max(rate * self.factor, self.min_lr)
                if rate - lower > self.eps:
                    rate = lower
                n_cooling, n_bad = self.cooldown, 0
            rates.append(rate)
        return np.array(rates)

    def _is_better(self, loss: float, best: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            bound = best * (1.0 + sign * self.threshold)
        else:
            bound = best + sign * self.threshold
        return loss > bound if self.mode == "max" else loss < bound
