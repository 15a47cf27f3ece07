"""A fitted estimator as an ONNX model: its network, with inputs, a link and labels around it.

Everything is float32, in which ONNX's runtimes have all their kernels; labels are what they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastbp.estimators import versions
from fastbp.estimators.exporting.graphs import Builder, Value
from fastbp.estimators.exporting.rows import CONVERTERS
from fastbp.estimators.files import Named, replacing
from fastbp.nn import locking
from fastbp.nn.parameter import Array
from fastbp.nn.rows import rows
from fastbp.nn.runs import Tracing
from fastbp.nn.samples import Samples
from fastbp.nn.tracing import Graph, Input, Place, Traced
from fastbp.ops.running import ROWS

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseTrained
    from fastbp.estimators.built import BuiltNetwork
    from fastbp.estimators.columns import Columns

# The opset of ONNX 1.13 (2022), and the form of files that goes with it: all runtimes of since then
# read them.
_OPSET, _IR_VERSION = 18, 8

# A file is one message of protobuf, which may be that long.
_MOST_BYTES = 2**31 - 2**20

_LINKS = {"logistic": "Sigmoid", "exp": "Exp"}


def to_onnx(estimator: BaseTrained, path: Named | None = None) -> Any:
    """`BaseTrained.to_onnx`."""
    check_is_fitted(estimator)
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(
            "to_onnx: the onnx package was not found; wanted pip install 'fastbp[onnx]'"
        ) from error
    with locking.swapping, np.errstate(over="ignore"):  # told below
        flat = estimator._flat().astype(np.float32)
        network, labels = estimator._network, getattr(estimator, "_labels", None)
        scale, columns = getattr(estimator, "_scale", None), getattr(estimator, "_columns", None)
        temperature = getattr(estimator, "temperature_", 1.0)
    if flat.nbytes > _MOST_BYTES:
        raise ValueError(
            f"to_onnx: found {flat.nbytes} bytes of weights, wanted at most {_MOST_BYTES}: ONNX"
            " models are single messages of protobuf"
        )
    if not np.isfinite(flat).all():
        raise ValueError(
            "to_onnx: found weights that are not finite in float32, wanted finite ones"
        )
    builder = Builder(onnx)
    describe, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    given = None if columns is None else _numbers(builder, columns)
    arguments, raw = _network(builder, network, flat, given)
    if columns is not None:
        arguments = {"X": Input((int(estimator.n_features_in_),))}
    inputs = [
        describe(name, types.INT64 if one.content == "index" else types.FLOAT, ["n", *one.shape])
        for name, one in arguments.items()
    ]
    if temperature != 1.0:
        raw = raw._replace(name=builder.op("Div", raw.name, builder.constant(temperature)))
    if scale is not None:
        wide = builder.op("Mul", raw.name, builder.constant(scale.spread))
        raw = raw._replace(name=builder.op("Add", wide, builder.constant(scale.mean)))
    predicted = _linked(builder, raw, rows("loss")[network.loss[0]]["link"])
    made = (
        _regressed(predicted) if labels is None else _labelled(builder, labels, network, predicted)
    )
    outputs = []
    for name, (value, kind, shape) in made.items():
        builder.nodes.append(onnx.helper.make_node("Identity", [value], [name]))
        outputs.append(describe(name, getattr(types, kind), ["n", *shape]))
    graph = onnx.helper.make_graph(
        builder.nodes, type(estimator).__name__, inputs, outputs, builder.constants
    )
    model = onnx.helper.make_model(
        graph,
        producer_name="fastbp",
        producer_version=versions.here(),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model)
    if path is not None:
        with replacing(path) as file:
            file.write_bytes(model.SerializeToString())
    return model


# -------------------------------------------------------------------------------------- the network


class _Recorded(Graph):
    """A graph that remembers the shapes of its nodes' results."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self.results: dict[Place, Traced] = {}

    def _append(
        self,
        name: str,
        attrs: dict[str, Any],
        values: Sequence[Traced],
        shapes: Sequence[tuple[Any, ...]],
    ) -> tuple[Traced, ...]:
        made = super()._append(name, attrs, values, shapes)
        self.results.update((one.place, one) for one in made)
        return made


def _network(
    b: Builder, network: BuiltNetwork, flat: Array, given: Value | None
) -> tuple[dict[str, Input], Value]:
    """The inputs by name, and the raw outputs; of `given`, where that stands for the input."""
    home = network.home
    run = Tracing(network.module, network.dtype, building=False)
    run.graph = graph = _Recorded(network.dtype)
    run.trace(home.inputs)
    names = ["X"] if isinstance(home.inputs, Input) else [*home.inputs]
    values: dict[Place, Value] = {}
    arguments = dict(zip(names, graph.inputs, strict=True))
    for number, (name, one) in enumerate(arguments.items()):
        values[Place("input", number)] = Value(name, one.shape, True)
    if given is not None:
        values[Place("input", 0)] = given
    if network._mask_value is not None:
        arguments, values = _masked(b, network._mask_value, arguments, values)
    for number, (parameter, _, _) in enumerate(run.parameters):
        part = flat[parameter._offset : parameter._offset + parameter.size]
        name = b.initializer(f"param.{parameter.name}", part.reshape(parameter.shape))
        values[Place("parameter", number)] = Value(name, parameter.shape, False)
    for number, array in enumerate(graph.constants):
        values[Place("constant", number)] = Value(b.constant(array), array.shape, False)
    # In predicting, what is followed in training stands for what it follows.
    for number, place, _ in graph.running:
        values[place] = values[Place("parameter", number)]
    (result,) = run.results.values()
    for number in sorted(_needed(graph, result.place, values)):
        _convert(b, graph, number, values)
    return arguments, values[result.place]


def _needed(graph: _Recorded, result: Place, known: dict[Place, Value]) -> set[int]:
    """The numbers of the nodes on which a result depends."""
    found: set[int] = set()
    open_ = [result]
    while open_:
        place = open_.pop()
        if place in known or place.number in found:
            continue
        found.add(place.number)
        open_ += graph.nodes[place.number][2]
    return found


def _convert(b: Builder, graph: _Recorded, number: int, values: dict[Place, Value]) -> None:
    name, given, read = graph.nodes[number]
    convert = CONVERTERS.get(name)
    if number in graph.functions or convert is None:
        where = f"module_.{graph.paths[number]}".rstrip(".")
        raise ValueError(
            f"to_onnx: {where}: found {name!r}, which has no form in ONNX; wanted layers without it"
        )
    defaults = {
        attr["name"]: attr["default"]
        for attr in ROWS[name]["attrs"]
        if not math.isnan(attr["default"])
    }
    made = convert(b, [values[place] for place in read], {**defaults, **given})
    shape = graph.results[Place("node", number)].shape
    samples = bool(shape) and isinstance(shape[0], Samples)
    values[Place("node", number)] = Value(made, tuple(shape[1:] if samples else shape), samples)


def _masked(
    b: Builder, mask_value: float, arguments: dict[str, Input], values: dict[Place, Value]
) -> tuple[dict[str, Input], dict[Place, Value]]:
    """The mask made of the samples, which are the only input then."""
    given = next(iter(arguments.values()))
    x = b.cast("X", "FLOAT") if given.content == "index" else "X"
    padded = b.cast(b.op("Equal", x, b.constant(float(mask_value))), "FLOAT")
    if len(given.shape) > 1:
        axes = b.ints(*range(2, len(given.shape) + 1))
        padded = b.op("ReduceMin", padded, axes, keepdims=0)
    mask = b.op("Sub", b.constant(1.0), padded)
    made = {
        Place("input", number): Value("X", one.shape, True)._replace(
            name=mask if name == "mask" else "X"
        )
        for number, (name, one) in enumerate(arguments.items())
    }
    return {"X": given}, made


# ------------------------------------------------------------------------------- what is around it


def _numbers(b: Builder, columns: Columns) -> Value:
    """What the columns of X become, where all are numbers."""
    if columns.categorical:
        raise ValueError(
            "to_onnx: found columns of categories (categorical_features), which are words beside"
            " numbers; wanted numbers alone, as of an encoder in front of the estimator"
        )
    scaler, found = columns.scaler, "X"
    filling = np.zeros(len(columns.numeric)) if columns.standardize else scaler.mean_
    if columns.standardize:
        centred = b.op("Sub", found, b.constant(scaler.mean_))
        found = b.op("Div", centred, b.constant(scaler.scale_))
    missing = b.op("IsNaN", "X")
    found = b.op("Where", missing, b.constant(np.nan_to_num(filling)), found)
    holes = b.op("Gather", b.cast(missing, "FLOAT"), b.constant(columns.holes), axis=1)
    width = len(columns.numeric) + len(columns.holes)
    return Value(b.op("Concat", found, holes, axis=1), (width,), True)


Output = tuple[str, str, list[int]]
"""The name of a value, its type as ONNX spells it, and its shape for one sample."""


def _linked(b: Builder, raw: Value, link: str) -> Value:
    """Predictions of raw outputs."""
    if link == "identity":
        return raw
    if link == "softmax":
        return raw._replace(name=b.op("Softmax", raw.name, axis=-1))
    return raw._replace(name=b.op(_LINKS[link], raw.name))


def _regressed(predicted: Value) -> dict[str, Output]:
    return {"variable": (predicted.name, "FLOAT", [*predicted.shape])}


def _labelled(
    b: Builder, labels: Any, network: BuiltNetwork, predicted: Value
) -> dict[str, Output]:
    """The labels, and the probabilities, or scores where the loss gives none."""
    scored = rows("loss")[network.loss[0]]["link"] == "identity"
    above = b.constant(0.0 if scored else 0.5)
    name, n_classes = predicted.name, len(labels.classes)
    if labels.kind == "multilabel":
        label: Output = (b.cast(b.op("Greater", name, above), "INT64"), "INT64", [n_classes])
    else:
        if labels.kind == "multiclass":
            index = b.op("ArgMax", name, axis=-1, keepdims=0)
        else:
            index = b.op("Squeeze", b.cast(b.op("Greater", name, above), "INT64"), b.ints(1))
            if n_classes == 1:
                index = b.op("Mul", index, b.constant(0))
        classes, kind = _classes(b, labels.classes)
        label = b.op("Gather", classes, index, axis=0), kind, []
    columns = n_classes
    if labels.kind == "binary" and scored:
        name, columns = b.op("Squeeze", name, b.ints(1)), 0
    elif labels.kind == "binary":
        name, columns = b.op("Concat", b.op("Sub", b.constant(1.0), name), name, axis=1), 2
    told: Output = (name, "FLOAT", [columns] if columns else [])
    return {"label": label, "scores" if scored else "probabilities": told}


def _classes(b: Builder, classes: Array) -> tuple[str, str]:
    """The labels as a constant, and its type."""
    listed = classes.tolist()
    if all(isinstance(one, str) for one in listed):
        return b.constant(np.array(listed)), "STRING"
    if all(isinstance(one, bool) for one in listed):
        return b.constant(np.array(listed)), "BOOL"
    if all(isinstance(one, int) for one in listed):
        return b.constant(np.array(listed, np.int64)), "INT64"
    if all(isinstance(one, (int, float)) for one in listed):
        return b.constant(np.array(listed, np.float32)), "FLOAT"
    raise ValueError(
        f"to_onnx: found classes_ of {classes.dtype}, such as {listed[0]!r:.40}; wanted strings,"
        " integers, floats or bools"
    )
