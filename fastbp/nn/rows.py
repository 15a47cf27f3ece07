"""The engine's table as Python looks rows up: by kind and name, with attributes checked.

Reads `_core.table()` once, at import. It types no row's name: a row added in C is here by itself.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from fastbp import _core

Row = Mapping[str, Any]
"""One row of the table, as `_core.table()` describes it."""

_TABLE: dict[str, dict[str, Row]] = {}
for _row in _core.table():
    _TABLE.setdefault(_row["kind"], {})[_row["name"]] = _row


def rows(kind: str) -> Mapping[str, Row]:
    """The rows of one kind ("op", "activation", "loss" or "rule") by name, in the table's order."""
    return _TABLE[kind]


def check_attributes(
    row: Row, given: Mapping[str, object] | None, *, argument: str, user_name: str
) -> dict[str, float]:
    """The attributes of `row` that are `given`, as floats; the engine knows the defaults of the
    rest.

    Raises a ValueError that names `argument`, and the row by the name under which the user chose
    it, where `given` is no mapping, an attribute is not the row's, or a value is no number of its
    range.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{argument} must be a dict of numbers by name, or None; got {given!r} instead."
        )
    known = {attr["name"]: attr for attr in row["attrs"]}
    checked = {}
    for name, value in given.items():
        if name not in known:
            takes = ", ".join(repr(n) for n in known) or "no parameters"
            raise ValueError(f"{argument} names {name!r}; {user_name!r} takes {takes}.")
        if not _within(value, known[name]):
            raise ValueError(
                f"{argument}[{name!r}] must be a number in {_interval(known[name])} for"
                f" {user_name!r}; got {value!r} instead."
            )
        checked[name] = float(value)  # type: ignore[arg-type]  # _within has seen that it is Real
    return checked


def _within(value: object, attr: Mapping[str, Any]) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        return False
    above = value > attr["low"] if attr["low_open"] else value >= attr["low"]
    below = value < attr["high"] if attr["high_open"] else value <= attr["high"]
    return bool(above and below)


def _interval(attr: Mapping[str, Any]) -> str:
    """The range of an attribute in the notation of intervals, such as "(0, inf)"."""
    left = "(" if attr["low_open"] or math.isinf(attr["low"]) else "["
    right = ")" if attr["high_open"] or math.isinf(attr["high"]) else "]"
    return f"{left}{attr['low']:g}, {attr['high']:g}{right}"
