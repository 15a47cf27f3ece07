"""Functions made from the rows of the table: their signatures, docstrings and bodies.

A function is made as text and compiled, as dataclasses make theirs, so that `help`, signatures and
complaints about wrong arguments are those of any Python function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastbp.ops.running import INTEGERS, ROWS, Row, call, input_name

Attribute = dict[str, Any]


def listed(value: Any) -> tuple[Any, ...]:
    """One number, several, or None for none as the tuple that is an attribute."""
    if value is None:
        return ()
    try:
        return tuple(value)
    except TypeError:
        return (value,)


def _is_flag(attr: Attribute) -> bool:
    return attr["whole"] and (attr["low"], attr["high"]) == (0, 1) and not attr["counts"]


def _default(attr: Attribute) -> Any:
    """The default in Python; `...` where a value has to be given."""
    value = attr["default"]
    if attr["counts"] and attr["counts"][0] == 0:
        return None
    if math.isnan(value):
        return ...
    if _is_flag(attr):
        return bool(value)
    return int(value) if attr["whole"] else value


def _parameter(row: Row, attr: Attribute) -> str:
    """The attribute's name in Python: the axes that a reduction takes are NumPy's `axis`."""
    reduces = any(other["name"] == "keepdims" for other in row["attrs"])
    return "axis" if attr["name"] == "axes" and reduces else str(attr["name"])


def _type(attr: Attribute) -> str:
    word = "bool" if _is_flag(attr) else "int" if attr["whole"] else "float"
    return f"{word} or sequence of {word}" if attr["counts"] else word


_OF_RANDOM = (
    "draws : tuple of (seed, step, stream), default=None",
    "    What the random mask is a function of, another tuple for each call; wanted in training.",
    "training : bool, default=None",
    "    Whether there is a mask. None: if the result is being differentiated.",
)


def _document(row: Row, inputs: list[str], required: int) -> str:
    lines = [f"{row['doc']}.", "", "Parameters", "----------"]
    for i, name in enumerate(inputs):
        kind = "array_like of int" if i in INTEGERS[row["name"]] else "Tensor or array_like"
        lines.append(f"{name} : {kind}" + ("" if i < required else ", default=None"))
    for attr in row["attrs"]:
        default = _default(attr)
        suffix = "" if default is ... else f", default={default}"
        lines += [f"{_parameter(row, attr)} : {_type(attr)}{suffix}", f"    {attr['doc']}."]
    if row["random"]:
        lines += _OF_RANDOM
    return "\n".join([*lines, "", "Returns", "-------", "Tensor", "    Or an array, of arrays."])


def _given(name: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs up to the last that is not left out; the engine tells them by their places."""
    n = len(inputs)
    while n > 0 and inputs[n - 1] is None:
        n -= 1
    for i in range(n):
        if inputs[i] is None:
            words = f"{input_name(name, i)} is None beside {input_name(name, n - 1)}"
            raise TypeError(f"{name}: {words}, wanted both or neither")
    return inputs[:n]


def make(row: Row) -> Callable[..., Any]:
    """The row as a function: of its inputs, then of its attributes."""
    name = str(row["name"])
    known: dict[str, Any] = {"_call": call, "_listed": listed, "_given": _given}
    inputs, required = list(row["inputs"]), row["least_inputs"]
    parameters = [text if i < required else f"{text}=None" for i, text in enumerate(inputs)]
    if len(inputs) > required and row["attrs"]:
        parameters.append("*")
    pairs = []
    for attr in sorted(row["attrs"], key=lambda attr: _default(attr) is not ...):
        word, default = _parameter(row, attr), _default(attr)
        known[f"_{word}"] = default
        parameters.append(word if default is ... else f"{word}=_{word}")
        value = f"_listed({word})" if attr["counts"] else word
        pairs.append(f"({attr['name']!r}, {value}),")
    given = f"({', '.join(inputs)},)"
    if len(inputs) > required:
        given = f"_given({name!r}, {given})"
    options = ""
    if row["random"]:
        parameters += [*(["*"] if "*" not in parameters else []), "draws=None", "training=None"]
        options = ", draws=draws, training=training"
    body = f"return _call({name!r}, {given}, ({' '.join(pairs)}){options})"
    exec(f"def {name}({', '.join(parameters)}):\n    {body}", known)
    function: Callable[..., Any] = known[name]
    function.__module__ = "fastbp.ops"
    function.__doc__ = _document(row, inputs, required)
    return function


FUNCTIONS: dict[str, Callable[..., Any]] = {name: make(row) for name, row in ROWS.items()}
"""Every row that runs on arrays, as a function."""
