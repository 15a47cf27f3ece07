"""Tracing: code that runs rows on tensors, run once on values without numbers, yields a graph.

A `Traced` stands for a value of the graph; its first axis is that of the samples, whose number is
open. Rows that it meets become nodes: shapes are inferred and checked by the engine, attributes
that count axes are told as they are for one sample (samples.py). What a graph is good for is not
known here.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from fastbp.autodiff import STATE
from fastbp.function import Function, check_dtypes
from fastbp.nn.functions import Planned
from fastbp.nn.samples import N, Samples, for_one_sample
from fastbp.ops import running
from fastbp.ops.operators import Operators
from fastbp.ops.running import INTEGERS, ROWS, Attributes, Draws
from fastbp.tensor import Tensor

Array = NDArray[Any]
Content = Literal["real", "index", "sparse", "integers"]

# ----------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True)
class Input:
    """What one input of a module is, without the axis of the samples.

    Parameters
    ----------
    shape : tuple of int
        Of one sample.
    content : {"real", "index", "sparse", "integers"}, default="real"
        Numbers of the network's dtype; integers, as tokens are; rows of a CSR matrix, which have
        one axis; or what integers are to the row that first reads them: indices, or numbers.
    """

    shape: tuple[int, ...]
    content: Content = "real"

    def __post_init__(self) -> None:
        if self.content == "sparse" and len(self.shape) != 1:
            raise ValueError(f"Input: found sparse samples of shape {self.shape}, wanted (n,)")

    @classmethod
    def like(cls, given: Any, argument: str = "inputs") -> Input:
        """Of an Input, the shape of a sample, its only length, or an array of samples."""
        if isinstance(given, Input):
            return given
        if isinstance(given, (int, np.integer)):
            return cls((int(given),))
        if isinstance(given, (tuple, list)) and all(
            isinstance(n, (int, np.integer)) for n in given
        ):
            return cls(tuple(map(int, given)))
        if scipy.sparse.issparse(given):
            return cls((int(given.shape[1]),), "sparse")
        if isinstance(given, np.ndarray) and given.ndim > 0:
            return cls(given.shape[1:], "integers" if given.dtype.kind in "iu" else "real")
        raise TypeError(
            f"{argument}: found {type(given).__name__}, wanted the shape of a sample, an Input, or "
            "an array of samples; a dict of these where there are several"
        )


# ------------------------------------------------------------------------------------------ values

Source = Literal["input", "parameter", "constant", "node"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value of a graph comes from: the number of its source, and which result of a node."""

    source: Source
    number: int
    result: int = 0


class Traced(Operators):
    """A value of a graph that is being traced: a shape and a dtype, but no numbers.

    Attributes
    ----------
    shape : tuple
        The first length is the open number of samples, which parameters and constants do not have.
    dtype : numpy.dtype
        That of the network, or int32 for inputs of integers.
    """

    __slots__ = ("_shape", "dtype", "graph", "place")

    __fastbp_first__ = True  # tensors beside it are constants

    def __init__(
        self, graph: Graph, place: Place, shape: tuple[Any, ...], dtype: np.dtype[Any]
    ) -> None:
        self.graph, self.place, self._shape, self.dtype = graph, place, shape, dtype

    @property
    def shape(self) -> tuple[Any, ...]:
        """As of the array that will stand here."""
        return self._shape

    @staticmethod
    def __fastbp_op__(
        name: str,
        inputs: Sequence[Any],
        attrs: Attributes = (),
        *,
        draws: Draws = None,
        training: bool | None = None,
    ) -> Any:
        graph = next(x.graph for x in inputs if isinstance(x, Traced))
        return graph.add(name, inputs, attrs, training)

    @staticmethod
    def __fastbp_function__(kind: type[Function], args: Sequence[Any]) -> Any:
        graph = next(x.graph for x in args if isinstance(x, Traced))
        return graph.call(kind, args)

    @property
    def ndim(self) -> int:
        """Its number of axes, with that of the samples."""
        return len(self.shape)

    @property
    def has_samples(self) -> bool:
        """Whether there is one array for each sample, rather than one for all."""
        return bool(self.shape) and isinstance(self.shape[0], Samples)

    def numpy(self) -> NoReturn:
        """Refused: there are no numbers yet."""
        self._as_constant("numpy", "")

    __array__ = __bool__ = __float__ = __int__ = item = detach = numpy

    def _as_constant(self, what: str, instead: str) -> NoReturn:
        raise TypeError(
            f"{what}: a module is being traced, so that there are no numbers to look at; what it "
            "does may depend on shapes alone, or be said with where() and masks"
        )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: found no axes, wanted at least one")
        return operator.index(self.shape[0])

    def __repr__(self) -> str:
        return f"Traced({self.shape}, {self.place.source} {self.place.number})"


# ------------------------------------------------------------------------------------------- graph


class Graph:
    """The nodes met so far, and what they are made of.

    Attributes
    ----------
    inputs : list of Input
    parameters : list of tuple
        Shapes; whoever traces knows what they are.
    constants : list of ndarray
    nodes : list of (str, dict, list of Place)
        Row, attributes for one sample, and what is read.
    functions : dict of int to Planned
        What nodes run that are no row, by number.
    paths : list of str
        Of each node the `path` of the graph when it was added: whose it is.
    checkpoints : list of int
        Of each node the number of the checkpointed stretch that it is of, from 1; 0 for none.
    running : list of (int, Place, float)
        Parameters that follow a value in training and stand for it afterwards, and how fast.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.inputs: list[Input] = []
        self.parameters: list[tuple[int, ...]] = []
        self.constants: list[Array] = []
        self.nodes: list[tuple[str, dict[str, Any], list[Place]]] = []
        self.functions: dict[int, Planned] = {}
        self.path, self.paths = "", list[str]()
        self.checkpoints: list[int] = []
        self._stretch: Any = None  # of the last node
        self.running: list[tuple[int, Place, float]] = []
        self._first_result: list[int] = []
        self._n_results = 0
        self._known: dict[Any, Traced] = {}

    # ---- what it starts from ----

    def input(self, given: Input) -> Traced:
        """A new input."""
        self.inputs.append(given)
        dtype = self.dtype if given.content in ("real", "sparse") else np.dtype(np.int32)
        return Traced(self, Place("input", len(self.inputs) - 1), (N, *given.shape), dtype)

    def parameter(self, shape: tuple[int, ...]) -> Traced:
        """A new parameter."""
        self.parameters.append(shape)
        return Traced(self, Place("parameter", len(self.parameters) - 1), shape, self.dtype)

    def _constant(self, value: Any, integers: bool, where: str) -> Traced:
        """A number or an array that was met; numbers are entered once."""
        if isinstance(value, Tensor):
            value = self._data(value, where)
        if integers:
            array = running.integers(value, where)
        else:
            array = running.reals(value, self.dtype, where)
        return self._enter(array)

    def _data(self, tensor: Tensor, where: str) -> Array:
        if tensor.requires_grad:
            raise TypeError(
                f"{where} requires a gradient but is no parameter of the module being traced; "
                "self.parameter(...) makes one, detach() a constant"
            )
        if tensor.dtype != self.dtype:
            raise TypeError(f"{where} has dtype {tensor.dtype}, wanted {self.dtype}")
        return tensor.data

    def _enter(self, array: Array) -> Traced:
        key = (array.dtype, array.tobytes()) if array.ndim == 0 else None
        found = None if key is None else self._known.get(key)
        if found is None:
            self.constants.append(array)
            place = Place("constant", len(self.constants) - 1)
            found = Traced(self, place, array.shape, array.dtype)
            if key is not None:
                self._known[key] = found
        return found

    # ---- nodes ----

    def add(
        self, name: str, inputs: Sequence[Any], attrs: Attributes, training: bool | None
    ) -> Any:
        """A node of the row `name`; its results, as the row on tensors gives them."""
        if training is not None:
            raise TypeError(
                f"{name}: found training={training} in a module that is being traced, wanted it "
                "left out: plans know themselves whether they train"
            )
        row = ROWS[name]
        values = [self._value(name, i, x) for i, x in enumerate(inputs)]
        if all(x.place.source == "constant" for x in values):
            return self._computed(name, values, attrs)
        for i, x in enumerate(values):
            self._settle(x, i in INTEGERS[name])
        attrs = for_one_sample(row, attrs, values)
        shapes = tuple(_open(x.shape) for x in values)
        if not row["row_independent"]:  # of all samples together: their number is nothing to it
            shapes = tuple(tuple(1 if n is None else n for n in shape) for shape in shapes)
        indices = tuple(i for i, x in enumerate(values) if x.dtype.kind == "i")
        node = running.node(name, self.dtype, shapes, attrs, indices)
        outputs = [_closed(shape) for shape in node.outputs[: node.n_results]]
        results = self._append(name, dict(attrs), values, outputs)
        return results[0] if len(results) == 1 else results

    def _append(
        self,
        name: str,
        attrs: dict[str, Any],
        values: Sequence[Traced],
        shapes: Sequence[tuple[Any, ...]],
    ) -> tuple[Traced, ...]:
        number = len(self.nodes)
        self.nodes.append((name, attrs, [x.place for x in values]))
        self.paths.append(self.path)
        self.checkpoints.append(self._checkpoint())
        self._first_result.append(self._n_results)
        self._n_results += len(shapes)
        return tuple(
            Traced(self, Place("node", number, i), shape, self.dtype)
            for i, shape in enumerate(shapes)
        )

    def call(self, kind: type[Function], args: Sequence[Any]) -> Any:
        """A node that runs a Function; its results. What is no value stays as it is."""
        name, values = kind.__name__, dict[int, Traced]()
        for i, x in enumerate(args):
            where = f"{name}: argument {i}"
            if isinstance(x, Tensor):
                self._data(x, where)
            elif isinstance(x, Traced):
                values[i] = self._own(x, where)
                if x.place.source == "input" and self.inputs[x.place.number].content == "sparse":
                    raise TypeError(f"{where}: found sparse samples, wanted dense ones")
                self._settle(x, True)
        check_dtypes(name, [x.dtype for x in args if isinstance(x, (Traced, Tensor))])
        forms = {i: (_open(x.shape), x.dtype) for i, x in values.items()}
        planned = Planned(kind, args, forms, self.dtype)
        self.functions[len(self.nodes)] = planned
        axis = (N,) if planned.batched else ()
        shapes = [(*axis, *shape) for shape in planned.results]
        results = self._append(name, {}, list(values.values()), shapes)
        return results[0] if planned.single else results

    def _checkpoint(self) -> int:
        """The number of the stretch that is running, new or that of the last node; 0: none."""
        stretch, before = STATE.get().stretch, self._stretch
        self._stretch = stretch
        if stretch is None:
            return 0
        return (
            max(self.checkpoints, default=0) + 1 if stretch is not before else self.checkpoints[-1]
        )

    def _computed(self, name: str, values: list[Traced], attrs: Attributes) -> Any:
        """The results of a row on constants: constants again."""
        made = running.call(name, [self.constants[x.place.number] for x in values], attrs)
        if isinstance(made, tuple):
            return tuple(map(self._enter, made))
        return self._enter(made)

    def _settle(self, x: Traced, looked_up: bool) -> None:
        """What an input of integers is, where nobody has said: as a row first reads it."""
        if x.place.source != "input" or self.inputs[x.place.number].content != "integers":
            return
        shape = self.inputs[x.place.number].shape
        self.inputs[x.place.number] = Input(shape, "index" if looked_up else "real")
        if not looked_up:
            x.dtype = self.dtype

    def _own(self, x: Traced, where: str) -> Traced:
        if x.graph is not self:
            raise ValueError(f"{where}: found a value of another module's trace")
        return x

    def _value(self, name: str, i: int, x: Any) -> Traced:
        if isinstance(x, Traced):
            return self._own(x, f"{name}: input {i}")
        where = f"{name}: {running.input_name(name, i)}"
        return self._constant(x, i in INTEGERS[name], where)

    # ---- as the engine takes it ----

    def number(self, place: Place) -> int:
        """The number of a value: inputs, parameters, constants, then the results of nodes."""
        n_inputs, n_parameters = len(self.inputs), len(self.parameters)
        if place.source == "input":
            return place.number
        if place.source == "parameter":
            return n_inputs + place.number
        if place.source == "constant":
            return n_inputs + n_parameters + place.number
        first = n_inputs + n_parameters + len(self.constants)
        return first + self._first_result[place.number] + place.result

    def specification(
        self,
        parameters: Sequence[dict[str, Any]],
        outputs: Sequence[Traced],
        losses: Sequence[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        """The dictionary that a plan is made of, with what is known of the parameters elsewhere."""
        made = {
            "inputs": [
                # Integers that nobody reads are none the worse for being indices.
                (one.shape, "index" if one.content == "integers" else one.content)
                for one in self.inputs
            ],
            "parameters": list(parameters),
            "constants": self.constants,
            "nodes": [
                (self.functions.get(i, name), attrs, [self.number(place) for place in read])
                for i, (name, attrs, read) in enumerate(self.nodes)
            ],
            "losses": list(losses),
            "outputs": [self.number(value.place) for value in outputs],
        }
        if any(self.checkpoints):
            made["checkpoints"] = self.checkpoints
        if self.running:
            made["running"] = [
                {"parameter": parameter, "value": self.number(place), "momentum": momentum}
                for parameter, place, momentum in self.running
            ]
        return made


def _open(shape: tuple[Any, ...]) -> tuple[int | None, ...]:
    """A shape as nodes take it, where None is the open number of samples."""
    return tuple(None if isinstance(n, Samples) else n for n in shape)


def _closed(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(N if n is None else n for n in shape)
