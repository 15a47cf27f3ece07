"""Ops that pick elements by integers: the bits of NumPy, the order of sums, and what is refused."""

import numpy as np
import pytest
from helpers import bits, over_dtypes
from reference_ops import picks

from fastbp import _core


def node_of(name, x, indices, **attrs):
    first = name == "embedding"
    shapes = [indices.shape, x.shape] if first else [x.shape, indices.shape]
    return _core.Node(name, shapes, dtype=x.dtype, attrs=attrs, indices=[0 if first else 1])


def in_order(name, x, indices):
    return [indices, x] if name == "embedding" else [x, indices]


def scattered(name, x, indices, dy, **attrs):
    """The gradient by x: additions one after the other, in the order of the result's elements."""
    places = np.arange(x.size).reshape(x.shape)
    dx = np.zeros(x.size, x.dtype)
    np.add.at(dx, picks.OPS[name](*in_order(name, places, indices), **attrs).ravel(), dy.ravel())
    return dx.reshape(x.shape)


CASES = [
    ("take", (40, 7), (30,), {"axis": 0}),
    ("take", (3, 20, 5), (4, 6), {"axis": 1}),
    ("take", (3, 5, 20), (70,), {"axis": 2}),
    ("take_along", (30, 4), (50, 4), {"axis": 0}),
    ("take_along", (6, 9), (6, 40), {"axis": 1}),
    ("take_along", (1, 9), (6, 5), {"axis": 1}),
    ("embedding", (25, 19), (8, 10), {}),
]
over_picks = pytest.mark.parametrize(("name", "shape", "wanted", "attrs"), CASES)


@over_dtypes
@over_picks
@pytest.mark.parametrize("isa", _core.build_info()["isas"])
def test_bits(isa, name, shape, wanted, attrs, dtype, rng, force_isa):
    force_isa(isa)
    x = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)  # NaN and all
    x = x.view(dtype).reshape(shape)
    length = shape[attrs.get("axis", 0)]
    indices = rng.integers(-length, length, wanted).astype(np.int32)
    node = node_of(name, x, indices, **attrs)
    arrays = in_order(name, x, indices)
    (y,) = node.forward(arrays)
    expected = np.ascontiguousarray(picks.OPS[name](*arrays, **attrs))
    np.testing.assert_array_equal(bits(y), bits(expected))
    dy = rng.standard_normal(y.shape).astype(dtype)
    gradients = node.backward(arrays, [y], [dy], node.differentiable)
    (dx,) = (g for g in gradients if g is not None)
    np.testing.assert_array_equal(dx, scattered(name, x, indices, dy, **attrs))


def test_an_element_that_is_taken_often_gathers_all_gradients():
    x, indices = np.zeros((2, 3)), np.array([1, -1, 1, 1], np.int32)
    node = node_of("take", x, indices, axis=0)
    (dx, none) = node.backward([x, indices], [None], [np.ones((4, 3))], [True, False])
    np.testing.assert_array_equal(dx, [[0] * 3, [4] * 3])
    assert none is None


@pytest.mark.parametrize("wrong", [5, -6, 2**31 - 1, -(2**31)])
def test_indices_out_of_range_are_refused(wrong):
    x = np.zeros((5, 3))
    indices = np.array([[0, 4, -5], [1, wrong, wrong - 1 if wrong > 0 else wrong + 1]], np.int32)
    for name, attrs in [("take", {"axis": 0}), ("embedding", {})]:
        node = node_of(name, x, indices, **attrs)
        arrays = in_order(name, x, indices)
        message = f"indices of {name}: found {wrong}, wanted -5 to 4"
        dy = np.zeros(node.outputs[0])
        with pytest.raises(ValueError, match=message):
            node.forward(arrays)
        with pytest.raises(ValueError, match=message):
            node.backward(arrays, [None], [dy], node.differentiable)
        with pytest.raises(ValueError, match=message):
            node.tangent(arrays, [None], [None, None])
        with pytest.raises(ValueError, match=message):
            node.backward_tangent(
                arrays, [None], [None, None], [None], [dy], [dy], node.differentiable
            )
    node = node_of("take_along", x, indices[:1], axis=1)
    with pytest.raises(ValueError, match="indices of take_along: found 4, wanted -3 to 2"):
        node.forward([x, indices[:1]])


def test_of_nothing_nothing_can_be_taken():
    x = np.zeros((0, 3))
    for indices, arrays in [(np.zeros(2, np.int32), None), (np.zeros(2, np.int32), 0)]:
        node = node_of("take", x, indices, axis=0)
        with pytest.raises(ValueError, match="found 0, wanted none, as there is no element"):
            node.forward([x, None if arrays is None else indices])
    empty = np.zeros(0, np.int32)
    assert node_of("take", x, empty, axis=0).forward([x, empty])[0].shape == (0, 3)


def test_classes_out_of_range_are_refused():
    z = np.zeros((4, 3))
    node = _core.Node("softmax_cross_entropy", [(4, 3), (4,)], dtype="float64", indices=[1])
    for found in (3, -1):
        t = np.array([0, 2, found, 1], np.int32)
        with pytest.raises(
            ValueError, match=f"target of softmax_cross_entropy: found {found}, wanted 0 to 2"
        ):
            node.forward([z, t])
    values = node.forward([z, np.array([0, 2, 1, 1], np.int32)])
    np.testing.assert_allclose(values[0], np.log(3))


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "indices", "message"),
    [
        ("take", [(3,), (2,)], {}, [1], "axis of take: found none, wanted a number"),
        ("take", [(3,), (2,)], {"axis": 1}, [1], "axis of take: found 1, wanted an axis"),
        ("take", [(3,), (2,)], {"axis": 0}, [], "indices of take: found reals, wanted integers"),
        ("take", [(3,), (2,)], {"axis": 0}, [0, 1], "x of take: found integers, wanted reals"),
        (
            "take",
            [(1,) * 5, (1,) * 5],
            {"axis": 0},
            [1],
            r"take: found x of shape \(1, 1, 1, 1, 1\) and .* wanted a result of at most 8 axes",
        ),
        (
            "take_along",
            [(3, 4), (2, 4)],
            {"axis": 1},
            [1],
            r"take_along: found x of shape \(3, 4\) and indices of shape \(2, 4\), wanted as many "
            "axes, and all but axis 1 to agree",
        ),
        ("take_along", [(3, 4), (3,)], {"axis": 0}, [1], r"and indices of shape \(3,\)"),
        (
            "embedding",
            [(3, 4), (5,)],
            {},
            [0],
            r"embedding: found indices of shape \(n, 4\) and table of shape \(5,\)",
        ),
        ("embedding", [(3,), (None, 2)], {}, [0], r"table of shape \(n, 2\)"),
        ("linear", [(3, 4), (4, 2)], {}, [0], "x of linear: found integers, wanted reals"),
        ("tanh", [(3, 4)], {}, [0], "x of tanh: found integers, wanted reals"),
        (
            "softmax_cross_entropy",
            [(3, 4), (3,)],
            {},
            [],
            "target of softmax_cross_entropy: found reals, wanted",
        ),
    ],
)
def test_errors(name, shapes, attrs, indices, message):
    with pytest.raises(ValueError, match=message):
        _core.Node(name, shapes, dtype="float64", attrs=attrs, indices=indices)
