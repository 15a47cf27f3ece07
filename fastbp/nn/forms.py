"""Samples and targets as a user gives them, in the forms that a plan wants, or refused with why.

What a plan wants, it says itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp.nn.rows import rows
from fastbp.ops.running import integers


def several(given: Any, names: tuple[str, ...], argument: str) -> list[Any]:
    """What is given for each name: of a dict, or the only one."""
    if names == ("",):
        return [given]
    if not isinstance(given, Mapping) or set(given) != set(names):
        found = sorted(given) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"{argument}: found {found}, wanted a dict with {[*names]}")
    return [given[name] for name in names]


def converted(given: Any, dtype: np.dtype[Any], where: str) -> Any:
    """An array of the engine's dtype; CSR as it is."""
    if dtype.kind == "i":
        return integers(given, where)
    if hasattr(given, "indptr"):
        return given
    array = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{where} has dtype {array.dtype}, wanted real numbers")
    return np.ascontiguousarray(array, dtype)


def refuse_another_task(given: Any, loss: str, shape: tuple[int, ...], where: str) -> None:
    """Classes for a loss of numbers, or numbers for one over classes: the error names others."""
    array, table = np.asarray(given), rows("loss")
    over_classes = table[loss]["target"] == "class"
    if over_classes and array.dtype.kind == "f":
        found, wanted, other = "numbers", "integers, which are classes", "real"
    elif not over_classes and array.dtype.kind in "iu" and array.ndim == len(shape) and shape[-1:]:
        if shape[-1] == 1:  # a last axis that was forgotten, of whatever task
            return
        found, wanted, other = "classes", f"numbers of shape {('n', *shape)}", "class"
    else:
        return
    fitting = ", ".join(repr(name) for name, row in table.items() if row["target"] == other)
    raise ValueError(
        f"{where}: found {found} of dtype {array.dtype} and shape {array.shape} for {loss!r},"
        f" wanted {wanted}, or a loss of {found}: {fitting}".replace("'n'", "n")
    )
