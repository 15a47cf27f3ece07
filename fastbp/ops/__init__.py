"""Functions of tensors and arrays: every row of the engine's table, and a few compositions.

`fastbp.ops.exp(x)`, `fastbp.ops.softmax(x, axis=-1)` and so on are made from the table, with its
lines as their documentation; `help(fastbp.ops)` lists them. Functions of arrays give arrays; where
an argument is a `Tensor` the result is one, and is recorded if a gradient is required.
"""

from typing import TYPE_CHECKING, Any

from fastbp.ops.composed import concatenate as concatenate
from fastbp.ops.composed import matmul as matmul
from fastbp.ops.composed import pick as pick
from fastbp.ops.composed import reshape as reshape
from fastbp.ops.composed import stack as stack
from fastbp.ops.composed import var as var
from fastbp.ops.making import FUNCTIONS

COMPOSED = {f.__name__: f for f in (concatenate, matmul, pick, reshape, stack, var)}

if TYPE_CHECKING:
    from collections.abc import Callable

    def __getattr__(name: str) -> Callable[..., Any]: ...


# The last lines, since the table has a `sum` and a `max`, which hide those of Python.
globals().update(FUNCTIONS | COMPOSED)
__all__ = sorted(FUNCTIONS | COMPOSED)
