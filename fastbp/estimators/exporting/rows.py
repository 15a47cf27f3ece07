"""What the rows of the engine's table are in ONNX, as they predict.

ONNX has its channels in front of positions, the engine behind them: convolutions and pooling turn
them round and back. What is not in the table here is an error that names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastbp.estimators.exporting import sequences
from fastbp.estimators.exporting.graphs import Builder, Value

Attributes = Mapping[str, Any]
Converter = Callable[[Builder, Sequence[Value], Attributes], str]

# Slices that run backwards to the first element end before it.
_BEFORE_ALL = -(2**63)


def _simple(kind: str, **fixed: Any) -> Converter:
    """An op of the same meaning, without attributes of the row."""
    return lambda b, x, a: b.op(kind, *(one.name for one in x), **fixed)


def _compared(kind: str, *, negated: bool = False) -> Converter:
    def convert(b: Builder, x: Sequence[Value], a: Attributes) -> str:
        made = b.op(kind, x[0].name, x[1].name)
        return b.cast(b.op("Not", made) if negated else made, "FLOAT")

    return convert


def _with_number(kind: str, number: float) -> Converter:
    return lambda b, x, a: b.op(kind, x[0].name, b.constant(number))


def _where(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return str(b.op("Where", b.cast(x[0].name, "BOOL"), x[1].name, x[2].name))


# ------------------------------------------------------------------------------------- elementwise


def _log1p(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return str(b.op("Log", b.op("Add", x[0].name, b.constant(1.0))))


def _expm1(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return str(b.op("Sub", b.op("Exp", x[0].name), b.constant(1.0)))


def _clip(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    above = b.op("Max", x[0].name, b.constant(float(a["low"])))
    return str(b.op("Min", above, b.constant(float(a["high"]))))


def _silu(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    scaled = b.op("Mul", x[0].name, b.constant(float(a["beta"])))
    return str(b.op("Mul", x[0].name, b.op("Sigmoid", scaled)))


def _half_of_x_and(b: Builder, x: str, bent: str) -> str:
    """x (1 + bent) / 2."""
    both = b.op("Mul", x, b.op("Add", bent, b.constant(1.0)))
    return str(b.op("Mul", both, b.constant(0.5)))


def _gelu(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    bent = b.op("Erf", b.op("Mul", x[0].name, b.constant(math.sqrt(0.5))))
    return _half_of_x_and(b, x[0].name, bent)


def _gelu_tanh(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    cubed = b.op("Mul", b.op("Mul", x[0].name, x[0].name), x[0].name)
    inner = b.op("Add", x[0].name, b.op("Mul", cubed, b.constant(0.044715)))
    bent = b.op("Tanh", b.op("Mul", inner, b.constant(math.sqrt(2.0 / math.pi))))
    return _half_of_x_and(b, x[0].name, bent)


def _mish(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return str(b.op("Mul", x[0].name, b.op("Tanh", b.op("Softplus", x[0].name))))


# ---------------------------------------------------------------------------------------- products


def _linear(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    made = b.op("MatMul", x[0].name, x[1].name)
    return str(made if len(x) < 3 else b.op("Add", made, x[2].name))


def _channels_first(b: Builder, x: Value) -> Value:
    *positions, channels = range(len(x.shape))
    return b.transpose(x, (channels, *positions))


def _channels_last(b: Builder, name: str, n: int) -> str:
    return str(b.op("Transpose", name, perm=(0, *range(2, n + 2), 1)))


def _each(given: Any, n: int) -> list[int]:
    """One number for all of n axes, or one for each."""
    numbers = [given] if isinstance(given, (int, float)) else [*given]
    return [int(one) for one in (numbers * n if len(numbers) == 1 else numbers)]


def _conv(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    n = len(x[0].shape) - 1
    *kernel, _, _ = range(len(x[1].shape))
    w = b.transpose(x[1], (n + 1, n, *kernel))
    made = b.op(
        "Conv",
        _channels_first(b, x[0]).name,
        w.name,
        *(one.name for one in x[2:]),
        strides=_each(a["stride"], n),
        pads=_each(a["padding"], n) * 2,
        dilations=_each(a["dilation"], n),
        group=int(a["groups"]),
    )
    return _channels_last(b, made, n)


def _pool(kind: str) -> Converter:
    def convert(b: Builder, x: Sequence[Value], a: Attributes) -> str:
        n = len(x[0].shape) - 1
        counted = {}
        if "count_include_pad" in a:
            counted["count_include_pad"] = int(a["count_include_pad"])
        made = b.op(
            kind,
            _channels_first(b, x[0]).name,
            kernel_shape=_each(a["kernel"], n),
            strides=_each(a["stride"], n),
            pads=_each(a["padding"], n) * 2,
            **counted,
        )
        return _channels_last(b, made, n)

    return convert


# ------------------------------------------------------------------------------------------- norms


def _scaled(b: Builder, name: str, scaling: Sequence[Value]) -> str:
    for kind, one in zip(("Mul", "Add"), scaling, strict=False):
        name = b.op(kind, name, one.name)
    return name


def _standard(b: Builder, x: str, axes: Sequence[int], epsilon: float) -> str:
    """Of mean 0 and variance 1 along axes, which are counted in the whole."""
    centred = b.op("Sub", x, b.op("ReduceMean", x, b.ints(*axes)))
    return _over_root(b, centred, axes, epsilon)


def _over_root(b: Builder, x: str, axes: Sequence[int], epsilon: float) -> str:
    mean = b.op("ReduceMean", b.op("Mul", x, x), b.ints(*axes))
    return str(b.op("Div", x, b.op("Sqrt", b.op("Add", mean, b.constant(epsilon)))))


def _layer_norm(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return _scaled(b, _standard(b, x[0].name, (-1,), float(a["epsilon"])), x[1:])


def _rms_norm(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return _scaled(b, _over_root(b, x[0].name, (-1,), float(a["epsilon"])), x[1:])


def _group_norm(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    *positions, channels = x[0].shape
    groups = int(a["groups"])
    apart = b.reshape(x[0], (math.prod(positions), groups, channels // groups))
    axes = (apart.axis(0), apart.axis(2))
    made = _standard(b, apart.name, axes, float(a["epsilon"]))
    whole = b.reshape(Value(made, apart.shape, apart.samples), x[0].shape)
    return _scaled(b, whole.name, x[1:])


def _normalize(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    mean, variance = (b.op("Gather", x[1].name, b.constant(i), axis=0) for i in (0, 1))
    root = b.op("Sqrt", b.op("Add", variance, b.constant(float(a["epsilon"]))))
    return _scaled(b, b.op("Div", b.op("Sub", x[0].name, mean), root), x[2:])


# ---------------------------------------------------------------------------- reductions and shapes


def _reduced(kind: str) -> Converter:
    def convert(b: Builder, x: Sequence[Value], a: Attributes) -> str:
        axes = a.get("axes", ())
        axes = [axes] if isinstance(axes, int) else [*axes]
        given = [b.ints(*(x[0].axis(int(one)) for one in axes))] if axes else []
        return str(b.op(kind, x[0].name, *given, keepdims=int(a["keepdims"])))

    return convert


def _along(kind: str) -> Converter:
    return lambda b, x, a: b.op(kind, x[0].name, axis=x[0].axis(int(a["axis"])))


def _reshape(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return b.reshape(x[0], [int(n) for n in a["shape"]]).name


def _transpose(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    order = [int(axis) for axis in a.get("axes", ())] or [*reversed(range(len(x[0].shape)))]
    return b.transpose(x[0], order).name


def _broadcast(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    shape = [int(n) for n in a["shape"]]
    full = b.reshape(x[0], [1] * (len(shape) - len(x[0].shape)) + [*x[0].shape])
    return str(b.op("Expand", full.name, b.ints(*((1,) if full.samples else ()), *shape)))


def _index(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    starts, steps, counts = ([int(n) for n in a[name]] for name in ("starts", "steps", "counts"))
    ends = [first + step * n for first, step, n in zip(starts, steps, counts, strict=True)]
    ends = [_BEFORE_ALL if end < 0 else end for end in ends]
    axes = [x[0].axis(axis) for axis in range(len(starts))]
    if not axes:
        return x[0].name
    return str(b.op("Slice", x[0].name, *(b.ints(*one) for one in (starts, ends, axes, steps))))


def _pad(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    whole = [0] * x[0].samples
    around = [*whole, *map(int, a["before"]), *whole, *map(int, a["after"])]
    return str(b.op("Pad", x[0].name, b.ints(*around), b.constant(float(a["value"]))))


def _concatenate(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return str(b.op("Concat", *(one.name for one in x), axis=x[0].axis(int(a["axis"]))))


def _take(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    axis = x[0].axis(int(a["axis"])) if x[0].shape else 0
    return str(b.op("Gather", x[0].name, x[1].name, axis=axis))


def _take_along(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    axis = x[0].axis(int(a["axis"]))
    return str(b.op("GatherElements", x[0].name, x[1].name, axis=axis))


def _embedding(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return str(b.op("Gather", x[1].name, x[0].name, axis=0))


def _same(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    return x[0].name


CONVERTERS: dict[str, Converter] = {
    "linear": _linear,
    "linear_csr": _linear,
    "matmul": _simple("MatMul"),
    "conv": _conv,
    "max_pool": _pool("MaxPool"),
    "average_pool": _pool("AveragePool"),
    "attention": sequences.attention,
    "self_attention": sequences.self_attention,
    "rnn": sequences.rnn,
    "lstm": sequences.lstm,
    "gru": sequences.gru,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "normalize": _normalize,
    "dropout": _same,
    "alpha_dropout": _same,
    "add": _simple("Add"),
    "subtract": _simple("Sub"),
    "multiply": _simple("Mul"),
    "divide": _simple("Div"),
    "maximum": _simple("Max"),
    "minimum": _simple("Min"),
    "less": _compared("Less"),
    "less_equal": _compared("LessOrEqual"),
    "greater": _compared("Greater"),
    "greater_equal": _compared("GreaterOrEqual"),
    "equal": _compared("Equal"),
    "not_equal": _compared("Equal", negated=True),
    "where": _where,
    "sum": _reduced("ReduceSum"),
    "mean": _reduced("ReduceMean"),
    "max": _reduced("ReduceMax"),
    "min": _reduced("ReduceMin"),
    "logsumexp": _reduced("ReduceLogSumExp"),
    "softmax": _along("Softmax"),
    "log_softmax": _along("LogSoftmax"),
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast": _broadcast,
    "index": _index,
    "pad": _pad,
    "concatenate": _concatenate,
    "take": _take,
    "take_along": _take_along,
    "embedding": _embedding,
    "exp": _simple("Exp"),
    "expm1": _expm1,
    "log": _simple("Log"),
    "log1p": _log1p,
    "erf": _simple("Erf"),
    "negative": _simple("Neg"),
    "absolute": _simple("Abs"),
    "sign": _simple("Sign"),
    "square": lambda b, x, a: b.op("Mul", x[0].name, x[0].name),
    "sqrt": _simple("Sqrt"),
    "reciprocal": _simple("Reciprocal"),
    "power": lambda b, x, a: b.op("Pow", x[0].name, b.constant(float(a["exponent"]))),
    "clip": _clip,
    "identity": _same,
    "logistic": _simple("Sigmoid"),
    "tanh": _simple("Tanh"),
    "relu": _simple("Relu"),
    "leaky_relu": lambda b, x, a: b.op("LeakyRelu", x[0].name, alpha=float(a["slope"])),
    "elu": lambda b, x, a: b.op("Elu", x[0].name, alpha=float(a["alpha"])),
    "softplus": _simple("Softplus"),
    "softsign": _simple("Softsign"),
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": _mish,
    "hard_tanh": lambda b, x, a: b.op(
        "Clip", x[0].name, b.constant(np.float32(-1)), b.constant(np.float32(1))
    ),
    "selu": _simple("Selu"),
}
"""By the names of rows, with all attributes at hand."""
