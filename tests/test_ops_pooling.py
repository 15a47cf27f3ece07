"""What poolings are besides what holds of every op: ties, NaN, other formulations, and what is
refused."""

import numpy as np
import pytest
from helpers import bits, over_dtypes

from fastbp import _core

EPS = np.finfo(np.float64).eps


def pooled(name, x, dy=None, **attrs):
    """The result and, for dy, the gradient of x."""
    node = _core.Node(name, [x.shape], dtype=x.dtype, attrs=attrs)
    y = node.forward([x])
    return y[0], node.backward([x], y, [np.ones_like(y[0]) if dy is None else dy], [True])[0]


def tied(n_channels, dtype):
    """Small integers, so that most windows hold their largest element more than once."""
    return np.random.default_rng(0).integers(0, 3, (3, 7, 6, n_channels)).astype(dtype)


@over_dtypes
@pytest.mark.parametrize("n_channels", [1, 3, 16, 20])
def test_of_equal_elements_the_first_gets_the_gradient(n_channels, dtype):
    x = tied(n_channels, dtype)
    dy = np.random.default_rng(1).integers(1, 9, (3, 3, 2, n_channels)).astype(dtype)
    y, dx = pooled("max_pool", x, dy, kernel=3, stride=2)
    expected = np.zeros_like(x)
    for n, i, j, c in np.ndindex(*dy.shape):
        window = x[n, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3, c]
        line, position = np.unravel_index(window.argmax(), window.shape)  # argmax takes the first
        expected[n, 2 * i + line, 2 * j + position, c] += dy[n, i, j, c]
        assert y[n, i, j, c] == window.max()
    np.testing.assert_array_equal(dx, expected)


@over_dtypes
def test_the_tangent_of_max_pool_is_that_of_the_element_that_gets_the_gradient(dtype):
    x = tied(5, dtype)
    node = _core.Node("max_pool", [x.shape], dtype=dtype, attrs={"kernel": 2})
    y = node.forward([x])
    (winners,) = node.backward([x], y, [np.ones_like(y[0])], [True])
    tx = np.arange(1, x.size + 1).reshape(x.shape).astype(dtype)
    (ty,) = node.tangent([x], y, [tx])
    windows = (winners * tx)[:, :6].reshape(3, 3, 2, 3, 2, 5)
    np.testing.assert_array_equal(ty, windows.sum((2, 4)))


@over_dtypes
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 1)])
def test_nan_is_the_largest_element(place, dtype):
    x = np.ones((1, 2, 2, 3), dtype)
    x[0, *place, 1] = np.nan
    y, dx = pooled("max_pool", x, kernel=2)
    np.testing.assert_array_equal(y.ravel(), [1, np.nan, 1])
    assert dx[0, *place, 1] == 1
    assert dx[..., 1].sum() == 1


@over_dtypes
def test_padding_is_never_the_largest_element(dtype):
    x = np.full((1, 3, 3, 1), -np.inf, dtype)
    y, dx = pooled("max_pool", x, kernel=2, padding=1)
    assert np.isneginf(y).all()
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_max_pool_is_minus_the_smallest():
    """Of 1-d windows, by the running minimum of SciPy's."""
    from scipy.ndimage import minimum_filter1d

    x = np.random.default_rng(2).standard_normal((2, 9, 3))
    y, _ = pooled("max_pool", x, kernel=3, stride=1)
    np.testing.assert_array_equal(y, -minimum_filter1d(-x, 3, axis=1)[:, 1:-1])


@pytest.mark.parametrize("count", [0, 1])
def test_average_pool_is_a_convolution_of_each_channel_with_ones(count):
    """R21: with zeros around it, and divided by how many elements a window has."""
    x = np.random.default_rng(3).standard_normal((2, 6, 7, 4))
    dy = np.random.default_rng(4).standard_normal((2, 3, 4, 4))
    attrs = {"stride": 2, "padding": 1}
    w = np.ones((3, 3, 1, 4))
    node = _core.Node("conv", [x.shape, w.shape], dtype="float64", attrs={**attrs, "groups": 4})
    (total,) = node.forward([x, w])
    held = node.forward([np.ones_like(x), w])[0] if count == 0 else 9.0
    y, dx = pooled("average_pool", x, dy, kernel=3, count_include_pad=count, **attrs)
    # Sums of 9 terms and of at most 4, an error of eps for each operation.
    np.testing.assert_allclose(y, total / held, rtol=0, atol=20 * EPS * np.abs(x).max())
    slope = node.backward([x, w], [total], [dy / held], [True, False])[0]
    np.testing.assert_allclose(dx, slope, rtol=0, atol=10 * EPS * np.abs(dy).max())


@over_dtypes
@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
def test_a_line_has_the_bits_of_an_image_of_one_line(name, dtype):
    x = np.random.default_rng(5).standard_normal((3, 11, 4)).astype(dtype)
    line = pooled(name, x, kernel=3, stride=2, padding=1)
    image = pooled(name, x[:, None], kernel=[1, 3], stride=[1, 2], padding=[0, 1])
    for ours, theirs in zip(line, image, strict=True):
        np.testing.assert_array_equal(bits(ours), bits(theirs[:, 0].copy()))


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize(
    ("shape", "attrs", "message"),
    [
        ((2, 5), {"kernel": 2}, r"found x of shape \(n, 5\), wanted samples of shape"),
        ((2, 3, 4, 5, 6), {"kernel": 2}, r"found x of shape \(n, 3, 4, 5, 6\), wanted samples"),
        ((2, 5, 3), {}, "kernel of .*_pool: found none"),
        ((2, 5, 3), {"kernel": [2, 2]}, "kernel of .*_pool: found 2 numbers, wanted 1 for x"),
        ((2, 5, 3), {"kernel": 2, "stride": [1, 1]}, "stride of .*_pool: found 2 numbers"),
        ((2, 5, 3), {"kernel": 0}, "kernel of .*_pool: found 0, wanted an integer in"),
        (
            (2, 5, 6, 3),
            {"kernel": 3, "padding": [1, 2]},
            "padding of .*_pool: found 2, wanted at most half of the kernel of 3",
        ),
        (
            (2, 5, 2, 3),
            {"kernel": 3},
            "a kernel of 3 that reaches over 3, wanted at most the 2 that axis 2 has",
        ),
    ],
)
def test_errors_name_what_was_found_and_wanted(name, shape, attrs, message):
    with pytest.raises(ValueError, match=message):
        _core.Node(name, [shape], dtype="float64", attrs=attrs)


def test_integers_are_refused():
    with pytest.raises(ValueError, match="x of max_pool: found integers, wanted reals"):
        _core.Node("max_pool", [(2, 5, 3)], dtype="float64", attrs={"kernel": 2}, indices=(0,))
