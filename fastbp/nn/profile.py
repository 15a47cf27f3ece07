"""Where the time of a plan goes: a pass by its nodes, timed in C.

What the nodes are is told in describe.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from fastbp.nn.describe import Entry, table

COLUMNS = (
    ("", "rjust"),
    ("module", "ljust"),
    ("row", "ljust"),
    ("forward us", "rjust"),
    ("backward us", "rjust"),
    ("share", "rjust"),
    ("GFLOP/s", "rjust"),
)


@dataclass(frozen=True, repr=False)
class Profile:
    """The seconds that each node of a plan takes, in a pass on one thread; prints as a table.

    Attributes
    ----------
    nodes : tuple of Entry
        As the plan's description has them.
    seconds : ndarray of shape (n_nodes, 2)
        Forward, and backward with the gradients of parameters, for all samples.
    gather, losses : float
        Seconds of copying samples to where nodes read them, and of the losses.
    n_samples : int
    """

    nodes: tuple[Entry, ...]
    seconds: NDArray[np.float64]
    gather: float
    losses: float
    n_samples: int

    @property
    def forward(self) -> float:
        """Seconds up to the losses, these included."""
        return float(self.seconds[:, 0].sum()) + self.gather + self.losses

    @property
    def backward(self) -> float:
        """Seconds back from the losses."""
        return float(self.seconds[:, 1].sum())

    def __str__(self) -> str:
        total = self.forward + self.backward
        rows = []
        for node, (forward, backward) in zip(self.nodes, self.seconds, strict=True):
            spent = forward + backward
            rate = sum(node.flops) * self.n_samples / spent / 1e9 if spent else 0.0
            shown = "?" if isnan(rate) else f"{rate:,.1f}"
            rows.append(
                [
                    *(node.label, node.module, node.row),
                    *(f"{1e6 * forward:,.1f}", f"{1e6 * backward:,.1f}"),
                    *(f"{spent / total:.1%}", shown),
                ]
            )
        for name, spent in (("gathering", self.gather), ("losses", self.losses)):
            rows.append(["", "", name, f"{1e6 * spent:,.1f}", "", f"{spent / total:.1%}", ""])
        lines = table(COLUMNS, rows)
        ratio = self.backward / self.forward
        return "\n".join(
            [
                f"{self.n_samples:,} samples on one thread",
                "",
                *lines,
                "",
                f"forward {1e6 * self.forward:,.1f} us, backward {1e6 * self.backward:,.1f} us "
                f"({ratio:.2f} times as long)",
            ]
        )

    __repr__ = __str__
