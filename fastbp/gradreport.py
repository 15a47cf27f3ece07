"""The report of a gradient check: what was found for each tensor, and the table that it prints.

It holds results and their presentation; how they are obtained is in gradcheck.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNDECIDED_LIMIT = 0.01  # share of elements that may stay undecided


@dataclass(frozen=True)
class TensorCheck:
    """What was found for one tensor of parameters.

    Attributes
    ----------
    name : str
        The tensor's name in the plan, such as "layer0.weight".
    shape : tuple of int
        Its shape.
    n_checked : int
        How many of its elements were compared.
    undecided : int
        How many of those finite differences could not settle: at a kink of the loss, the two
        one-sided differences disagree however short the step.
    error : float
        The largest |a - n| among the others, divided by the largest magnitude in the tensor, where
        a is the derivative by backpropagation and n that by differences. NaN if none was settled.
    index : tuple of int or None
        The element with that error.
    analytic, numeric : float
        Its a and n.
    rescaled : bool
        Whether it was checked with weights and biases scaled and shifted, or at others, since at
        the given ones its gradient is too small to be seen in the loss.
    """

    name: str
    shape: tuple[int, ...]
    n_checked: int
    undecided: int
    error: float
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    rescaled: bool = False


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`; prints as one table.

    Attributes
    ----------
    tensors : tuple of TensorCheck
        One for each tensor of parameters, in the plan's order.
    directions : TensorCheck or None
        Derivatives along random directions in the space of all parameters, made where only a sample
        of the elements was checked; their index is the direction's number.
    n_params : int
        The number of parameters of the network.
    tolerance : float
        The largest error that passes.
    """

    tensors: tuple[TensorCheck, ...]
    directions: TensorCheck | None
    n_params: int
    tolerance: float

    @property
    def checks(self) -> tuple[TensorCheck, ...]:
        """All that was checked: the tensors, then the directions if there are any."""
        return self.tensors if self.directions is None else (*self.tensors, self.directions)

    @property
    def failures(self) -> tuple[TensorCheck, ...]:
        """The checks whose error is not below the tolerance, or in which nothing was settled."""
        return tuple(check for check in self.checks if not check.error < self.tolerance)

    @property
    def worst(self) -> TensorCheck:
        """The check with the largest error; one in which nothing was settled is worse still."""
        return max(self.checks, key=lambda check: np.inf if check.index is None else check.error)

    @property
    def undecided(self) -> float:
        """Share of the compared elements that stayed undecided, from 0 to 1."""
        return sum(c.undecided for c in self.checks) / sum(c.n_checked for c in self.checks)

    @property
    def ok(self) -> bool:
        """Whether all errors are below the tolerance and at most 1 % of the elements undecided."""
        return not self.failures and self.undecided <= UNDECIDED_LIMIT

    def __str__(self) -> str:
        rescaled = any(check.rescaled for check in self.checks)
        columns = COLUMNS if rescaled else COLUMNS[:-1]
        rows = [[title for title, _ in columns]]
        rows += [_cells(check)[: len(columns)] for check in self.checks]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                getattr(cell, align)(width)
                for cell, (_, align), width in zip(row, columns, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        if rescaled:
            lines.append(
                "rescaled: too small to be seen in the loss; checked at other values of the "
                "parameters, where no unit is saturated or dead"
            )
        return "\n".join([self._extent(), *lines, self._verdict()])

    def _extent(self) -> str:
        if self.directions is None:
            return f"Gradient check of all {self.n_params} parameters"
        n = sum(check.n_checked for check in self.tensors)
        return f"Gradient check of a sample of {n} of {self.n_params} parameters"

    def _verdict(self) -> str:
        if self.ok:
            return f"ok: worst error {self.worst.error:.1e} ({self.worst.name})"
        if self.failures:
            names = ", ".join(check.name for check in self.failures)
            return f"NOT OK: error above {self.tolerance:.0e}, or nothing decided, in {names}"
        return f"NOT OK: {self.undecided:.1%} undecided, more than {UNDECIDED_LIMIT:.0%}"


# Text stands to the left, numbers to the right.
COLUMNS = (
    ("tensor", "ljust"),
    ("shape", "ljust"),
    ("checked", "rjust"),
    ("undecided", "rjust"),
    ("worst error", "rjust"),
    ("at", "ljust"),
    ("backprop", "rjust"),
    ("difference", "rjust"),
    ("rescaled", "rjust"),
)


def _cells(check: TensorCheck) -> list[str]:
    """One line of the printed table."""
    settled = check.index is not None
    return [
        check.name,
        str(check.shape),
        str(check.n_checked),
        str(check.undecided),
        f"{check.error:.1e}" if settled else "-",
        str(list(check.index)) if check.index is not None else "-",
        f"{check.analytic:.9e}" if settled else "-",
        f"{check.numeric:.9e}" if settled else "-",
        "yes" if check.rescaled else "",
    ]
