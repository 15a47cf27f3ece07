"""Reductions along axes: ties, NaN, infinities, empty axes, the accuracy of long sums, errors.

Values, gradients and bits in general are held by test_ops.py.
"""

import numpy as np
import pytest
from helpers import bits, over_dtypes
from scipy.special import logsumexp, softmax

from fastbp import _core

REDUCTIONS = ("sum", "mean", "max", "min", "logsumexp")


class Reduced:
    """A reduction of x with its result."""

    def __init__(self, name, x, **attrs):
        self.x = [x]
        self.node = _core.Node(name, [x.shape], dtype=x.dtype, attrs=attrs)
        self.y = self.node.forward(self.x)
        (self.value,) = self.y

    def gradient(self, dy=None):
        dy = np.ones_like(self.value) if dy is None else dy
        return self.node.backward(self.x, self.y, [dy], [True])[0]


@over_dtypes
@pytest.mark.parametrize("shape", [(3_000_000,), (1, 3_000_000), (3_000_000, 1), (750_000, 4)])
def test_the_error_of_a_sum_does_not_grow_with_its_length(shape, dtype):
    """Terms of one sign: float32 is rounded once, float64 summed in 16 chains of runs of 256."""
    x = np.random.default_rng(0).uniform(0.5, 1, shape).astype(dtype)
    axes = [0] if shape[-1] == 4 else [0, 1][: len(shape)]
    for name in ("sum", "mean"):
        ours = Reduced(name, x, axes=axes).value
        expected = getattr(np, name)(x.astype(np.longdouble), axis=tuple(axes))
        roundings = 1 if dtype == np.float32 else 20 + (750_000 if shape[-1] == 4 else 12_000)
        np.testing.assert_allclose(ours, expected, rtol=roundings * np.finfo(dtype).eps / 2 * 1.01)


@over_dtypes
@pytest.mark.parametrize("name", ["max", "min"])
def test_equal_elements_share_the_gradient(name, dtype):
    x = np.array([[1, 1, 0], [-0.0, 0.0, 5], [2, 2, 2], [np.inf, 1, np.inf]], dtype)
    x = x if name == "max" else -x
    dy = np.array([1, 2, 3, 4], dtype)
    ours = Reduced(name, x, axes=[1])
    np.testing.assert_array_equal(ours.value, getattr(np, name)(x, axis=1))
    expected = dy[:, None] * np.array([[0.5, 0.5, 0], [0, 0, 1], [1 / 3] * 3, [0.5, 0, 0.5]])
    np.testing.assert_allclose(ours.gradient(dy), expected, rtol=np.finfo(dtype).eps)
    whole = Reduced(name, np.full((3, 5), 7, dtype))
    np.testing.assert_array_equal(whole.gradient(), np.full((3, 5), dtype(1) / dtype(15)))


@over_dtypes
@pytest.mark.parametrize("name", ["max", "min", "sum", "mean", "logsumexp"])
@pytest.mark.parametrize("position", [0, 5, 15, 16, 300, 599])
def test_nan_goes_through(name, position, dtype):
    x = np.random.default_rng(0).standard_normal((2, 600)).astype(dtype)
    x[1, position] = np.nan
    assert np.isnan(Reduced(name, x, axes=[1]).value).tolist() == [False, True]
    assert np.isnan(Reduced(name, x, axes=[0]).value).sum() == 1
    assert np.isnan(Reduced(name, x).value)


@over_dtypes
@pytest.mark.parametrize("axes", [[0], [1]])
def test_logsumexp_of_infinities_is_that_of_scipy(axes, dtype):
    inf = np.inf
    x = np.array([[-inf, -inf, -inf], [-inf, 1, 2], [inf, 1, -inf], [inf, inf, 3]], dtype)
    x = x if axes == [1] else np.ascontiguousarray(x.T)
    ours = Reduced("logsumexp", x, axes=axes)
    with np.errstate(all="ignore"):
        expected = logsumexp(x, axis=axes[0])
    np.testing.assert_array_max_ulp(ours.value, expected.astype(dtype), maxulp=2)
    slope = ours.gradient() if axes == [1] else ours.gradient().T
    # Where all are minus infinity there is no softmax, and nothing is to be learnt.
    np.testing.assert_array_equal(slope[0], np.zeros(3))
    np.testing.assert_allclose(slope[1], softmax([-inf, 1, 2]), rtol=8 * np.finfo(dtype).eps)
    assert np.isnan(slope[2, 0]) and np.isnan(slope[3, 0])


@over_dtypes
def test_logsumexp_neither_overflows_nor_loses_small_terms(dtype):
    x = np.array([[1e4, 1e4], [-1e4, -1e4], [0, -16], [700, 0]], dtype)
    ours = Reduced("logsumexp", x, axes=[1])
    expected = logsumexp(x.astype(np.longdouble), axis=1)
    # 1 + exp(-16) as a sum in float64 keeps 1e-7 of float32's digits, and 1e-9 of float64's.
    np.testing.assert_allclose(ours.value, expected, rtol=max(1e-9, 2 * np.finfo(dtype).eps))
    # exp(x - y) multiplies the rounding of y by y.
    error = 4 * np.finfo(dtype).eps * (1 + np.abs(expected.astype(np.float64)))
    assert np.all(np.abs(ours.gradient() - softmax(np.float64(x), axis=1)) <= error[:, None])


def test_what_is_reduced_may_be_empty():
    x = np.zeros((3, 0))
    assert Reduced("sum", x, axes=[1]).value.tolist() == [0, 0, 0]
    assert np.isnan(Reduced("mean", x, axes=[1]).value).all()
    assert Reduced("logsumexp", x, axes=[1]).value.tolist() == [-np.inf] * 3
    for name in REDUCTIONS:
        ours = Reduced(name, x, axes=[0])
        assert ours.value.shape == (0,) and ours.gradient().shape == (3, 0)
    for name in ("max", "min"):
        message = rf"{name}: found no elements along axes of x of shape \(3, 0\), wanted some"
        with pytest.raises(ValueError, match=message):
            Reduced(name, x, axes=[1])


@over_dtypes
@pytest.mark.parametrize("name", REDUCTIONS)
def test_the_bits_do_not_depend_on_how_the_shape_is_written(name, dtype):
    x = np.random.default_rng(0).standard_normal((30, 20, 10)).astype(dtype)
    for axes, others in [
        ([1, 2], [((30, 200), [1]), ((30, 1, 200), [2]), ((30, 200, 1), [1, 2])]),
        ([0], [((30, 200), [0]), ((30, 200, 1), [0])]),
    ]:
        first = Reduced(name, x, axes=axes)
        for shape, other_axes in others:
            other = Reduced(name, x.reshape(shape), axes=other_axes)
            np.testing.assert_array_equal(bits(other.value.ravel()), bits(first.value.ravel()))
            np.testing.assert_array_equal(
                bits(other.gradient().ravel()), bits(first.gradient().ravel())
            )


def test_what_backward_reads():
    x = np.ones((4, 3))
    for name in ("sum", "mean"):
        node = _core.Node(name, [x.shape], dtype=x.dtype)
        assert (node.reads_inputs, node.reads_outputs) == ((False,), (False,))
        (dx,) = node.backward([None], [None], [np.array(6.0)], [True])
        np.testing.assert_array_equal(dx, np.full((4, 3), 6 if name == "sum" else 0.5))


def test_errors_name_op_axes_and_shape():
    for attrs, message in [
        ({"axes": [2]}, r"axes of sum: found 2, wanted an axis of an array of shape \(4, 3\)"),
        ({"axes": [0, -2]}, "axes of sum: found axis 0 twice, wanted each once"),
        ({"axes": [0.5]}, "axes of sum: found 0.5, wanted an integer in"),
        ({"axes": [0] * 9}, "axes of sum: found 9 numbers, wanted 0 to 8"),
        ({"keepdims": 2}, r"keepdims of sum: found 2, wanted an integer in \[0, 1\]"),
        ({"axis": 1}, r"attributes of 'sum': found \['axis'\], wanted axes, keepdims"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.Node("sum", [(4, 3)], dtype="float64", attrs=attrs)
    with pytest.raises(ValueError, match="x of sum: found integers, wanted reals"):
        _core.Node("sum", [(4, 3)], dtype="float64", indices=(0,))
