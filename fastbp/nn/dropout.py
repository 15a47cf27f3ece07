"""Layers with random masks: parts of a sample are dropped in training, and never otherwise."""

from __future__ import annotations

from typing import Any

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.nn.runs import current


class Dropout(Module):
    """Each element is zero with probability p in training, the others are 1 / (1 - p) as large.

    Srivastava et al. 2014, JMLR 15. The mask is a function of the network's seed, the step, the
    layer and the element's place in the batch: the same on any number of threads.

    Parameters
    ----------
    p : float, default=0.5
        In [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.Dropout(0.5).build(4)(np.ones((1, 4), np.float32)).data.max()
    np.float32(2.0)
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, x: Any) -> Any:
        return current("Dropout").random(ops.dropout, x, p=self.p)


class AlphaDropout(Module):
    """Dropout that keeps mean and variance of what `SELU` yields (Klambauer et al. 2017).

    Parameters
    ----------
    p : float, default=0.5
        In [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.AlphaDropout(0.1).build(4)(np.ones((2, 4), np.float32)).shape
    (2, 4)
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, x: Any) -> Any:
        return current("AlphaDropout").random(ops.alpha_dropout, x, p=self.p)
