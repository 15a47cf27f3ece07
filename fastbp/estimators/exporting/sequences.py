"""Attention and recurrences in ONNX.

Recurrences are the op Scan over their own formulas rather than ONNX's LSTM and GRU, which know of a
mask only that sequences end early: here the state stays wherever the mask is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastbp.estimators.exporting.graphs import Builder, Value

Attributes = Mapping[str, Any]

# Beside any score it vanishes under the exponential, and it is finite: no NaN comes of it.
_NEVER = -1e30


# --------------------------------------------------------------------------------------- attention


def attention(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    """softmax(scale q k^T) v for each head, over the keys whose mask is not 0."""
    heads, (q, k, v) = int(a["heads"]), x[:3]
    queries, width = q.shape
    keys, each = k.shape[0], width // heads
    scale = float(a["scale"]) or 1.0 / math.sqrt(each)
    # (heads, queries, each), (heads, each, keys), (heads, keys, each), for each sample.
    apart = [
        b.transpose(b.reshape(one, (one.shape[0], heads, each)), order)
        for one, order in ((q, (1, 0, 2)), (k, (1, 2, 0)), (v, (1, 0, 2)))
    ]
    scores = b.op("Mul", b.op("MatMul", apart[0].name, apart[1].name), b.constant(scale))
    seen = None  # what may be attended to
    if a["causal"]:
        seen = b.constant(np.tri(queries, keys, dtype=bool))
    if len(x) > 3:
        told = b.cast(b.reshape(x[3], (1, 1, keys)).name, "BOOL")
        seen = told if seen is None else b.op("And", told, seen)
    if seen is not None:
        scores = b.op("Where", seen, scores, b.constant(_NEVER))
    shares = b.op("Softmax", scores, axis=-1)
    if seen is not None:  # or a query without any key would attend to all
        shares = b.op("Where", seen, shares, b.constant(0.0))
    made = Value(b.op("MatMul", shares, apart[2].name), (heads, queries, each), q.samples)
    return b.reshape(b.transpose(made, (1, 0, 2)), (queries, width)).name


def self_attention(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    """Attention of q, k and v that lie side by side."""
    length, width = x[0].shape
    parts = b.op("Split", x[0].name, b.ints(*[width // 3] * 3), results=3, axis=-1)
    apart = [Value(name, (length, width // 3), x[0].samples) for name in parts]
    return attention(b, [*apart, *x[1:]], a)


# -------------------------------------------------------------------------------------- recurrences

Step = Callable[[str, Sequence[str]], Sequence[str]]
"""From what the inputs add to the gates at one step, and the states: the next states, of which the
first is the result."""


def rnn(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    """h = f(p + h w)."""
    p, w, *mask = x
    bent = "Relu" if a["nonlinearity"] else "Tanh"

    def step(gates: str, states: Sequence[str]) -> Sequence[str]:
        return [b.op(bent, b.op("Add", gates, b.op("MatMul", states[0], w.name)))]

    return _scan(b, p, w.shape[0], 1, mask, a, step)


def lstm(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    """c = f c + i g and h = o tanh(c)."""
    p, w, *mask = x

    def step(gates: str, states: Sequence[str]) -> Sequence[str]:
        h, c = states
        sums = b.op("Add", gates, b.op("MatMul", h, w.name))
        i, f, g, o = b.op("Split", sums, b.ints(*[w.shape[0]] * 4), results=4, axis=-1)
        kept = b.op("Mul", b.op("Sigmoid", f), c)
        written = b.op("Mul", b.op("Sigmoid", i), b.op("Tanh", g))
        new = b.op("Add", kept, written)
        return [b.op("Mul", b.op("Sigmoid", o), b.op("Tanh", new)), new]

    return _scan(b, p, w.shape[0], 2, mask, a, step)


def gru(b: Builder, x: Sequence[Value], a: Attributes) -> str:
    """h = (1 - z) n + z h with n = tanh(p + r (h w + bn))."""
    p, w, *rest = x
    width = w.shape[0]
    bias, mask = (rest[:1], rest[1:]) if rest else ([], [])

    def step(gates: str, states: Sequence[str]) -> Sequence[str]:
        (h,) = states
        thirds = b.ints(*[width] * 3)
        pr, pz, pn = b.op("Split", gates, thirds, results=3, axis=-1)
        hr, hz, hn = b.op("Split", b.op("MatMul", h, w.name), thirds, results=3, axis=-1)
        r, z = (b.op("Sigmoid", b.op("Add", one, two)) for one, two in ((pr, hr), (pz, hz)))
        if bias and bias[0].shape != (0,):
            hn = b.op("Add", hn, bias[0].name)
        new = b.op("Tanh", b.op("Add", pn, b.op("Mul", r, hn)))
        # n + z (h - n)
        return [b.op("Add", new, b.op("Mul", z, b.op("Sub", h, new)))]

    return _scan(b, p, width, 1, mask, a, step)


def _scan(
    b: Builder,
    p: Value,
    width: int,
    n_states: int,
    mask: Sequence[Value],
    a: Attributes,
    step: Step,
) -> str:
    """All steps, (n, steps, width); where the mask is 0 every state stays."""
    n = b.op("Slice", b.op("Shape", p.name), b.ints(0), b.ints(1))
    zero = b.onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    start = b.op("ConstantOfShape", b.op("Concat", n, b.ints(width), axis=0), value=zero)
    outside, b.nodes = b.nodes, []  # what the step adds is the body's
    states = [b.name("state") for _ in range(n_states)]
    gates, counts = b.name("gates"), b.name("counts")
    made = step(gates, states)
    if mask:
        stays = b.op("Unsqueeze", b.cast(counts, "BOOL"), b.ints(1))
        made = [b.op("Where", stays, new, old) for new, old in zip(made, states, strict=True)]
    result = b.op("Identity", made[0])
    read = [(gates, None)] + [(counts, None)] * len(mask)
    inputs = [(state, None) for state in states] + read
    body = b.sub_graph(b.nodes, inputs, [*made, result])
    b.nodes = outside
    backwards = int(bool(a["reverse"]))
    *_, result = b.op(
        "Scan",
        *[start] * n_states,
        p.name,
        *(one.name for one in mask),
        results=n_states + 1,
        body=body,
        num_scan_inputs=len(read),
        scan_input_axes=[1] * len(read),
        scan_input_directions=[backwards] * len(read),
        scan_output_axes=[1],
        scan_output_directions=[backwards],
    )
    return str(result)
