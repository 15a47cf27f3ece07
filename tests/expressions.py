"""What users write with tensors: each expression beside NumPy's form of it, and its arguments.

An expression runs on tensors and records; its witness runs on arrays and knows nothing of fastbp.
Arguments are drawn so that no kink is near.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp, softmax

from fastbp import ops
from fastbp.testing.opcase import DRAWS

INDICES = np.array([2, 0, 2, 1])
MASK = np.array([[True, False, True], [False, True, True]])
ORDER = np.array([[2, 0, 1], [1, 2, 0]])
COLUMNS = np.array([[0.5, -2.0, 1.5]])


@dataclass(frozen=True)
class Expression:
    """`on_tensors` of arguments of these shapes, which `on_arrays` says in NumPy."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    on_tensors: Callable
    on_arrays: Callable | None = None
    draw: str = "distinct"

    def arguments(self, dtype=np.float64, seed=0):
        rng = np.random.default_rng([seed, 11])
        return [np.asarray(DRAWS[self.draw](rng, shape), dtype) for shape in self.shapes]

    def witness(self, *arrays):
        return (self.on_arrays or self.on_tensors)(*arrays)

    def __str__(self):
        return self.name


def same(name, *shapes, draw="distinct"):
    """An expression that NumPy spells in the same way."""
    arguments = ("x", "y", "z")[: len(shapes)]
    on_both = eval(f"lambda {', '.join(arguments)}: {name}", globals())
    return Expression(name, shapes, on_both, draw=draw)


def other(name, shape, on_tensors, on_arrays, draw="distinct"):
    """An expression that NumPy spells differently."""
    shapes = shape if shape and isinstance(shape[0], tuple) else (shape,)
    return Expression(name, shapes, on_tensors, on_arrays, draw)


def product_of_shared(x, w, b):
    h = (x @ w + b) ** 2
    return h * h + x @ w


ARITHMETIC = (
    same("x + y", (2, 3), (2, 3)),
    same("x + y", (2, 3), (3,)),
    same("x - y", (2, 1), (1, 3)),
    same("x * y", (4, 2, 3), (2, 1)),
    same("x * y", (), (2, 3)),
    same("x / y", (2, 3), (2, 3), draw="positive"),
    same("x / y", (3,), (2, 3), draw="positive"),
    same("x * x", (2, 3)),
    same("-x", (2, 3)),
    same("abs(x)", (2, 3)),
    same("+x", (2, 3)),
    same("2 - x", (2, 3)),
    same("1 + x * 3", (2, 3)),
    same("2 / x", (2, 3), draw="positive"),
    same("x / 4", (2, 3)),
    same("COLUMNS.astype(x.dtype) * x", (2, 3)),
    same("COLUMNS.astype(x.dtype) - x", (2, 3)),
    same("COLUMNS.astype(x.dtype) / x", (2, 3), draw="positive"),
    same("[1.0, 2.0, 4.0] + x", (2, 3)),
    same("x**2", (2, 3)),
    same("x**3", (2, 3)),
    same("x**-1.5", (2, 3), draw="positive"),
    same("(x > 0.1) * x", (2, 3)),
    same("(x <= x.mean()) * y + (x >= 0) * x", (2, 3), (2, 3)),
    same("(0.1 < x) * (x != 0) * (x == x) * x", (2, 3)),
)

PRODUCTS = (
    same("x @ y", (2, 3), (3, 4)),
    same("x @ y", (5, 2, 3), (3, 4)),
    same("x @ y", (5, 2, 3), (5, 3, 4)),
    same("x @ y", (2, 3), (5, 3, 4)),
    same("x @ y", (2, 1, 2, 3), (5, 3, 4)),
    same("x @ y", (3,), (3, 4)),
    same("x @ y", (2, 3), (3,)),
    same("x @ y", (3,), (3,)),
    same("x @ y", (5, 2, 3), (3,)),
    same("x @ y", (3,), (5, 3, 4)),
    same("x @ x.T", (2, 3)),
    same("COLUMNS.astype(x.dtype) @ x", (3, 4)),
    other("residual", ((4, 3), (3, 3), (3,)), product_of_shared, product_of_shared),
)

REDUCTIONS = (
    same("x.sum()", (2, 3)),
    same("x.sum(axis=0)", (2, 3)),
    same("x.sum(axis=(0, 2), keepdims=True)", (2, 3, 4)),
    same("x.mean(axis=-1)", (2, 3)),
    same("x.mean()", (2, 3)),
    same("x.max(axis=1)", (2, 3)),
    same("x.max()", (2, 3)),
    same("x.min(axis=0, keepdims=True)", (2, 3)),
    same("x.var(axis=1)", (2, 3)),
    same("x.var()", (2, 3)),
    other("var of a sample", (4, 3), lambda x: x.var(0, correction=1), lambda x: x.var(0, ddof=1)),
    other("logsumexp", (2, 3), lambda x: x.logsumexp(axis=1), lambda x: logsumexp(x, axis=1)),
    other("softmax", (2, 3), lambda x: x.softmax(), lambda x: softmax(x, axis=-1)),
    other("softmax along 0", (2, 3), lambda x: x.softmax(axis=0), lambda x: softmax(x, axis=0)),
    other("log_softmax", (2, 3), lambda x: x.log_softmax(), lambda x: np.log(softmax(x, axis=-1))),
)

FUNCTIONS = (
    other("exp", (2, 3), lambda x: x.exp(), np.exp),
    other("log", (2, 3), lambda x: x.log(), np.log, "positive"),
    other("sqrt", (2, 3), lambda x: x.sqrt(), np.sqrt, "positive"),
    other("tanh", (2, 3), lambda x: x.tanh(), np.tanh),
    other("logistic", (2, 3), lambda x: x.logistic(), expit),
    other("relu", (2, 3), lambda x: x.relu(), lambda x: np.maximum(x, 0)),
    other("clip", (2, 3), lambda x: x.clip(-0.12, 0.3), lambda x: np.clip(x, -0.12, 0.3)),
    other("maximum", ((2, 3), (3,)), ops.maximum, np.maximum, "normal"),
    other(
        "where",
        ((2, 3), (3,)),
        lambda x, y: ops.where(MASK, x, y),
        lambda x, y: np.where(MASK, x, y),
    ),
    other(
        "where by a comparison",
        ((2, 3), (2, 3)),
        lambda x, y: ops.where(x > y, x, y * y),
        lambda x, y: np.where(x > y, x, y * y),
        "normal",
    ),
)

SHAPES = (
    same("x.reshape(3, 2)", (2, 3)),
    same("x.reshape((-1, 1, 2))", (2, 3)),
    same("x.reshape(-1)", ()),
    same("x.T", (2, 3, 4)),
    same("x.transpose(1, 0, 2)", (2, 3, 4)),
    same("x.transpose((2, 0, 1))", (2, 3, 4)),
    same("x.flatten()", (2, 3)),
    other(
        "concatenate",
        ((2, 3), (2, 1)),
        lambda x, y: ops.concatenate([x, y, x], axis=1),
        lambda x, y: np.concatenate([x, y, x], axis=1),
    ),
    other(
        "concatenate 20",
        (2, 3),
        lambda x: ops.concatenate([x * i for i in range(20)]),
        lambda x: np.concatenate([x * i for i in range(20)]),
    ),
    other(
        "stack",
        ((2, 3), (2, 3)),
        lambda x, y: ops.stack([x, y, x], axis=-1),
        lambda x, y: np.stack([x, y, x], axis=-1),
    ),
    other(
        "pad",
        (2, 3),
        lambda x: ops.pad(x, (1, 0), (0, 2), 7.0),
        lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=7.0),
    ),
    other(
        "broadcast",
        (3, 1),
        lambda x: ops.broadcast(x, (2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
    ),
)

INDEXING = tuple(
    same(f"x[{key}]", shape)
    for shape, keys in {
        (5,): (
            *("0", "-1", "1:4", "::2", "::-1", "4:0:-2", "3:1", "None", "..."),
            *("INDICES", "[0, 0]"),
        ),
        (3, 4): (
            *("1", "1, 2", "-1, -2", ":, 1", "1:, :-1", "::2, ::-3", "..., 0", "None, 1", "..."),
            *("1, None", "0, ..., None", ":0", "INDICES", "INDICES, 1:", ":, INDICES", "[-1, 0]"),
            *("INDICES, INDICES", "INDICES[:, None], [0, 3]", "np.array([[0, 1], [2, 2]])"),
        ),
        (2, 3): (
            *("MASK", "~MASK", "MASK[:, 0], 1", "np.array([True, False])"),
            *(":, [True, False, True]",),
        ),
        (2, 3, 4): ("1, ..., 2", ":, 1:2, ::-1", "[1, 0], :, [2, 3]", "0, 1, 2", "MASK"),
    }.items()
    for key in keys
)  # fmt: skip

GATHERING = (
    other("take", (3, 2), lambda x: ops.take(x, INDICES, axis=0), lambda x: np.take(x, INDICES, 0)),
    other(
        "take_along",
        (2, 3),
        lambda x: ops.take_along(x, ORDER, axis=1),
        lambda x: np.take_along_axis(x, ORDER, 1),
    ),
    other("sorting", (2, 3), lambda x: ops.take_along(x, x.detach().argsort(), axis=-1), np.sort),
    other("mask as index", (2, 3), lambda x: x[x > 0] * 2, lambda x: x[x > 0] * 2),
)

EXPRESSIONS = (
    *ARITHMETIC,
    *PRODUCTS,
    *REDUCTIONS,
    *FUNCTIONS,
    *SHAPES,
    *INDEXING,
    *GATHERING,
)
