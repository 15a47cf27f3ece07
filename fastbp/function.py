"""`Function`: an op written in Python, with a backward of its own.

Its arrays are NumPy's; the record treats it as any row. At its first use in training its backward
is held against finite differences, since a Jacobian that is wrong trains in silence. How
differences are taken, and when they count, is in gradcheck.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.autodiff import STATE, Entry, Maybe
from fastbp.gradcheck import TOLERANCE, Vector, compare
from fastbp.gradreport import TensorCheck
from fastbp.ops.running import REALS
from fastbp.tensor import Tensor, attach, constant

Array = NDArray[Any]

# Elements of an argument that are checked: enough to meet a mistake that most of them have. What
# only a few have shows in the directions, along which all elements change.
ELEMENTS, DIRECTIONS = 50, 5


class Context:
    """What `forward` leaves for `backward`.

    Attributes
    ----------
    saved : tuple
        What was given to `save_for_backward`.
    needs_input_grad : tuple of bool
        Whether each argument's gradient is wanted; `backward` may return None for the others.
    """

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.saved: tuple[Any, ...] = ()
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *arrays: Any) -> None:
        """Keeps arrays until backward has run."""
        self.saved = arrays


class Function:
    """The base class of ops written in Python.

    A subclass has two static methods. `forward(ctx, *args)` gets arrays in place of tensors, which
    are read-only, and everything else as it was given; it returns an array, or a tuple of arrays,
    of the dtype of its inputs (of integers alone, where there is no gradient: of any reals, in a
    network of its dtype). `backward(ctx, *gradients)` gets the gradient of each result and
    returns the gradient of each argument, in a tuple if there are several; None is zero, and stands
    for arguments that are no tensors. `ctx.save_for_backward(...)` keeps arrays, `ctx.saved` has
    them. The op is run by `apply`.

    At the first `apply` that is recorded, `backward` is checked: in float64, at the inputs of that
    call, against central differences of `forward` by up to 50 elements of each argument and along
    5 directions through all of them. A wrong one raises a ValueError that names the worst element.
    That runs `forward` a few hundred times, so it must do nothing but compute. `check=False` in the
    class statement leaves the check out: for a backward that is no derivative on purpose, as that
    of a straight-through estimator, and for a `forward` that has side effects.
    Compiled code (ctypes, Cython, Numba) may do the work: for both dtypes, as the check has it.

    In a network that is compiled it runs with the same bits: in training once a batch, on the whole
    of it, and once in predict, on all samples of the call; threads meet before it and behind it. To
    find the shapes of its results `forward` runs on random numbers, for 2 and for 3 samples. If any
    tensor that it gets is of samples, each result has them along its first axis, as many; otherwise
    it runs once a step. What it gets are copies, its own to keep; an exception in it ends the step
    before any weight changes. A `forward` that couples samples makes predictions depend on those
    that are made together, and one that calls BLAS may do so in the last bits. There are no
    tangents. In a compiled network it takes at most 8 tensors and yields at most 4. It runs once
    more where it is in a checkpoint, for each batch of a step of several, and where the source of a
    number that is not finite is looked for. In training in precision "fp16" the gradients that
    `backward` gets are those of the scaled loss, as large as `FitResult.loss_scale` says.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Function, Tensor
    >>> class Cube(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         (x,) = ctx.saved
    ...         return 3 * x * x * dy
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> Cube.apply(x).sum().backward()
    >>> x.grad
    array([ 3., 12.])

    Rounding has the derivative 0, which teaches nothing. A straight-through estimator (Bengio,
    Leonard and Courville, 2013, arXiv:1308.3432) passes the gradient on as if nothing had been
    rounded:

    >>> class Round(Function, check=False):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return np.round(x)
    ...
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         return dy
    >>> x = Tensor([0.4, 1.6], requires_grad=True)
    >>> (Round.apply(x) * 3).sum().backward()
    >>> x.grad
    array([3., 3.])
    """

    _unchecked = True

    def __init_subclass__(cls, *, check: bool = True, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._unchecked = check

    # Type checkers let methods of any arguments be overridden by those of some; **_ makes it any.

    @staticmethod
    def forward(ctx: Context, *args: Any, **_: Any) -> Any:
        """The results."""
        raise NotImplementedError("a Function has to have a static method `forward`")

    @staticmethod
    def backward(ctx: Context, *gradients: Any, **_: Any) -> Any:
        """The gradients of the arguments."""
        raise NotImplementedError("a Function has to have a static method `backward`")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the op.

        Parameters
        ----------
        *args : Tensor or anything else
            Tensors are what can be differentiated by.

        Returns
        -------
        Tensor or tuple of Tensor
            As `forward` returns arrays.
        """
        for x in args:
            if hasattr(type(x), "__fastbp_function__"):  # a value of a graph that is being traced
                return x.__fastbp_function__(cls, args)
        state = STATE.get()
        tensors = [x if isinstance(x, Tensor) else None for x in args]
        traced = tuple(x is not None and x._entry is not None for x in tensors)
        if state.tangents and any(x is not None and x._tangent is not None for x in tensors):
            raise LookupError(f"{cls.__name__} is a Function, which has no tangent")
        recorded = state.recording and any(traced)
        integers = [x for x in args if isinstance(x, np.ndarray) and x.dtype.kind in "iu"]
        check_dtypes(cls.__name__, [x.dtype for x in (*tensors, *integers) if x is not None])
        shapes = [None if x is None else x.shape for x in tensors]
        op = Use(cls, shapes, traced if recorded else (False,) * len(args))
        arrays = [a if x is None else read_only(x.data) for a, x in zip(args, tensors, strict=True)]
        ctx, results, single = op.forward(arrays)
        if not recorded:
            cuts = [x._cut for x in tensors if x is not None and x._cut is not None]
            cut = "no_grad()" if any(traced) else next(iter(cuts), None)
            made = [constant(data, cut) for data in results]
            return made[0] if single else tuple(made)
        op.check(arrays)
        entry = _FunctionEntry(op, ctx)
        for x in tensors:
            parent, place = (None, 0) if x is None else (x._entry, x._place)
            entry.add_parent(parent, place, read=True)
        made = [constant(data) for data in results]
        attach(made, entry)
        return made[0] if single else tuple(made)


def check_dtypes(name: str, dtypes: Collection[np.dtype[Any]]) -> None:
    """Refuses tensors of several dtypes, and neither any nor integers."""
    if not dtypes:
        raise TypeError(f"{name}: found no tensor of reals and no integer array, wanted one")
    if len(several := {dtype for dtype in dtypes if dtype.kind == "f"}) > 1:
        found = " and ".join(sorted(map(str, several)))
        raise TypeError(f"{name}: found tensors of dtype {found}, wanted one dtype")


def read_only(array: Array) -> Array:
    """A view that refuses to be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


class _FunctionEntry(Entry):
    """A Function in the record; what it saved is its context."""

    __slots__ = ()

    def gradients(self, saved: Any, dy: Maybe, wanted: Sequence[bool]) -> tuple[Maybe, bool]:
        # A backward may return the same array twice, or the one that it got.
        return self.node.backward(saved, dy), False

    def gradients_tangent(
        self, saved: Any, dy: Maybe, tdy: Maybe, wanted: Sequence[bool]
    ) -> Maybe | None:
        if any(t is not None for t in tdy):
            raise LookupError(f"{self.name} is a Function, which has no tangent of its backward")
        return None


class Use:
    """One use of a Function: its two methods, with what they return checked.

    `shapes` are those of its arguments, None of what is no tensor; `wanted` says by which of them
    gradients are. `dtype` is that of results where no argument is a tensor; None: of any reals.
    """

    def __init__(
        self,
        kind: type[Function],
        shapes: Sequence[tuple[int, ...] | None],
        wanted: tuple[bool, ...],
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        self.kind, self.name, self.wanted = kind, kind.__name__, wanted
        self.shapes, self._dtype = tuple(shapes), dtype
        self.result_shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def n_results(self) -> int:
        return len(self.result_shapes)

    def forward(self, arrays: Sequence[Any]) -> tuple[Context, list[Array], bool]:
        """What forward saves, its results, and whether it returned a single one."""
        ctx = Context(self.wanted)
        returned = self.kind.forward(ctx, *arrays)
        single = not isinstance(returned, tuple)
        results = [self._result(one, arrays) for one in ((returned,) if single else returned)]
        self.result_shapes = tuple(result.shape for result in results)
        return ctx, results, single

    def _result(self, value: Any, arrays: Sequence[Any]) -> Array:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise TypeError(f"{self.name}.forward returned {type(value).__name__}, wanted an array")
        dtypes = (a.dtype for a, s in zip(arrays, self.shapes, strict=True) if s is not None)
        if (dtype := next(dtypes, self._dtype)) is None:
            dtype = value.dtype if value.dtype in REALS else np.dtype(np.float32)
        if value.dtype.kind in "biu":
            raise TypeError(
                f"{self.name}.forward returned {value.dtype}, wanted {dtype}: integers have no "
                "gradient. Indices and labels are computed with NumPy, outside of a Function; for "
                "a rounding whose gradient passes straight through, return reals"
            )
        if value.dtype != dtype:
            raise TypeError(f"{self.name}.forward returned {value.dtype}, wanted {dtype}")
        # The result is the tensor's own, also where forward returns what it got.
        shared = any(isinstance(a, np.ndarray) and np.may_share_memory(a, value) for a in arrays)
        return np.array(value, order="C", copy=True if shared else None)

    def check(self, arrays: Sequence[Any]) -> None:
        """At the Function's first use that is recorded, holds its backward against differences."""
        if self.kind._unchecked:
            _check(self, arrays)
            self.kind._unchecked = False

    def backward(self, ctx: Context, dy: Sequence[Array | None]) -> list[Array | None]:
        """The gradients of the arguments, None where there is none or none is wanted."""
        dtype = next(d.dtype for d in dy if d is not None)
        full = [
            np.zeros(shape, dtype) if d is None else read_only(d)
            for d, shape in zip(dy, self.result_shapes, strict=True)
        ]
        returned = self.kind.backward(ctx, *full)
        gradients = returned if isinstance(returned, tuple) else (returned,)
        if len(gradients) != len(self.shapes):
            raise ValueError(
                f"{self.name}.backward returned {len(gradients)} gradients, wanted "
                f"{len(self.shapes)}, one for each argument of forward"
            )
        return [self._gradient(i, one, dtype) for i, one in enumerate(gradients)]

    def _gradient(self, i: int, value: Any, dtype: np.dtype[Any]) -> Array | None:
        if value is None or not self.wanted[i]:
            return None
        where = f"{self.name}.backward, gradient {i}:"
        if not isinstance(value, (np.ndarray, np.generic)):
            raise TypeError(f"{where} found {type(value).__name__}, wanted an array")
        if value.shape != self.shapes[i]:
            raise ValueError(f"{where} found shape {value.shape}, wanted {self.shapes[i]}")
        if value.dtype != dtype:
            raise TypeError(f"{where} found {value.dtype}, wanted {dtype}")
        return np.ascontiguousarray(value).reshape(value.shape)


# --------------------------------------------------------------------------------------- the check


@dataclass(frozen=True)
class _Problem:
    """A random combination of a Function's results as a function of one of its arguments."""

    op: Use
    arrays: list[Any]
    place: int
    weights: list[Array]

    def value(self, x: Vector) -> float:
        arrays = list(self.arrays)
        arrays[self.place] = read_only(x.reshape(self.op.shapes[self.place]))
        _, results, _ = self.op.forward(arrays)
        parts = [float(np.sum(r * w)) for r, w in zip(results, self.weights, strict=True)]
        return sum(parts)

    def along(self, directions: NDArray[np.float64]) -> Callable[[Vector], float]:
        """The same as a function of steps along directions, the rows of a matrix."""
        start = self.arrays[self.place].ravel()
        return lambda steps: self.value(start + steps @ directions)

    def at(self, elements: NDArray[np.intp]) -> Callable[[Vector], float]:
        """The same as a function of some elements."""

        def value(values: Vector) -> float:
            x = self.arrays[self.place].flatten()
            x[elements] = values
            return self.value(x)

        return value


def _check(op: Use, arrays: Sequence[Any]) -> None:
    """Refuses a backward that is not the derivative of its forward."""
    wide = [
        a if shape is None else read_only(a.astype(np.float64))
        for a, shape in zip(arrays, op.shapes, strict=True)
    ]
    rng = np.random.default_rng(0)
    ctx, results, _ = op.forward(wide)
    _, again, _ = op.forward(wide)
    for one, other in zip(results, again, strict=True):
        if not np.array_equal(one, other, equal_nan=True):
            raise ValueError(
                f"{op.name}.forward gives other results when it runs again on the same inputs, so "
                "its backward cannot be checked; draw random numbers outside of it, or define the "
                "class with check=False"
            )
    weights = [rng.standard_normal(r.shape) for r in results]
    gradients = op.backward(ctx, weights)
    for place, wanted in enumerate(op.wanted):
        if wanted and wide[place].size > 0:
            gradient = gradients[place]
            claimed = np.zeros(wide[place].size) if gradient is None else gradient.ravel()
            worst = _worst(_Problem(op, wide, place, weights), claimed, rng)
            if worst is not None:
                raise ValueError(
                    f"{op.name}.backward is not the derivative of its forward: by argument {place} "
                    f"of shape {op.shapes[place]}, worst at element {worst.index}, where it is "
                    f"{worst.analytic:.9g} and by finite differences {worst.numeric:.9g}. If that "
                    "is meant, as for a straight-through estimator, define the class with "
                    "check=False"
                )


def _worst(problem: _Problem, claimed: Vector, rng: np.random.Generator) -> TensorCheck | None:
    """The worst element of a gradient, if that is wrong."""
    every = np.arange(claimed.size)
    largest = np.argsort(-np.abs(claimed), kind="stable")[:1]
    some = np.union1d(rng.permutation(claimed.size)[:ELEMENTS], largest)
    found = _compare_elements(problem, claimed, some)
    if found.error > TOLERANCE or some.size == every.size:
        return found if found.error > TOLERANCE else None
    directions = rng.standard_normal((DIRECTIONS, claimed.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    result = compare(
        problem.along(directions), np.zeros(DIRECTIONS), directions @ claimed, TOLERANCE
    ).named("", (DIRECTIONS,), np.arange(DIRECTIONS))
    if not result.error > TOLERANCE or result.index is None:
        return None
    return _search(problem, claimed, directions[result.index[0]])


def _compare_elements(
    problem: _Problem, claimed: Vector, elements: NDArray[np.intp]
) -> TensorCheck:
    start = problem.arrays[problem.place].ravel()
    found = compare(problem.at(elements), start[elements], claimed[elements], TOLERANCE)
    shape = problem.op.shapes[problem.place]
    assert shape is not None
    return found.named("", shape, elements)


def _search(problem: _Problem, claimed: Vector, direction: Vector) -> TensorCheck:
    """A wrong element, by halves, given a direction along which the gradient is wrong."""
    part = np.arange(claimed.size)
    while part.size > ELEMENTS:
        halves = np.array_split(part, 2)
        along = np.zeros((2, claimed.size))
        for row, half in zip(along, halves, strict=True):
            row[half] = direction[half]
        found = compare(problem.along(along), np.zeros(2), along @ claimed, TOLERANCE)
        part = halves[int(np.argmax(np.abs(found.analytic - found.numeric)))]
    return _compare_elements(problem, claimed, part)
