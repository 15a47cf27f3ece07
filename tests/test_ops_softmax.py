"""What softmax and its logarithm are besides what holds of every op: extremes and refusals."""

import numpy as np
import pytest
from helpers import over_dtypes

from fastbp import _core


def run(name, x, **attrs):
    node = _core.Node(name, [x.shape], dtype=x.dtype, attrs=attrs)
    return node, node.forward([x])[0]


@over_dtypes
@pytest.mark.parametrize("axis", [-1, 0])
def test_no_overflow_and_shares_that_sum_to_one(axis, dtype):
    """R47: logits of 1e4."""
    x = np.array([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4], [3.0, 2.0, 1.0]], dtype)
    _, shares = run("softmax", x, axis=axis)
    # Each share is rounded once or twice.
    np.testing.assert_allclose(shares.sum(axis=axis), 1, rtol=4 * np.finfo(dtype).eps)
    _, logs = run("log_softmax", x, axis=axis)
    assert np.isfinite(logs).all()
    expected = x - x.max(axis=axis, keepdims=True)
    far = expected < -50
    np.testing.assert_array_equal(shares[expected < -1000], 0)
    # Beside a term of 1, or of two of them, what is smaller than eps changes nothing.
    np.testing.assert_allclose(logs[far], expected[far], rtol=0, atol=np.log(2) * 1.001)


@over_dtypes
def test_minus_infinity_has_no_share(dtype):
    x = np.array([[0.0, -np.inf, 0.0], [-np.inf, -np.inf, -np.inf]], dtype)
    _, shares = run("softmax", x)
    np.testing.assert_array_equal(shares[0], [0.5, 0, 0.5])
    assert np.isnan(shares[1]).all()


def test_errors_name_axis_and_shape():
    for attrs, message in [
        ({"axis": 2}, r"axis of softmax: found 2, wanted an axis of an array of shape \(4, 3\)"),
        ({"axis": 0.5}, "axis of softmax: found 0.5, wanted an integer in"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.Node("softmax", [(4, 3)], dtype="float64", attrs=attrs)
    with pytest.raises(ValueError, match="x of log_softmax: found integers, wanted reals"):
        _core.Node("log_softmax", [(4, 3)], dtype="float64", indices=(0,))
