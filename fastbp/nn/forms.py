"""Samples and targets as a user gives them, in the forms that a plan wants, or refused with why.

What a plan wants, it says itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastbp.nn.rows import rows
from fastbp.ops.running import integers

Shape = tuple[int, ...]


def by_name(given: Any) -> Any:
    """The fields of a structured array as a dict of arrays; anything else as it is."""
    names = given.dtype.names if isinstance(given, np.ndarray) else None
    return given if names is None else {name: given[name] for name in names}


def part(argument: str, name: str) -> str:
    """What errors call the part of an argument that has a name; "" is the whole."""
    return f"{argument}[{name!r}]" if name else argument


def several(given: Any, names: tuple[str, ...], argument: str) -> list[Any]:
    """What is given for each name: of a dict or a structured array, or the only one."""
    if names == ("",):
        if type(given) is dict:
            raise ValueError(f"{argument}: found a dict with {[*given]}, wanted a single array")
        return [given]
    given = by_name(given)
    refuse_other_names(given, names, argument)
    return [given[name] for name in names]


def refuse_other_names(
    given: Any, names: Iterable[str], argument: str, optional: Sequence[str] = ()
) -> None:
    """A ValueError where something is no dict with these names, which tells what is amiss."""
    wanted = [*names]
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{argument}: found {type(given).__name__}, wanted a dict with {wanted}, or a "
            "structured array of these fields"
        )
    missing = [name for name in wanted if name not in given and name not in optional]
    unknown = [name for name in given if name not in wanted]
    if missing or unknown:
        amiss = [f"{missing} missing"] * bool(missing) + [f"{unknown} not known"] * bool(unknown)
        raise ValueError(
            f"{argument}: found a dict with {[*given]}, wanted one with {wanted}: "
            + ", ".join(amiss)
        )


def refuse_misshapen(
    arrays: Sequence[Any], names: Sequence[str], argument: str, shapes: Sequence[Shape]
) -> None:
    """A ValueError, by name, for one of several arrays of samples whose shape does not fit.

    Of a single one the engine tells as well.
    """
    for name, one, shape in zip(names, arrays, shapes, strict=True):
        where = part(argument, name)
        if one.shape[1:] != shape:
            wanted = str(("n", *shape)).replace("'n'", "n")
            raise ValueError(f"{where}: found shape {one.shape}, wanted {wanted}")
        if one.shape[0] != arrays[0].shape[0]:
            raise ValueError(
                f"{where}: found {one.shape[0]} samples, wanted {arrays[0].shape[0]}, as of "
                f"{names[0]!r}"
            )


def refuse_other_kinds(
    arrays: Sequence[Any],
    names: Sequence[str],
    argument: str,
    values: Sequence[Mapping[str, Any]],
) -> None:
    """A ValueError, by name, for dense samples in place of sparse ones, or the reverse.

    `values` are the engine's, of which inputs are the first.
    """
    for name, one, value in zip(names, arrays, values, strict=False):
        wanted, found = (
            "sparse" if sparse else "dense"
            for sparse in (value["content"] == "sparse", hasattr(one, "indptr"))
        )
        if found != wanted:
            raise ValueError(
                f"{part(argument, name)}: found {found} samples, wanted {wanted}: the "
                "network was built for them"
            )


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
