"""Probabilities that are as certain as they are right: one temperature for all raw outputs.

The raw outputs z of a classifier are divided by T before they become probabilities, and T is what
gives samples that were held out of training the largest likelihood (Guo, Pleiss, Sun and Weinberger
2017, arXiv:1706.04599). Neither the order of the classes nor a prediction changes.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from fastbp.nn.parameter import Array
from fastbp.train.validation import LossTerm, mean_loss

# Beyond these samples held out are all right, or say nothing.
_BOUNDS = (0.01, 100.0)


def temperature(row: str, raw: Array, target: Array, sample_weight: Array | None) -> float:
    """The temperature of raw outputs (n, n_outputs), in [0.01, 100].

    `row` is the loss that is minus the logarithm of the probability. In 1 / T it is convex, so
    there is one least value.
    """
    likelihood, wide = (LossTerm(row, {}),), raw.astype(np.float64)
    wanted = target if target.dtype.kind == "i" else target.astype(np.float64)

    def loss(inverse: float) -> float:
        return mean_loss(likelihood, wide * inverse, wanted, sample_weight)

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-7})
    return float(1.0 / found.x)
