"""Softmax along an axis: extremes, infinities, sums, accuracy on long rows, other axes, errors.

Values, gradients and bits in general are held by test_ops.py.
"""

import numpy as np
import pytest
import scipy.special
from helpers import bits, over_dtypes

from fastbp import _core

NAMES = ("softmax", "log_softmax")
over_names = pytest.mark.parametrize("name", NAMES)


def run(name, x, axis=-1):
    (y,) = _core.Node(name, [x.shape], dtype=x.dtype, attrs={"axis": axis}).forward([x])
    return y


def gradient(name, x, dy, axis=-1):
    node = _core.Node(name, [x.shape], dtype=x.dtype, attrs={"axis": axis})
    return node.backward([None], node.forward([x]), [dy], [True])[0]


@over_dtypes
@over_names
@pytest.mark.parametrize("k", [1, 2, 7, 8, 15, 16, 17, 128, 1000, 1024, 1025, 40_000])
def test_accuracy_of_rows(name, k, dtype):
    rng = np.random.default_rng(k)
    x = rng.normal(0, 3, (4, k)).astype(dtype)
    y = run(name, x)
    exact = scipy.special.log_softmax(x.astype(np.longdouble), axis=1)
    eps = np.finfo(dtype).eps
    # x - max is rounded once, which exp turns into a relative error of |x - max| eps / 2; a sum has
    # at most 64 terms in a chain and a few levels of a tree. A logarithm has that as its error.
    spread = np.ptp(x, axis=1, keepdims=True)
    relative = (40 + spread) * eps
    if name == "softmax":
        assert np.all(np.abs(y - np.exp(exact)) <= relative * np.exp(exact))
    else:
        assert np.all(np.abs(y - exact) <= 40 * eps + 2 * eps * np.abs(exact))


@over_dtypes
@pytest.mark.parametrize("axis", [0, 1])
def test_nothing_overflows(axis, dtype):
    big = float(np.finfo(dtype).max) / 2
    x = np.array([[big, 0, -big], [1e4, 1e4, -1e4], [-big, -big, -big]], dtype)
    x = x if axis == 1 else np.ascontiguousarray(x.T)
    with np.errstate(all="raise"):
        p, log_p = run("softmax", x, axis), run("log_softmax", x, axis)
    expected = np.array([[1, 0, 0], [0.5, 0.5, 0], [1 / 3] * 3])
    np.testing.assert_allclose(p if axis == 1 else p.T, expected, rtol=2 * np.finfo(dtype).eps)
    assert np.isfinite(log_p).all()


@over_dtypes
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("k", [3, 40])
def test_infinities_are_those_of_scipy(k, axis, dtype):
    """Minus infinity has no share, unless nothing else is there: then all are NaN."""
    x = np.zeros((4, k), dtype)
    x[0, 1] = -np.inf
    x[1] = -np.inf
    x[2, k - 1] = np.inf
    x[3, 1] = np.nan
    x = x if axis == 1 else np.ascontiguousarray(x.T)
    with np.errstate(invalid="ignore"):
        expected = scipy.special.softmax(x, axis=axis)
    np.testing.assert_allclose(run("softmax", x, axis), expected, rtol=4 * np.finfo(dtype).eps)
    log_p = run("log_softmax", x, axis)
    log_p = log_p if axis == 1 else log_p.T
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(log_p[0], np.log(expected.take(0, 1 - axis)), rtol=1e-6)
    assert np.isnan(log_p[1:]).all()


@over_dtypes
def test_a_small_rest_keeps_its_digits(dtype):
    """log p of a class that is all but certain is minus the share of the others."""
    x = np.array([[0, -15, -16]], dtype)
    rest = np.exp(-15) + np.exp(-16)
    # The sum 1 + rest is formed in the dtype before it is one of float64.
    expected = -np.log1p(rest)
    assert abs(run("log_softmax", x)[0, 0] - expected) <= 2 * np.finfo(dtype).eps


@over_dtypes
@over_names
@pytest.mark.parametrize("shape", [(6, 5), (3, 130), (2, 3000)])
def test_gradients_along_an_axis_sum_to_zero(name, shape, dtype):
    """Adding a number to all of x changes nothing."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    for axis in (0, 1):
        dx = gradient(name, x, dy, axis)
        sums = np.abs(dx.sum(axis=axis, dtype=np.float64))
        terms = np.abs(dy).sum(axis=axis, dtype=np.float64)
        assert np.all(sums <= 8 * np.finfo(dtype).eps * terms)


@over_dtypes
@over_names
def test_axes_agree(name, dtype):
    """Each axis by its own loops, to rounding; the ways to write one shape, to the bit."""
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 5, 40, 3)).astype(dtype)
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    moved_dy = np.ascontiguousarray(np.moveaxis(dy, 1, -1))
    last = np.moveaxis(run(name, moved), -1, 1)
    np.testing.assert_allclose(run(name, x, 1), last, rtol=20 * np.finfo(dtype).eps)
    last = np.moveaxis(gradient(name, moved, moved_dy), -1, 1)
    np.testing.assert_allclose(
        gradient(name, x, dy, 1), last, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(last).max()
    )
    other = x.reshape(5, 40, 1, 3)
    np.testing.assert_array_equal(bits(run(name, other, 1).reshape(x.shape)), bits(run(name, x, 1)))
    np.testing.assert_array_equal(
        bits(gradient(name, other, dy.reshape(other.shape), -3).reshape(x.shape)),
        bits(gradient(name, x, dy, 1)),
    )


@over_dtypes
@over_names
def test_a_row_has_its_bits_wherever_it_lies(name, dtype):
    rng = np.random.default_rng(2)
    for k in (3, 16, 21, 2000):
        x, dy = rng.standard_normal((2, 37, k)).astype(dtype)
        y, dx = run(name, x), gradient(name, x, dy)
        for i in (0, 15, 16, 36):
            np.testing.assert_array_equal(bits(run(name, x[i : i + 1])), bits(y[i : i + 1]))
            alone = gradient(name, x[i : i + 1], dy[i : i + 1])
            np.testing.assert_array_equal(bits(alone), bits(dx[i : i + 1]))


@over_names
def test_what_backward_reads(name):
    node = _core.Node(name, [(4, 3)], dtype="float64")
    assert (node.reads_inputs, node.reads_outputs) == ((False,), (True,))


@over_names
def test_empty_arrays(name):
    for shape in [(0, 3), (3, 0), (0,), (2, 0, 3)]:
        for axis in range(len(shape)):
            assert run(name, np.zeros(shape), axis).shape == shape
            assert gradient(name, np.zeros(shape), np.zeros(shape), axis).shape == shape


@over_names
def test_errors_name_op_axis_and_shape(name):
    for shape, attrs, message in [
        (
            (4, 3),
            {"axis": 2},
            rf"axis of {name}: found 2, wanted an axis of an array of shape \(4,",
        ),
        ((), {}, rf"axis of {name}: found -1, wanted an axis of an array of shape \(\)"),
        ((4, 3), {"axis": [0, 1]}, f"axis of {name}: found 2 numbers, wanted 1 to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.Node(name, [shape], dtype="float64", attrs=attrs)
    with pytest.raises(ValueError, match=f"x of {name}: found integers, wanted reals"):
        _core.Node(name, [(4, 3)], dtype="float64", indices=(0,))
