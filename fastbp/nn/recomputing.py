"""Less memory for a second run of a part of a network."""

from __future__ import annotations

from typing import Any

from fastbp.nn.module import Module
from fastbp.nn.runs import current, under
from fastbp.recompute import checkpoint


class Checkpoint(Module):
    """A module that keeps nothing for backward but its inputs, and runs again there.

    Chen et al. 2016, arXiv:1604.06174. Values and gradients have the same bits as without, random
    masks included. On tensors it is `fastbp.checkpoint`. In a plan (`compile`, `fit`, estimators of
    networks) of all that it makes only what other modules read is there for a whole batch; it runs
    again when backward comes to it, as far as backward reads what it makes, and when it has gone
    back, its room is the next one's. About as many as the root of the number of layers, such as 5
    for 24, keep the least. The gradients of all parameters are held at once. Within another one it
    changes nothing, and one part that is all of a network saves nothing. In mixed precision all is
    kept in float32, and so has other bits than without.

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

    >>> from fastbp import compile
    >>> def deep(part):
    ...     parts = [nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(32)) for _ in range(6)]
    ...     return nn.Sequential(*map(part, parts), nn.Linear(1)).build(32)
    >>> plain, saving = (compile(deep(part), "huber") for part in (nn.Sequential, nn.Checkpoint))
    >>> saving.memory(1000)["total"] < 0.7 * plain.memory(1000)["total"]
    True
    >>> saving.flops(1)["backward"] > plain.flops(1)["backward"]
    True
    """

    def __init__(self, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"Checkpoint: found {type(module).__name__}, wanted a Module")
        self.module = module

    def forward(self, *inputs: Any, **named: Any) -> Any:
        run = current("Checkpoint")

        def part(*inputs: Any, **named: Any) -> Any:
            with under(run):  # backward comes back here when the run has long ended
                return self.module(*inputs, **named)

        return checkpoint(part)(*inputs, **named)
