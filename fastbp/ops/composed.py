"""The few functions that are compositions of rows, with NumPy's meaning.

They run rows by `call` alone, so that tensors record them as they record any row.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.ops.making import listed
from fastbp.ops.running import ROWS, call

Shape = tuple[int, ...]


def _shape(x: Any) -> Shape:
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def reshape(x: Any, shape: int | Sequence[int]) -> Any:
    """The same elements in another shape, of which one length may be -1: whatever is left.

    Parameters
    ----------
    x : Tensor or array_like
    shape : int or sequence of int
        With as many elements as x has.

    Returns
    -------
    Tensor
        Or an array, of an array.

    Raises
    ------
    ValueError
        Where the number of elements differs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import ops
    >>> ops.reshape(np.zeros((2, 6)), (3, -1)).shape
    (3, 4)
    """
    wanted, found = list(listed(shape)), _shape(x)
    if wanted.count(-1) == 1:
        rest = _product(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = _product(found) // rest if rest > 0 else 0
    if min(wanted, default=0) < 0 or _product(wanted) != _product(found):
        raise ValueError(f"reshape: found shape {found}, which has no form {tuple(listed(shape))}")
    return call("reshape", (x,), (("shape", tuple(wanted)),))


def _product(numbers: Any) -> int:
    product = 1
    for n in numbers:
        product *= int(n)
    return product


def matmul(a: Any, b: Any) -> Any:
    """The matrix product a @ b, of stacks of matrices, with NumPy's rules for vectors.

    Parameters
    ----------
    a : Tensor or array_like of shape (..., n, k) or (k,)
    b : Tensor or array_like of shape (..., k, m) or (k,)
        The leading axes of both broadcast.

    Returns
    -------
    Tensor of shape (..., n, m)
        Without the axis that a vector does not have. An array, of arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import ops
    >>> ops.matmul(np.array([1.0, 2.0]), np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]))
    array([1., 2., 4.])
    """
    left, right = _shape(a), _shape(b)
    if not left or not right:
        raise ValueError(f"matmul: found shapes {left} and {right}, wanted no numbers; * scales")
    if len(left) == 1:
        a = reshape(a, (1, *left))
    if len(right) == 1:
        b = reshape(b, (*right, 1))
    # Of one matrix on the right, all rows on the left are alike: a layer without bias.
    product = call("linear" if len(right) <= 2 else "matmul", (a, b))
    if len(left) > 1 and len(right) > 1:
        return product
    shape = _shape(product)
    rows = shape[:-2] if len(left) == 1 else shape[:-1]
    return reshape(product, rows if len(right) == 1 else (*rows, shape[-1]))


def concatenate(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Arrays of the same shape but for one axis, one after the other along it.

    Parameters
    ----------
    arrays : sequence of Tensor or array_like
        At least one.
    axis : int, default=0
        Counted from the end where it is negative.

    Returns
    -------
    Tensor
        Or an array, of arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import ops
    >>> ops.concatenate([np.zeros((2, 1)), np.ones((2, 2))], axis=1)
    array([[0., 1., 1.],
           [0., 1., 1.]])
    """
    rest, most = list(arrays), len(ROWS["concatenate"]["inputs"])
    attrs = (("axis", axis),)
    while len(rest) > most:  # as many at a time as the row takes
        parts = [rest[i : i + most] for i in range(0, len(rest), most)]
        rest = [call("concatenate", part, attrs) for part in parts]
    return call("concatenate", rest, attrs)


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Arrays of the same shape along a new axis.

    Parameters
    ----------
    arrays : sequence of Tensor or array_like
        At least one.
    axis : int, default=0
        Where the new axis is in the result.

    Returns
    -------
    Tensor
        Or an array, of arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import ops
    >>> ops.stack([np.zeros(3), np.ones(3)], axis=1).shape
    (3, 2)
    """
    widened = []
    for x in arrays:
        shape = _shape(x)
        if not -len(shape) - 1 <= axis <= len(shape):
            raise ValueError(f"stack: found axis {axis} for arrays of shape {shape}")
        place = axis if axis >= 0 else axis + len(shape) + 1
        widened.append(reshape(x, (*shape[:place], 1, *shape[place:])))
    return concatenate(widened, axis)


def var(x: Any, axis: Any = None, keepdims: bool = False, correction: int = 0) -> Any:
    """The variance: the mean squared distance from the mean, where n - correction count.

    Parameters
    ----------
    x : Tensor or array_like
    axis : int or sequence of int, default=None
        Over which axes; None is all.
    keepdims : bool, default=False
        Whether these axes stay, with length 1.
    correction : int, default=0
        What is taken off the number of elements: 1 for the unbiased estimate of a sample.

    Returns
    -------
    Tensor
        Or an array, of an array.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import ops
    >>> float(ops.var(np.array([1.0, 2.0, 3.0, 4.0])))
    1.25
    """
    axes = (("axes", listed(axis)),)
    centred = call("subtract", (x, call("mean", (x,), (*axes, ("keepdims", 1)))))
    found = call("mean", (call("square", (centred,)),), (*axes, ("keepdims", int(keepdims))))
    if correction == 0:
        return found
    n = _product(_shape(x)) // max(1, _product(_shape(found)))
    if n <= correction:
        raise ValueError(f"var: found {n} elements, wanted more than the correction {correction}")
    return call("multiply", (found, n / (n - correction)))


# ---------------------------------------------------------------------------------------- indexing


def pick(x: Any, key: Any) -> Any:
    """x[key] with NumPy's meaning: slices, integers, None, `...`, masks and arrays of integers.

    Parameters
    ----------
    x : Tensor or array_like
    key : int, slice, None, Ellipsis, ndarray of int or bool, or tuple of these
        The index.

    Returns
    -------
    Tensor
        A copy, also of slices; or an array, of an array.

    Raises
    ------
    IndexError
        Where NumPy raises it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import ops
    >>> ops.pick(np.arange(6.0).reshape(2, 3), (slice(None), [2, 0]))
    array([[2., 0.],
           [5., 3.]])
    """
    shape = _shape(x)
    keys = key if isinstance(key, tuple) else (key,)
    if all(map(_is_basic, keys)):
        return _pick_basic(x, shape, keys)
    axis = len(keys) - 1
    if all(map(_is_whole, keys[:-1])) and _is_integers(keys[-1]) and axis < len(shape):
        rows = np.arange(shape[axis])[keys[-1]]  # NumPy's errors, its meaning of negative numbers
        return call("take", (x, rows), (("axis", axis),))
    sizes = tuple(map(index, shape))
    places: NDArray[Any] = np.arange(_product(sizes)).reshape(sizes)[key]
    return call("take", (reshape(x, (-1,)), places), (("axis", 0),))


def _is_basic(part: Any) -> bool:
    if isinstance(part, (int, np.integer)):
        return not isinstance(part, bool)  # which makes a mask
    return part is None or part is ... or isinstance(part, slice)


def _is_whole(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


def _is_integers(key: Any) -> bool:
    return np.asarray(key).dtype.kind in "iu"


def _pick_basic(x: Any, shape: Shape, keys: tuple[Any, ...]) -> Any:
    """Slices, integers, new axes and `...`: a part of each axis, then another shape."""
    keys = _spelt_out(shape, keys)
    starts, steps, counts, result = [], [], [], []
    axis = 0
    for part in keys:
        if part is None:
            result.append(1)
            continue
        n = shape[axis]
        if _is_whole(part):
            start, step, count = 0, 1, n
            result.append(n)
        elif isinstance(part, slice):
            start, stop, step = part.indices(n)
            count = len(range(start, stop, step))
            result.append(count)
        else:
            if not -n <= part < n:
                raise IndexError(f"index {part} is out of bounds for axis {axis} with size {n}")
            start, step, count = int(part) % n, 1, 1
        starts.append(start if count else 0)
        steps.append(step)
        counts.append(count)
        axis += 1
    if tuple(counts) != shape or any(step < 0 for step in steps):
        lists = (("starts", tuple(starts)), ("steps", tuple(steps)), ("counts", tuple(counts)))
        x = call("index", (x,), lists)
    return x if result == counts else reshape(x, tuple(result))


def _spelt_out(shape: Shape, keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """The keys with `...`, and what is missing at the end, as whole slices."""
    given = sum(part is not None and part is not ... for part in keys)
    dots = sum(part is ... for part in keys)
    if given > len(shape) or dots > 1:
        what = "more than one '...'" if dots > 1 else f"{given} indices"
        raise IndexError(f"index: found {what} for an array of shape {shape}")
    whole = (slice(None),) * (len(shape) - given)
    if dots == 0:
        return (*keys, *whole)
    place = next(i for i, part in enumerate(keys) if part is ...)
    return (*keys[:place], *whole, *keys[place + 1 :])
