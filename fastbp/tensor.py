"""`Tensor`: a NumPy array whose computations can be differentiated.

Here are the class and `apply`, the one way by which a row runs on tensors. What is recorded, and
how a pass goes back through it, is in autodiff.py; operators and the methods that are rows come
from ops/. It is long because every way into and out of the record says what is wrong where it is
taken wrongly. Subclasses have no place here: what a layer adds to a tensor, it keeps beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp import autodiff
from fastbp.autodiff import STATE, Entry, Leaf, Saved
from fastbp.ops import running
from fastbp.ops.operators import Operators
from fastbp.ops.running import INTEGERS, Attributes, Draws

Array = NDArray[Any]

# ------------------------------------------------------------------------------------- running rows


def apply(
    name: str,
    inputs: Sequence[Any],
    attrs: Attributes = (),
    *,
    draws: Draws = None,
    training: bool | None = None,
) -> Any:
    """Runs a row on tensors, arrays and numbers, and records it where a gradient is required.

    Parameters
    ----------
    name : str
        The row.
    inputs : sequence of Tensor, ndarray or number
        Its inputs; optional ones at the end may be left out.
    attrs : tuple of (name, value)
        Its attributes, for those away from their defaults; values are numbers or tuples of them.
    draws : tuple of (seed, step, stream), default=None
        For rows with random masks.
    training : bool, default=None
        Whether a row that differs between training and evaluation runs as in training. None: if
        it is being differentiated; so nobody trains in evaluation mode without having asked for it.

    Returns
    -------
    Tensor or tuple of Tensor
        As many as the row has results.
    """
    state = STATE.get()
    arrays: list[Any] = []
    dtype = cut = None
    traced = dual = False
    alike, numbers = not INTEGERS[name], []
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor):
            data = x._data
            if dtype is None:
                dtype = data.dtype
            elif data.dtype is not dtype:
                alike = False
            if x._entry is not None:
                traced = True
            if x._tangent is not None:
                dual = True
            if x._cut is not None:
                cut = x._cut
            arrays.append(data)
        else:
            numbers.append(i)
            alike = alike and isinstance(x, (float, int))
            arrays.append(x)
    if not alike or dtype is None:
        arrays, dtype = running.operands(name, arrays)
    else:
        for i in numbers:
            arrays[i] = np.array(arrays[i], dtype)
    node = running.node(name, dtype, tuple([a.shape for a in arrays]), attrs, INTEGERS[name])
    recorded, dual = traced and state.recording, dual and state.tangents
    if (recorded or dual) and True not in node.differentiable:
        recorded = dual = False
        cut = name
    elif traced and not recorded and not dual:
        cut = "no_grad()"
    if training is None:
        training = recorded or dual
    if training and draws is None and name in running.RANDOM:
        raise running.expect_draws(name)
    outputs = node.forward(arrays, draws=draws, training=training)
    results = [constant(data, cut) for data in outputs[: node.n_results]]
    tx = ty = None
    if dual:
        tx = [_tangent(node, i, x) for i, x in enumerate(inputs)]
        ty = node.tangent(arrays, outputs, tx, draws=draws, training=training)
        for result, tangent in zip(results, ty, strict=False):
            result._tangent = tangent
    if recorded:
        reads = zip(outputs, node.reads_outputs, strict=True)
        saved = Saved([], [y if read else None for y, read in reads], tx, ty)
        _record(Entry(node, saved, draws, training), inputs, arrays, results)
    return results[0] if len(results) == 1 else tuple(results)


def _record(
    entry: Entry, inputs: Sequence[Any], arrays: list[Array], results: list[Tensor]
) -> None:
    """Ties an entry to where its inputs came from, and the results to it."""
    node, x = entry.node, entry.saved.x
    for i, given in enumerate(inputs):
        read = node.reads_inputs[i]
        x.append(arrays[i] if read else None)
        if isinstance(given, Tensor) and given._entry is not None:
            if not node.differentiable[i]:
                raise _no_gradient(node, i)
            entry.add_parent(given._entry, given._place, read)
        else:
            entry.add_parent(None, 0, read)
    attach(results, entry)


def attach(results: Sequence[Tensor], entry: Entry) -> None:
    """Makes tensors the results of an entry of the record."""
    stretch = STATE.get().stretch
    if stretch is not None:
        stretch.enter(entry)
    for place, result in enumerate(results):
        # What the record holds is not to be written over by way of the result.
        result._data.flags.writeable = False
        result._entry, result._place = entry, place


def _tangent(node: Any, i: int, x: Any) -> Array | None:
    """The tangent of input i, if it has one."""
    tangent = x._tangent if isinstance(x, Tensor) else None
    if tangent is not None and not node.differentiable[i]:
        raise _no_gradient(node, i)
    return tangent


def _no_gradient(node: Any, i: int) -> TypeError:
    return TypeError(
        f"{node.name} has no gradient by its input {i}, {running.input_name(node.name, i)!r}, "
        "which requires one: detach() it if it is meant as a constant"
    )


def _own_data(data: Any, dtype: DTypeLike | None, *, copy: bool) -> Array:
    """`data` as a tensor holds it: C-contiguous, float32 or float64."""
    if isinstance(data, Tensor):
        raise TypeError("Tensor: found a tensor, wanted data; detach() makes a constant of it")
    if dtype is not None:
        if np.dtype(dtype) not in running.REALS:
            raise TypeError(f"Tensor: found dtype {np.dtype(dtype)}, wanted float32 or float64")
        data = np.asarray(data, dtype)
    made = running.reals(data, None, "Tensor: data")
    return made.copy() if copy and made is data else made


def constant(data: Array, cut: str | None = None) -> Tensor:
    """A tensor that requires no gradient; `cut` tells by what a path to it was cut, if one was."""
    made = _new(Tensor)
    made._data, made._entry, made._place, made._tangent, made._cut = data, None, 0, None, cut
    return made


# ------------------------------------------------------------------------------------------- tensor


class Tensor(Operators):
    """An array whose computations can be differentiated.

    Arithmetic, comparisons, indexing and broadcasting are NumPy's; a comparison gives a mask of
    zeros and ones, through which no gradient goes. A Python or NumPy number takes the dtype of the
    tensor beside it; two arrays of different dtypes are an error.

    Parameters
    ----------
    data : array_like
        Numbers. An array must be float32 or float64, or a mask of bools, which becomes zeros and
        ones; numbers in lists become float64. An array of integers is an error unless `dtype` is
        given, since labels and indices are no numbers to calculate with.
    requires_grad : bool, default=False
        Whether `backward` computes the gradient by this tensor, which is then a leaf and has a copy
        of the data. Without it, the tensor shares the memory of a C-contiguous array.
    dtype : float32 or float64, default=None
        To what the data is converted. None: not at all.

    Attributes
    ----------
    data : ndarray
        The array itself. What is written into it is not recorded: new values are assigned, or
        written in place, between `backward` and the next forward. A result that was recorded is
        read-only, since its backward may read it.
    grad : ndarray or None
        The gradient that `backward` left in a leaf, or in a result after `retain_grad`.
    requires_grad : bool
        Whether a gradient is computed; to be set on leaves only.

    Examples
    --------
    The gradient of the squared error of a logistic unit:

    >>> from fastbp import Tensor
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> w = Tensor([0.5, -0.3], requires_grad=True)
    >>> b = Tensor(0.1, requires_grad=True)
    >>> loss = (((w * x).sum() + b).logistic() - 1) ** 2
    >>> loss.backward()
    >>> w.grad.round(12), b.grad.round(12), x.grad.round(12)
    (array([-0.25, -0.5 ]), np.float64(-0.25), array([-0.125,  0.075]))
    """

    __slots__ = ("__weakref__", "_cut", "_data", "_entry", "_place", "_tangent")

    __fastbp_op__ = staticmethod(apply)

    _data: Array
    _entry: Entry | Leaf | None
    _place: int
    _tangent: Array | None
    _cut: str | None

    def __init__(
        self, data: Any, requires_grad: bool = False, *, dtype: DTypeLike | None = None
    ) -> None:
        self._data = _own_data(data, dtype, copy=requires_grad)
        self._entry = Leaf(self._data.shape) if requires_grad else None
        self._place = 0
        self._tangent = self._cut = None

    # ---- what it is ----

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, value: Array) -> None:
        if not isinstance(value, np.ndarray) or value.dtype != self._data.dtype:
            found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(f"data: found {found}, wanted an array of {self._data.dtype}")
        if value.shape != self._data.shape:
            raise ValueError(f"data: found shape {value.shape}, wanted {self._data.shape}")
        if isinstance(self._entry, Entry):
            raise ValueError("data: this is a recorded result, wanted a leaf or a constant")
        if value is self._data:  # as after tensor.data -= step
            self._changed()
        self._data = np.require(value, requirements=["C", "A"])

    def _changed(self) -> None:
        """The data was changed in place; what had read it before is told when it reads again."""
        if isinstance(self._entry, Leaf):
            self._entry.changes += 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, as of an array."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Its number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Its number of elements."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._data.dtype

    def __repr__(self) -> str:
        words = [np.array2string(self._data, separator=", ", prefix="Tensor(")]
        if self._data.dtype != np.float64:
            words.append(f"dtype={self._data.dtype}")
        if isinstance(self._entry, Leaf):
            words.append("requires_grad=True")
        elif self._entry is not None:
            words.append(f"made by {self._entry.name}")
        return f"Tensor({', '.join(words)})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves and constants are copied and pickled, with their gradient."""
        self._refuse_result("pickling and copying")
        return _restored, (self._data.copy(), self.requires_grad, self.grad)

    # ---- out of the record ----

    def item(self) -> float:
        """The only element, as a Python number, which is not recorded."""
        return float(self._data.item())

    def __float__(self) -> float:
        self._refuse("float()", "item() where the number alone is wanted")
        return self.item()

    def __int__(self) -> int:
        self._refuse("int()", "item() where the number alone is wanted")
        return int(self.item())

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(
                f"bool: found a tensor of shape {self.shape}, wanted one element; of a mask "
                "take .data.any() or .data.all()"
            )
        return bool(self._data.item())

    def numpy(self) -> Array:
        """The array, of a tensor that requires no gradient."""
        self._refuse("numpy()", "detach().numpy()")
        return self._data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        self._refuse("numpy.asarray", "detach() first, which says so in the code")
        return np.array(self._data, dtype=dtype, copy=copy)

    def _refuse(self, what: str, instead: str) -> None:
        """A path is not cut in silence."""
        if self._entry is not None or self._tangent is not None:
            raise TypeError(
                f"{what}: the tensor requires a gradient, and what is made of its array would not "
                f"be recorded; take {instead}"
            )

    def _refuse_result(self, what: str) -> None:
        if isinstance(self._entry, Entry) or self._tangent is not None:
            raise TypeError(f"{what}: found a recorded result, wanted a leaf; detach() gives one")

    def detach(self) -> Tensor:
        """The same data as a constant: no gradient goes through what is made of it."""
        traced = self._entry is not None or self._tangent is not None
        return constant(self._data, "detach()" if traced else self._cut)

    # ---- changes ----

    def __iadd__(self, other: Any) -> Tensor:
        return self._update(self + other)

    def __isub__(self, other: Any) -> Tensor:
        return self._update(self - other)

    def __imul__(self, other: Any) -> Tensor:
        return self._update(self * other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._update(self / other)

    def _update(self, value: Tensor) -> Tensor:
        """What `tensor += ...` leaves under this name: of a leaf the leaf, with new data."""
        if not isinstance(self._entry, Leaf):
            return value
        if STATE.get().recording:
            raise RuntimeError(
                "a leaf that requires a gradient is updated in place within no_grad() only, since "
                "the update is not recorded"
            )
        if value.shape != self.shape:
            raise ValueError(f"a leaf of shape {self.shape} cannot take values of {value.shape}")
        self._data[...] = value._data
        self._changed()
        return self

    def astype(self, dtype: DTypeLike) -> Tensor:
        """A constant of another dtype; nothing is recorded, so this one may require no gradient."""
        self._refuse("astype", "detach().astype(), or make the leaf of that dtype")
        return constant(_own_data(self._data, dtype, copy=True), self._cut)

    def _as_constant(self, what: str, instead: str) -> Tensor:
        """This tensor for an op that has no gradient, refused where one is required."""
        recording = STATE.get().recording and self._entry is not None
        if recording or self._tangent is not None:
            raise TypeError(
                f"{what} has no gradient, and the tensor requires one. As a constant it is had by "
                f"x.detach().{what}(), or within no_grad(). Otherwise {instead}"
            )
        return self.detach()

    # ---- gradients ----

    @property
    def requires_grad(self) -> bool:
        return self._entry is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if isinstance(self._entry, Entry):
            raise ValueError(
                "requires_grad: found a result of recorded ops, wanted a leaf; detach() gives one"
            )
        if value and self._entry is None:
            self._entry, self._cut = Leaf(self._data.shape), None
        elif not value and self._entry is not None:
            self._entry.active = False
            self._entry = None

    @property
    def is_leaf(self) -> bool:
        """Whether it is no result of recorded ops."""
        return not isinstance(self._entry, Entry)

    def _leaf(self) -> Leaf | None:
        """Where its gradient is, if anywhere."""
        if isinstance(self._entry, Entry):
            return (self._entry.kept or {}).get(self._place)
        return self._entry

    @property
    def grad(self) -> Array | Any:  # Any: None before backward, which is not asked at each use
        leaf = self._leaf()
        if leaf is None:
            if self._entry is not None:
                raise RuntimeError(
                    "grad: found a result, which keeps its gradient only after retain_grad()"
                )
            return None
        if leaf.filled_by is not None:
            leaf.filled_by.read = True
        return leaf.gradient

    @grad.setter
    def grad(self, value: Array | None) -> None:
        leaf = self._leaf()
        if leaf is None:
            raise RuntimeError("grad: found a tensor without one, wanted one that requires it")
        if value is not None:
            if not isinstance(value, np.ndarray) or value.dtype != self._data.dtype:
                found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
                raise TypeError(f"grad: found {found}, wanted None or an array of {self.dtype}")
            if value.shape != self._data.shape:
                raise ValueError(f"grad: found shape {value.shape}, wanted {self._data.shape}")
        leaf.gradient, leaf.filled_by = value, None

    def retain_grad(self) -> None:
        """Has `backward` leave a gradient in this result, as it does in leaves."""
        if self._entry is None:
            raise RuntimeError(f"retain_grad: the tensor requires no gradient{self._why()}")
        if isinstance(self._entry, Entry):
            self._entry.kept = self._entry.kept or {}
            self._entry.kept.setdefault(self._place, Leaf(self._data.shape))

    def _why(self) -> str:
        return f": its path was cut by {self._cut}" if self._cut else ""

    def backward(
        self,
        gradient: Any = None,
        *,
        retain_graph: bool = False,
        accumulate: bool | None = None,
    ) -> None:
        """Compute the gradient by every leaf that this tensor depends on.

        Gradients replace those of an earlier call, so that none has to be cleared. Should none of
        the gradients of that call have been read, this one is an error, since one of the two was
        in vain; `accumulate` says what is meant.

        Parameters
        ----------
        gradient : array_like of this tensor's shape, default=None
            The gradient of whatever is differentiated by this tensor. None: 1, for a tensor of one
            element.
        retain_graph : bool, default=False
            Whether the record stays for another call; else its memory is freed on the way.
        accumulate : bool, default=None
            True adds to the gradients that leaves have, False replaces them whether read or not.

        Raises
        ------
        RuntimeError
            Where the tensor depends on no leaf that requires a gradient, with the reason; where the
            record was freed by an earlier call; and where a gradient would be lost unread.
        """
        if self._entry is None:
            raise RuntimeError(
                "backward: the tensor depends on no leaf that requires a gradient"
                + (self._why() or "; none of its inputs had requires_grad=True")
            )
        if gradient is None:
            if self._data.size != 1:
                raise ValueError(
                    f"backward: found a tensor of shape {self.shape}, wanted one element, or the "
                    "gradient to begin with; a loss is summed or averaged first"
                )
            start = np.ones(self.shape, self.dtype)
        else:
            start = running.reals(gradient, self.dtype, "backward: the gradient")
            if start.shape != self.shape:
                raise ValueError(
                    f"backward: found a gradient of shape {start.shape}, wanted {self.shape}"
                )
        walk = autodiff.Walk(retain=retain_graph)
        autodiff.fill(walk.run([(self._entry, self._place, start)]), accumulate)


_new = Tensor.__new__


def _restored(data: Array, requires_grad: bool, gradient: Array | None) -> Tensor:
    """A tensor out of a pickle."""
    made = Tensor(data)
    made.requires_grad = requires_grad
    if gradient is not None:
        made.grad = gradient
    return made
