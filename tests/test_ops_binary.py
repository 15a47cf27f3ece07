"""Elementwise ops of several operands: ties, NaN, exact values, sums of gradients, errors.

Values, gradients and bits in general are held by test_ops.py.
"""

import numpy as np
import pytest
from helpers import bits, over_dtypes

from fastbp import _core
from fastbp.testing import rows

DIFFERENTIABLE = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


def node_of(name, *arrays):
    return _core.Node(name, [a.shape for a in arrays], dtype=arrays[0].dtype)


def gradients(name, arrays, dy=None):
    node = node_of(name, *arrays)
    y = node.forward(arrays)
    return node.backward(arrays, y, [np.ones_like(y[0]) if dy is None else dy], node.differentiable)


def numbers(dtype):
    """All pairs of these."""
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([-np.inf, -2, -tiny, -0.0, 0.0, tiny, 0.5, 3, np.inf, np.nan], dtype)
    return [np.ascontiguousarray(a) for a in np.meshgrid(x, x)]


@over_dtypes
@pytest.mark.parametrize("name", [*DIFFERENTIABLE, *COMPARISONS])
def test_special_values_are_those_of_numpy(name, dtype):
    a, b = numbers(dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b).astype(dtype)
    (y,) = node_of(name, a, b).forward([a, b])
    np.testing.assert_array_equal(y, expected)
    if name not in ("maximum", "minimum"):  # of 0.0 and -0.0 either may come out
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(bits(y[number]), bits(expected[number]))


@over_dtypes
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_equal_operands_share_the_gradient(name, dtype):
    a = np.array([1, -0.0, np.inf, 2, np.nan, 3], dtype)
    b = np.array([1, 0.0, np.inf, 1, 0, np.nan], dtype)
    da, db = gradients(name, [a, b])
    np.testing.assert_array_equal(da[:3], np.full(3, 0.5))
    np.testing.assert_array_equal(db[:3], np.full(3, 0.5))
    np.testing.assert_array_equal(da[3], float(name == "maximum"))
    np.testing.assert_array_equal(db[3], float(name == "minimum"))
    assert np.isnan([da[4:], db[4:]]).all()


@over_dtypes
def test_division_stays_in_range_where_the_square_of_the_divisor_does_not(dtype):
    large = np.sqrt(np.finfo(dtype).max) * dtype(8)
    a, b = np.array([large, 1 / large], dtype), np.array([large, 1 / large], dtype)
    da, db = gradients("divide", [a, b])
    np.testing.assert_array_equal(da, 1 / b)
    np.testing.assert_array_equal(db, -1 / b)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_have_no_gradient(name):
    a = np.arange(3.0)
    node = node_of(name, a, a[::-1].copy())
    assert node.differentiable == (False, False)
    y = node.forward([a, a[::-1].copy()])
    assert set(np.unique(y[0])) <= {0.0, 1.0}
    assert not node.tangent([a, a], y, [a, a])[0].any()
    with pytest.raises(LookupError, match=f"{name} has no gradient by its input 1"):
        node.backward([a, a], y, [a], [False, True])


def test_where_takes_its_condition_as_numpy_does():
    """Not a number is not zero. What is not chosen takes no part, whatever it is."""
    condition = np.array([0.0, -0.0, 1.0, -3.0, np.nan, np.inf])
    a, b = np.full(6, 2.0), np.full(6, np.nan)
    b[:2] = 5
    node = node_of("where", condition, a, b)
    assert node.differentiable == (False, True, True)
    assert node.reads_inputs == (True, False, False)
    np.testing.assert_array_equal(node.forward([condition, a, b])[0], [5, 5, 2, 2, 2, 2])
    _, da, db = gradients("where", [condition, a, b])
    np.testing.assert_array_equal(da, [0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(db, [1, 1, 0, 0, 0, 0])


def test_what_backward_reads():
    a, b = np.ones((4, 3)), np.ones((4, 3))
    for name in ("add", "subtract"):
        node = node_of(name, a, b)
        assert node.reads_inputs == (False, False)
        # So nothing need be there.
        da, _ = node.backward([None, None], [None], [a], [True, True])
        np.testing.assert_array_equal(da, a)
    for name in ("multiply", "divide", "maximum", "minimum"):
        assert node_of(name, a, b).reads_inputs == (True, True)


@over_dtypes
@pytest.mark.parametrize("shape", [(700, 1, 1), (1, 700, 1), (1, 1, 700), (700, 3, 1), (7, 100, 1)])
def test_gradients_of_broadcast_operands_are_sums(shape, dtype):
    """To a chain of 16 lanes and a fold within a sample's run, and one chain over the rest."""
    whole = (700, 3, 2) if shape[0] == 700 else (7, 700, 700)
    whole = tuple(n if n > 1 else m for n, m in zip(shape, whole, strict=True))
    rng = np.random.default_rng(0)
    a = rng.uniform(0.5, 1, whole).astype(dtype)
    b, dy = rng.uniform(0.5, 1, shape).astype(dtype), rng.uniform(0.5, 1, whole).astype(dtype)
    _, db = gradients("multiply", [a, b], dy)
    axes = tuple(i for i, n in enumerate(shape) if n == 1)
    expected = np.sum(np.float64(a) * dy, axis=axes, keepdims=True)
    summed = a.size / b.size
    # All terms are positive: the error of a chain is at most its length in roundings.
    np.testing.assert_allclose(db, expected, rtol=(2 + summed) * np.finfo(dtype).eps / 2)


@over_dtypes
def test_a_gradient_does_not_depend_on_how_the_shape_is_written(dtype):
    """Axes of 1 change no bit, nor do axes that are broadcast alike."""
    rng = np.random.default_rng(1)
    a, dy = rng.standard_normal((2, 4, 100, 30)).astype(dtype)
    b = rng.standard_normal((4, 1, 1)).astype(dtype)
    _, first = gradients("multiply", [a, b], dy)
    shapes = [(4, 3000), (4, 3000, 1), (4, 1, 3000), (4, 20, 15, 10)]
    for shape in shapes:
        others = [a.reshape(shape), b.reshape(4, *[1] * (len(shape) - 1))]
        _, other = gradients("multiply", others, dy.reshape(shape))
        np.testing.assert_array_equal(bits(other.ravel()), bits(first.ravel()))


def test_shapes_that_do_not_broadcast_are_named():
    for name, shapes, message in [
        (
            "add",
            [(5, 3), (5, 4)],
            r"add: found a of shape \(n, 3\) and b of shape \(n, 4\), wanted",
        ),
        ("divide", [(5, 3), (4, 3)], r"a of shape \(5, 3\) and b of shape \(4, 3\), wanted shapes"),
        ("less", [(5, 3), (2,)], r"a of shape \(n, 3\) and b of shape \(2,\), wanted shapes that"),
        ("add", [(None, 3), (None, 2, 3)], r"\(n, 3\) and b of shape \(n, 2, 3\), wanted shapes"),
        ("add", [(None, 3), (2, 2, 3)], r"\(n, 3\) and b of shape \(2, 2, 3\), wanted shapes"),
        (
            "where",
            [(5, 3), (3,), (2, 3)],
            r"found condition of shape \(5, 3\) and a of shape \(3,\) and b of shape \(2, 3\)",
        ),
        ("where", [(5, 3), (3,)], "where: found 2 inputs, wanted 3 to 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.Node(name, shapes, dtype="float64")
    with pytest.raises(ValueError, match="b of add: found integers, wanted reals"):
        _core.Node("add", [(3,), (3,)], dtype="float64", indices=(1,))


def test_the_samples_are_those_of_what_spans_the_result():
    for shapes, batched, result in [
        ([(5, 3), (3,)], (True, False), (5, 3)),
        ([(1, 3), (5, 3)], (False, True), (5, 3)),
        ([(1, 3), (1, 3)], (True, True), (1, 3)),
        ([(0, 3), (1, 3)], (True, False), (0, 3)),
        ([(), ()], (False, False), ()),
    ]:
        node = _core.Node("add", shapes, dtype="float64")
        assert (node.batched, node.outputs) == (batched, (result,))


def test_the_rows_are_those_of_the_references():
    names = {row["name"] for row in rows("op") if row["inputs"] == ("a", "b")} - {"matmul"}
    assert names == {*DIFFERENTIABLE, *COMPARISONS}
