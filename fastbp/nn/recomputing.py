"""Less memory for a second run of a part of a network."""

from __future__ import annotations

from typing import Any

from fastbp.nn.module import Module
from fastbp.nn.runs import current, under
from fastbp.recompute import checkpoint


class Checkpoint(Module):
    """A module that keeps nothing for backward but its inputs, and runs again there.

    Chen et al. 2016, arXiv:1604.06174. Values and gradients have the same bits as without, random
    masks included. On tensors it is `fastbp.checkpoint`.

    Parameters
    ----------
    module : Module

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> block = nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(3))
    >>> network = nn.Checkpoint(block).build(4)
    >>> network(np.ones((2, 4), np.float32)).sum().backward()
    >>> network.parameters()["module.2.bias"].grad.tolist()
    [2.0, 2.0, 2.0]
    """

    def __init__(self, module: Module) -> None:
        self.module = module

    def forward(self, *inputs: Any, **named: Any) -> Any:
        run = current("Checkpoint")

        def part(*inputs: Any, **named: Any) -> Any:
            with under(run):  # backward comes back here when the run has long ended
                return self.module(*inputs, **named)

        return checkpoint(part)(*inputs, **named)
