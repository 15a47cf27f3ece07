"""Rows of the table run on arrays: nodes from a cache, operands brought into the engine's form.

An argument that is no array or number may know better how to run a row, as a `Tensor` does; `call`
asks it (`__fastbp_op__`, a protocol like NumPy's `__array_function__`). So nothing here knows of
tensors or gradients, and both can lie above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _core

Array = NDArray[Any]

Row = Mapping[str, Any]
"""A row of the table, as `_core.table()` describes it."""

Attributes = tuple[tuple[str, Any], ...]
"""Attributes of a row as pairs of name and value; a value is a number or a tuple of them."""

Draws = tuple[int, int, int] | None
"""(seed, step, stream): what random masks are functions of."""


def _runs_as_a_node(row: Row) -> bool:
    return row["kind"] != "rule" and bool(row["inputs"]) and not row["reads_sparse"]


ROWS: Mapping[str, Row] = MappingProxyType(
    {row["name"]: row for row in _core.table() if _runs_as_a_node(row)}
)
"""The rows that run on arrays, by name."""

# ------------------------------------------------------------------------------------------- nodes

# Those of one training step come again in the next. A node takes about 5 KB.
NODES = 1024


@lru_cache(maxsize=NODES)
def node(
    name: str,
    dtype: np.dtype[Any],
    shapes: tuple[tuple[int, ...], ...],
    attrs: Attributes = (),
    indices: tuple[int, ...] = (),
) -> _core.Node:
    """The row `name` as a node on arrays of these shapes, from a cache."""
    return _core.Node(name, shapes, dtype=dtype, attrs=dict(attrs), indices=indices)


# ---------------------------------------------------------------------------------------- operands

REALS = (np.dtype(np.float32), np.dtype(np.float64))

INTEGERS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {name: row["indices"] for name, row in ROWS.items()}
)
"""Which inputs of a row are integers."""


def input_name(name: str, place: int) -> str:
    """What the table calls an input; of any number of them, the last name is that of the rest."""
    names = ROWS[name]["inputs"]
    return str(names[min(place, len(names) - 1)])


def operands(name: str, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype[Any]]:
    """The arrays on which the row `name` runs, and the dtype of those that are real.

    Numbers, also in lists, and masks take the dtype of the arrays, float64 where there is none.
    Arrays keep theirs, and two different ones are an error: whichever were taken, half of the
    digits or half of the speed would go unasked.
    """
    dtype = None
    at = INTEGERS[name]
    for i, value in enumerate(inputs):
        if i not in at and isinstance(value, np.ndarray) and value.dtype in REALS:
            dtype = value.dtype
            break
    arrays = []
    for i, value in enumerate(inputs):
        where = f"{name}: {input_name(name, i)}"
        arrays.append(integers(value, where) if i in at else reals(value, dtype, where))
    return arrays, dtype or np.dtype(np.float64)


def reals(value: Any, dtype: np.dtype[Any] | None, where: str) -> Array:
    """`value` as a C-contiguous array of `dtype`, or of its own where that is None."""
    if isinstance(value, np.ndarray):
        found = value.dtype
        if found == dtype or (dtype is None and found in REALS):
            flags = value.flags
            return value if flags.c_contiguous and flags.aligned else np.array(value, order="C")
        if found.kind != "b":
            wanted = "float32 or float64" if dtype is None else f"{dtype} as of the others"
            raise TypeError(f"{where} has dtype {found}, wanted {wanted}; astype converts it")
    elif not isinstance(value, Real):
        value = np.asarray(value)
        if value.dtype.kind not in "bif":
            raise TypeError(f"{where} holds values of dtype {value.dtype}, wanted real numbers")
    if dtype is None:
        dtype = REALS[0] if isinstance(value, np.float32) else REALS[1]
    return np.array(value, dtype, order="C")


def integers(value: Any, where: str) -> Array:
    """`value` as a C-contiguous int32 array."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu" and array.size > 0:
        raise TypeError(f"{where} has dtype {array.dtype}, wanted integers")
    if array.size > 0 and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise IndexError(f"{where} has integers beyond 2**31")
    return np.array(array, np.int32, order="C")


# ----------------------------------------------------------------------------------------- running

RANDOM = frozenset(name for name, row in ROWS.items() if row["random"])
"""The rows that draw random masks in training."""


def expect_draws(name: str) -> ValueError:
    """The error of a random row that got nothing to draw from."""
    return ValueError(
        f"{name}: found no draws in training, wanted (seed, step, stream), another for each call: "
        "random masks are functions of them"
    )


def call(
    name: str,
    inputs: Sequence[Any],
    attrs: Attributes = (),
    *,
    draws: Draws = None,
    training: bool | None = None,
) -> Any:
    """The row `name` on whatever the inputs are: by them, if one of them knows how, else on arrays.

    Optional inputs at the end may be left out, attributes that are at their defaults too.
    """
    own = None
    for value in inputs:
        kind = type(value)
        if hasattr(kind, "__fastbp_op__") and (own is None or kind.__fastbp_first__):
            own = kind.__fastbp_op__
    if own is not None:
        return own(name, inputs, attrs, draws=draws, training=training)
    arrays, dtype = operands(name, inputs)
    made = node(name, dtype, tuple(a.shape for a in arrays), attrs, INTEGERS[name])
    if training and draws is None and name in RANDOM:
        raise expect_draws(name)
    results = made.forward(arrays, draws=draws, training=bool(training))[: made.n_results]
    return results[0] if len(results) == 1 else tuple(results)
