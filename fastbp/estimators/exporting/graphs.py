"""An ONNX graph as it grows: nodes and constants under names that nobody has to think of.

Knows nothing of networks. The onnx package is imported by who makes a `Builder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbp.nn.parameter import Array


class Value(NamedTuple):
    """A value of a graph.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one sample where there are samples, else of the whole.
    samples : bool
        Whether it has the axis of the samples in front.
    """

    name: str
    shape: tuple[int, ...]
    samples: bool

    @property
    def ndim(self) -> int:
        """Its number of axes, that of the samples among them."""
        return len(self.shape) + self.samples

    def axis(self, axis: int) -> int:
        """An axis that rows count, of a sample or of the whole, among all of them."""
        return axis % len(self.shape) + self.samples if self.shape else 0


class Builder:
    """Nodes and constants so far.

    Parameters
    ----------
    onnx : module
        The onnx package.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._made = 0

    def name(self, kind: str) -> str:
        """A new name."""
        self._made += 1
        return f"{kind}_{self._made}"

    def op(self, kind: str, *inputs: str, results: int = 1, **attributes: Any) -> Any:
        """A node; the name of its result, or of each of them."""
        names = [self.name(kind) for _ in range(results)]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, names, **attributes))
        return names[0] if results == 1 else names

    def constant(self, array: Any) -> str:
        """A constant of float32, int64, bool or strings."""
        array = np.asarray(array)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        elif array.dtype.kind in "iu":
            array = array.astype(np.int64)
        elif array.dtype.kind == "U":
            array = array.astype(object)
        data = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
        key = (array.dtype.str, array.shape, data)
        # Small ones come again and again.
        if array.size > 16 or key not in self._known:
            self._known[key] = self.name("constant")
            made = self.onnx.numpy_helper.from_array(
                np.array(array, order="C"), name=self._known[key]
            )
            self.constants.append(made)
        return self._known[key]

    def initializer(self, name: str, array: Array) -> str:
        """A constant of float32 under a name of its own."""
        made = np.array(array, np.float32, order="C")
        self.constants.append(self.onnx.numpy_helper.from_array(made, name=name))
        return name

    def ints(self, *numbers: int) -> str:
        """A constant list of integers."""
        return self.constant(np.array(numbers, np.int64))

    def cast(self, name: str, to: str) -> str:
        """A value in another type, as ONNX spells it."""
        made: str = self.op("Cast", name, to=getattr(self.onnx.TensorProto, to))
        return made

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """The elements of a sample, or of the whole, in another shape."""
        whole = (0, *shape) if x.samples else tuple(shape)
        return Value(self.op("Reshape", x.name, self.ints(*whole)), tuple(shape), x.samples)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """A sample, or the whole, with its axes in another order."""
        whole = [0, *(axis + 1 for axis in order)] if x.samples else [*order]
        shape = tuple(x.shape[axis] for axis in order)
        return Value(self.op("Transpose", x.name, perm=whole), shape, x.samples)

    def sub_graph(
        self, nodes: Sequence[Any], inputs: Sequence[tuple[str, Any]], outputs: Sequence[str]
    ) -> Any:
        """A graph of some nodes within the graph, of float32."""
        kind = self.onnx.TensorProto.FLOAT
        describe = self.onnx.helper.make_tensor_value_info
        return self.onnx.helper.make_graph(
            nodes,
            self.name("body"),
            [describe(name, kind, shape) for name, shape in inputs],
            [describe(name, kind, None) for name in outputs],
        )
