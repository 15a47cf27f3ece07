"""What `diagnose` returns: measures of each node and parameter, and findings; how they print.

Nothing is measured or judged here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastbp.nn.describe import table


@dataclass(frozen=True)
class Signal:
    """What becomes of samples at a node of the plan.

    Attributes
    ----------
    label, module, row : str
        The number of the node, the path of the module that it belongs to, its row.
    mean, std : float
        Of its results: the mean over all, and the root mean square of their distances from each
        element's mean over the samples, which is 0 where all samples are the same.
    gradient : float
        Root mean square of the gradients of each sample's loss by them; NaN where none flows.
    flat : float
        Of an activation the share of the results at which its slope is less than 0.005 of its
        largest; NaN of other rows.
    dead : float
        Of an activation the share of the units that are flat for every sample and position; NaN of
        other rows.
    weighted : bool
        Whether it reads a matrix of weights.
    """

    label: str
    module: str
    row: str
    mean: float
    std: float
    gradient: float
    flat: float
    dead: float
    weighted: bool


@dataclass(frozen=True)
class Weights:
    """A parameter, and the gradient of the loss by it.

    Attributes
    ----------
    name : str
    shape : tuple of int
    size, gradient : float
        Root mean squares of its elements and of their gradients.
    trainable : bool
    distinct : float
        Of parameters with two axes or more, the share of the units, along the last axis, that
        differ from each other in values or gradients; NaN of others.
    """

    name: str
    shape: tuple[int, ...]
    size: float
    gradient: float
    trainable: bool
    distinct: float


@dataclass(frozen=True)
class Finding:
    """An illness: its kind, the module or parameter, and a sentence about it."""

    kind: str
    where: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.where or 'the network'}: {self.words}"


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found; prints as a table and its findings.

    Attributes
    ----------
    signals : tuple of Signal
        Of each node, in the order in which they run.
    weights : tuple of Weights
        Of each parameter, in the order of the buffer.
    findings : tuple of Finding
        The illnesses, the likeliest cause first.
    n_samples : int
    """

    signals: tuple[Signal, ...]
    weights: tuple[Weights, ...]
    findings: tuple[Finding, ...]
    n_samples: int

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        columns = [("", "rjust"), ("module", "ljust"), ("row", "ljust")]
        columns += [(name, "rjust") for name in ("mean", "std", "gradient", "flat", "dead")]
        lines = [
            [
                *(one.label, one.module, one.row),
                *(_number(value, ".2g") for value in (one.mean, one.std, one.gradient)),
                *(_number(value, ".0%") for value in (one.flat, one.dead)),
            ]
            for one in self.signals
        ]
        found = [str(one) for one in self.findings] or ["ok: nothing ill was found"]
        return "\n".join([f"{self.n_samples:,} samples", "", *table(columns, lines), "", *found])

    __repr__ = __str__


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)
