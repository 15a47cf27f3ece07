"""`Operators`: Python's operators and NumPy's methods, each of them a row of the table.

A mixin for what runs rows in its own way (`__fastbp_op__`, see running.py): here is what is said
with an operator, nothing of what it computes or records. Rows of one operand become methods by
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp.ops import composed
from fastbp.ops.making import FUNCTIONS, listed
from fastbp.ops.running import ROWS


class Operators:
    """Arithmetic, comparisons, indexing and shapes, as an array has them."""

    __slots__ = ()

    # NumPy's operators leave an array beside this to it.
    __array_ufunc__ = None

    # Whether it runs rows that others are operands of too, whichever stands first.
    __fastbp_first__ = False

    if TYPE_CHECKING:
        __fastbp_op__: Callable[..., Any]

        @property
        def shape(self) -> tuple[int, ...]: ...

        def numpy(self) -> NDArray[Any]: ...

        def _as_constant(self, what: str, instead: str) -> Self: ...

        # The methods that are rows.
        def __getattr__(self, name: str) -> Callable[..., Self]: ...

    # ---- arithmetic ----

    def _run(self, name: str, left: Any, right: Any) -> Any:
        """A row of two operands, unless the other one is nothing that has numbers."""
        other = right if left is self else left
        if isinstance(other, _OPERANDS):
            if isinstance(other, Operators) and other.__fastbp_first__:
                return other.__fastbp_op__(name, (left, right))
            return self.__fastbp_op__(name, (left, right))
        return NotImplemented

    def __neg__(self) -> Any:
        return self.__fastbp_op__("negative", (self,))

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.__fastbp_op__("absolute", (self,))

    def __add__(self, other: Any) -> Any:
        return self._run("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._run("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._run("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._run("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._run("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._run("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._run("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._run("divide", other, self)

    def __pow__(self, exponent: Any) -> Any:
        if not isinstance(exponent, Real):
            raise TypeError(
                f"**: found {type(exponent).__name__} as exponent, wanted a number; a power by a "
                "tensor y is (y * x.log()).exp(), where x > 0"
            )
        if exponent == 2:
            return self.__fastbp_op__("square", (self,))
        return self.__fastbp_op__("power", (self,), (("exponent", float(exponent)),))

    def __rpow__(self, base: Any) -> Any:
        raise TypeError("**: found a tensor as exponent; a power of b is (x * log(b)).exp()")

    def __matmul__(self, other: Any) -> Any:
        return composed.matmul(self, other) if isinstance(other, _OPERANDS) else NotImplemented

    def __rmatmul__(self, other: Any) -> Any:
        return composed.matmul(other, self) if isinstance(other, _OPERANDS) else NotImplemented

    # ---- comparisons ----

    def __lt__(self, other: Any) -> Any:
        return self._run("less", self, other)

    def __le__(self, other: Any) -> Any:
        return self._run("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return self._run("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return self._run("greater_equal", self, other)

    def __eq__(self, other: Any) -> Any:
        return self._run("equal", self, other)

    def __ne__(self, other: Any) -> Any:
        return self._run("not_equal", self, other)

    __hash__ = object.__hash__

    # ---- elements ----

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            return composed.pick(self, tuple(_as_index(part) for part in key))
        return composed.pick(self, _as_index(key))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: found no axes, wanted at least one")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    # ---- shapes ----

    def reshape(self, *shape: Any) -> Any:
        """The same elements in another shape, given as numbers or as a tuple; -1 is the rest."""
        return composed.reshape(self, shape[0] if len(shape) == 1 else shape)

    def flatten(self) -> Any:
        """All elements along one axis."""
        return composed.reshape(self, -1)

    def transpose(self, *axes: Any) -> Any:
        """The axes in another order, given as numbers or as a tuple; reversed if there is none."""
        order = listed(axes[0]) if len(axes) == 1 else axes
        order = order or tuple(reversed(range(len(self.shape))))
        return self.__fastbp_op__("transpose", (self,), (("axes", order),))

    @property
    def T(self) -> Any:
        """The axes in reversed order."""
        return self.transpose()

    var = composed.var

    # ---- what has no gradient ----

    def argmax(self, axis: int | None = None) -> Any:
        """Places of the largest elements, as integers of NumPy."""
        softly = "a choice with a gradient is a sum weighted by softmax(x)"
        return self._as_constant("argmax", softly).numpy().argmax(axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Places of the smallest elements, as integers of NumPy."""
        softly = "a choice with a gradient is a sum weighted by softmax(-x)"
        return self._as_constant("argmin", softly).numpy().argmin(axis)

    def argsort(self, axis: int = -1) -> NDArray[np.intp]:
        """The order that sorts, as integers of NumPy; equal elements stay in theirs."""
        in_order = "take_along(x, x.detach().argsort(axis), axis) sorts with the values' gradient"
        return self._as_constant("argsort", in_order).numpy().argsort(axis, kind="stable")

    def sort(self, axis: int = -1) -> NDArray[Any]:
        """The elements in rising order, as an array."""
        in_order = "take_along(x, x.detach().argsort(axis), axis) sorts with the values' gradient"
        return np.sort(self._as_constant("sort", in_order).numpy(), axis)

    def round(self, decimals: int = 0) -> NDArray[Any]:
        """The nearest integers, or multiples of 10 ** -decimals, as an array."""
        straight = "a Function with check=False rounds and passes the gradient straight through"
        return self._as_constant("round", straight).numpy().round(decimals)


# What an operator takes on its other side; to anything else Python lets that one speak.
_OPERANDS = (Operators, float, int, np.ndarray, list, tuple, Real)


def _as_index(key: Any) -> Any:
    """A part of an index; a mask of zeros and ones becomes one of bools."""
    if not isinstance(key, Operators):
        return key
    numbers = key.numpy()
    mask = numbers != 0
    if not np.array_equal(mask, numbers):
        raise IndexError("index: found a tensor of numbers, wanted a mask or arrays of integers")
    return mask


for _name, _function in FUNCTIONS.items():
    _row = ROWS[_name]
    if _row["least_inputs"] == 1 == len(_row["inputs"]) and _name not in vars(Operators):
        setattr(Operators, _name, _function)
