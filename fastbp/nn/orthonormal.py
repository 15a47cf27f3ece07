"""Rows made orthonormal, with the same bits on any number of threads, which LAPACK's have not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.ops import matmul

Array = NDArray[Any]

_ROWS = 32  # that are made orthonormal at once


def orthonormal(a: Array) -> Array:
    """Rows that span the same, each of length 1 and orthogonal to those before it.

    Gram and Schmidt's process by blocks of rows, and by Cholesky's factor within one, all of it
    twice, which leaves errors of a few roundings (Yamamoto et al. 2015, on CholeskyQR2). By the
    engine's products and elementwise: the same bits on any number of threads.
    """
    made = np.empty_like(a)
    for first in range(0, len(a), _ROWS):
        block, before = a[first : first + _ROWS].copy(), made[:first].copy()
        for _ in range(2):
            if first:
                block -= matmul(matmul(block, before.T.copy()), before)
            block = matmul(_inverse_factor(matmul(block, block.T.copy())), block)
        made[first : first + _ROWS] = block
    return made


def _inverse_factor(gram: Array) -> Array:
    """The inverse of L in gram = L L^T, by elimination."""
    left, made = gram.copy(), np.eye(len(gram))
    for i in range(len(gram)):
        scale = 1.0 / math.sqrt(left[i, i])
        left[i] *= scale
        made[i] *= scale
        factor = left[i + 1 :, i, None] * scale
        left[i + 1 :] -= factor * left[i]
        made[i + 1 :] -= factor * made[i]
    return made
