"""The axis of the samples, whose number a traced module leaves open.

Here are that number, which can be told in shapes and refuses to be computed with, and the
attributes of rows that count axes, as they are for one sample. Values are known by their shapes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from fastbp.ops.making import listed
from fastbp.ops.running import Attributes, Row

# ---------------------------------------------------------------------------- the number of samples


class Samples:
    """The number of samples, which a graph leaves open, as the length of a first axis.

    It compares and multiplies as a number that no other length is, so that a shape made of it is
    recognised; to be a number in earnest it refuses.
    """

    __slots__ = ()

    def __int__(self) -> int:
        return _SAMPLES

    def __index__(self) -> NoReturn:
        raise TypeError(
            "a module is being traced: how many samples there are is not known here, and what is "
            "computed for one may not depend on it"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Samples) or other == _SAMPLES

    def __lt__(self, other: Any) -> bool:
        return bool(int(other) > _SAMPLES)

    def __gt__(self, other: Any) -> bool:
        return bool(int(other) < _SAMPLES)

    def __le__(self, other: Any) -> bool:
        return bool(int(other) >= _SAMPLES)

    def __ge__(self, other: Any) -> bool:
        return bool(int(other) <= _SAMPLES)

    def __mul__(self, other: Any) -> int:
        return _SAMPLES * int(other)

    __rmul__ = __mul__

    def __hash__(self) -> int:
        return hash(_SAMPLES)

    __neg__ = __index__

    def __repr__(self) -> str:
        return "n"


# A prime beyond the lengths of arrays: what is a multiple of it has the samples in it.
_SAMPLES = 2**61 - 1

N = Samples()

# ---------------------------------------------------------------- attributes, told for one sample


class Value(Protocol):
    """What is known of a value here."""

    @property
    def shape(self) -> tuple[Any, ...]: ...

    @property
    def ndim(self) -> int: ...

    @property
    def has_samples(self) -> bool: ...


# Attributes that list something for each axis, and what has to stand there for the axis of the
# samples: that it stays whole, and the first.
_PER_AXIS = {"shape": N, "starts": 0, "steps": 1, "counts": N, "before": 0, "after": 0}


def for_one_sample(row: Row, attrs: Attributes, values: Sequence[Value]) -> Attributes:
    """Attributes that count the axes of whole arrays, for a row that knows no axis of samples.

    The engine's rows compute what a sample has of what a sample has: axis 1 of an array is axis 0
    of each of its samples.
    """
    with_samples = [x.has_samples for x in values]
    if row["samples"] != "none" or not any(with_samples):
        return attrs
    _check_beside(row, values, with_samples)
    ndim, given = values[0].ndim, dict(attrs)
    if not with_samples[0]:  # along its first axis, which gives way to the samples
        if int(given["axis"]) % max(1, ndim) != 0:
            _mix(row, f"axis {given['axis']}")
        return attrs
    for attr in row["attrs"]:
        name = attr["name"]
        if name in _PER_AXIS:
            given[name] = _without_samples(row, name, given.get(name, ()))
        elif name == "axes" and not _reduces(row):
            given[name] = _order_of_others(row, given.get(name, ()), ndim)
        elif name in ("axis", "axes"):
            axes = given.get(name, () if attr["counts"] else attr["default"])
            shifted = tuple(_shift(row, axis, ndim) for axis in listed(axes))
            if attr["counts"] and not shifted:
                _mix(row, "all axes")
            given[name] = shifted if attr["counts"] else shifted[0]
    return tuple(given.items())


def _reduces(row: Row) -> bool:
    return any(attr["name"] == "keepdims" for attr in row["attrs"])


def _mix(row: Row, found: str) -> NoReturn:
    raise ValueError(
        f"{row['name']}: found {found} of an array of samples, wanted none but the axes of each "
        "sample: in a module, what is computed for one sample depends on no other"
    )


def _shift(row: Row, axis: Any, ndim: int) -> int:
    """An axis of the whole array as one of a sample."""
    whole = operator.index(int(axis))
    if not -ndim <= whole < ndim:
        raise ValueError(f"{row['name']}: found axis {whole} of an array of {ndim} axes")
    if whole % ndim == 0:
        _mix(row, "axis 0")
    return whole % ndim - 1


def _order_of_others(row: Row, axes: Sequence[Any], ndim: int) -> tuple[int, ...]:
    """A new order of axes, in which that of the samples has to remain the first."""
    order = [int(axis) % ndim for axis in axes] or list(reversed(range(ndim)))
    if order[0] != 0:
        _mix(row, f"the order {tuple(order)} of the axes")
    return tuple(axis - 1 for axis in order[1:])


def _without_samples(row: Row, name: str, given: Sequence[Any]) -> tuple[int, ...]:
    if not given or given[0] != _PER_AXIS[name]:
        found = ", ".join("n" if one == N else str(one) for one in given)
        _mix(row, f"{name} ({found})")
    if any(int(one) % _SAMPLES == 0 and one != 0 for one in given[1:]):
        _mix(row, f"the number of samples beyond the first of {name}")
    return tuple(int(one) for one in given[1:])


def _check_beside(row: Row, values: Sequence[Value], with_samples: Sequence[bool]) -> None:
    """Arrays of samples beside others: what that means depends on the row, if anything."""
    if all(with_samples) and len(values) == 1:
        return
    if ELSEWHERE.get(row["name"], _all_alike)(values, with_samples):
        return
    found = " and ".join(str(x.shape) for x in values)
    raise ValueError(
        f"{row['name']}: found shapes {found}, which mix samples; wanted, in a module, inputs that "
        "each have the samples along their first axis"
    )


def _all_alike(values: Sequence[Value], with_samples: Sequence[bool]) -> bool:
    return all(with_samples)


def _take(values: Sequence[Value], with_samples: Sequence[bool]) -> bool:
    # Of both, NumPy would take every sample's indices from every sample.
    return not all(with_samples)


ELSEWHERE: dict[str, Callable[[Sequence[Value], Sequence[bool]], bool]] = {"take": _take}
"""Rows of several inputs, not all of which need to have samples."""
