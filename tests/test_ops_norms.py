"""Normalisation: what holds for it besides what holds for every op."""

import numpy as np
import pytest
from helpers import bits, over_dtypes

from fastbp import _core

ROWWISE = ["layer_norm", "rms_norm", "group_norm"]


def node_of(name, *arrays, **attrs):
    shapes = [a.shape for a in arrays]
    return _core.Node(name, shapes, dtype=arrays[0].dtype, attrs=attrs)


def forward(name, *arrays, **attrs):
    return node_of(name, *arrays, **attrs).forward(list(arrays))


# ------------------------------------------------------------------------------------------ values


@over_dtypes
@pytest.mark.parametrize("name", ["layer_norm", "group_norm"])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_statistics_keep_their_digits_far_from_zero(name, offset, dtype):
    """Taken from sums of squares, a variance of 1 beside a mean of 1e5 would have no digits."""
    x = (offset + np.random.default_rng(1).standard_normal((6, 5, 40))).astype(dtype)
    attrs = {"groups": 4} if name == "group_norm" else {}
    y = forward(name, x, **attrs)[0].astype(float)
    wide = x.astype(float)
    wide = wide.reshape(6, 5, 4, 10) if name == "group_norm" else wide
    axes = (1, 3) if name == "group_norm" else -1
    mean, std = wide.mean(axes, keepdims=True), wide.std(axes, keepdims=True)
    expected = ((wide - mean) / np.sqrt(std**2 + 1e-5)).reshape(x.shape)
    # The mean is rounded to the type once, and so moves every result by as much over std; then
    # there are a few roundings of the result itself.
    eps = np.finfo(dtype).eps
    assert np.abs(y - expected).max() < eps * offset / std.min() + 8 * eps * np.abs(expected).max()


@over_dtypes
@pytest.mark.parametrize("name", ROWWISE)
def test_results_have_mean_0_and_variance_1(name, dtype):
    x = (3 + 2 * np.random.default_rng(2).standard_normal((4, 3, 64))).astype(dtype)
    attrs = {"groups": 1} if name == "group_norm" else {}
    y = forward(name, x, epsilon=1e-30, **attrs)[0].astype(float)
    axes = (1, 2) if name == "group_norm" else -1
    bound = 16 * np.finfo(dtype).eps
    if name != "rms_norm":
        assert np.abs(y.mean(axes)).max() < bound
    assert np.abs((y**2).mean(axes) - 1).max() < bound


@over_dtypes
def test_a_constant_row_becomes_the_bias(dtype):
    x = np.full((3, 5, 10), 0.1, dtype)
    gain, bias = np.full(10, 7, dtype), np.arange(10).astype(dtype)
    for name, attrs in (("layer_norm", {}), ("group_norm", {"groups": 2})):
        y = forward(name, x, gain, bias, **attrs)[0]
        # The deviations from the mean are its last digit at most, over sqrt(epsilon).
        bound = 7 * 0.1 * np.finfo(dtype).eps / np.sqrt(1e-5)
        assert np.abs(y - bias).max() <= bound + np.finfo(dtype).eps * 9


def test_a_group_for_all_channels_of_one_position_is_layer_norm():
    x = np.random.default_rng(3).standard_normal((7, 48))
    layer, group = forward("layer_norm", x)[0], forward("group_norm", x, groups=1)[0]
    np.testing.assert_allclose(group, layer, rtol=0, atol=1e-14)


@over_dtypes
@pytest.mark.parametrize("name", ROWWISE)
def test_parameters_that_are_not_given_are_ones_and_zeros(name, dtype):
    x = np.random.default_rng(4).standard_normal((5, 3, 12)).astype(dtype)
    attrs = {"groups": 3} if name == "group_norm" else {}
    ones, zeros = np.ones(12, dtype), np.zeros(12, dtype)
    bare = forward(name, x, **attrs)[0]
    np.testing.assert_array_equal(forward(name, x, ones, **attrs)[0], bare)
    if name != "rms_norm":
        np.testing.assert_array_equal(forward(name, x, ones, zeros, **attrs)[0], bare)


# --------------------------------------------------------------------------------------- gradients


@over_dtypes
@pytest.mark.parametrize("name", ROWWISE)
def test_gradients_are_blind_to_what_the_statistics_take_out(name, dtype):
    """A row's offset and, with a small epsilon, its scale change nothing: dx is orthogonal to both.

    Each is a sum of n products, so eps times the sum of their magnitudes bounds a rounding of all.
    """
    rng = np.random.default_rng(5)
    x, dy = (rng.standard_normal((6, 4, 20)).astype(dtype) for _ in range(2))
    attrs = {"groups": 1} if name == "group_norm" else {}
    node = node_of(name, x, epsilon=1e-30, **attrs)
    (dx,) = node.backward([x], node.forward([x]), [dy], [True])
    axes = (1, 2) if name == "group_norm" else -1
    wide, bound = dx.astype(float), 8 * np.finfo(dtype).eps
    assert np.all(np.abs((wide * x).sum(axes)) <= bound * np.abs(wide * x).sum(axes))
    if name != "rms_norm":
        assert np.all(np.abs(wide.sum(axes)) <= bound * np.abs(wide).sum(axes))


# ------------------------------------------------------------------------------ batch normalisation


def blocks_of(x, rows=256):
    return [x[i : i + rows].astype(float) for i in range(0, len(x), rows)]


@over_dtypes
@pytest.mark.parametrize("n_rows", [1, 255, 256, 257, 1000])
def test_moments_are_those_of_blocks_in_order(n_rows, dtype):
    """The order of the sums is promised: blocks of 256 rows, joined after Chan et al. (1979)."""
    x = (5 + np.random.default_rng(6).standard_normal((n_rows, 9))).astype(dtype)
    count, mean, squares = 0, np.zeros(9), np.zeros(9)
    for block in blocks_of(x):
        own = np.add.accumulate(block)[-1] / len(block)
        own_squares = np.add.accumulate((block - own) ** 2)[-1]
        apart, share = own - mean, len(block) / (count + len(block))
        mean = mean + apart * share
        squares = squares + own_squares + apart * apart * (count * share)
        count += len(block)
    expected = np.stack([mean, squares / n_rows]).astype(dtype)
    np.testing.assert_array_equal(bits(forward("moments", x)[0]), bits(expected))


@over_dtypes
def test_moments_keep_their_digits_far_from_zero(dtype):
    x = (1e5 + np.random.default_rng(7).standard_normal((700, 3))).astype(dtype)
    mean, variance = forward("moments", x)[0]
    wide = x.astype(np.longdouble)
    eps, wide_eps = np.finfo(dtype).eps, np.finfo(float).eps
    # Chains of at most 256 additions in double, then the rounding to the type; of the variance the
    # terms are squares of deviations, each off by the last digit of the mean.
    bound = eps + 256 * wide_eps
    np.testing.assert_allclose(mean, wide.mean(0).astype(float), rtol=bound)
    bound += 256 * 1e5 * wide_eps
    np.testing.assert_allclose(variance, wide.var(0).astype(float), rtol=bound)


def test_both_ops_together_are_layer_norm_across_the_batch():
    """Values, gradients and tangents, with the batch's moments as a value between two ops."""
    rng = np.random.default_rng(8)
    x, dy, tx = (rng.standard_normal((300, 5)) for _ in range(3))
    across = np.ascontiguousarray(x.T)
    layer = node_of("layer_norm", across)
    kept = layer.forward([across])

    moments = node_of("moments", x)
    (m,) = moments.forward([x])
    normalize = node_of("normalize", x, m)
    y = normalize.forward([x, m])
    np.testing.assert_allclose(y[0], kept[0].T, rtol=0, atol=1e-14)

    direct, dm = normalize.backward([x, m], y, [dy], [True, True])
    (through,) = moments.backward([x], [m], [dm], [True])
    (expected,) = layer.backward([across], kept, [np.ascontiguousarray(dy.T)], [True])
    np.testing.assert_allclose(direct + through, expected.T, rtol=0, atol=1e-14)

    (tm,) = moments.tangent([x], [m], [tx])
    (ty,) = normalize.tangent([x, m], y, [tx, tm])
    expected, _ = layer.tangent([across], kept, [np.ascontiguousarray(tx.T)])
    np.testing.assert_allclose(ty, expected.T, rtol=0, atol=1e-14)


@over_dtypes
def test_running_moments_leave_every_sample_alone(dtype):
    """In evaluation a sample's result depends on it alone, unlike in training (R26)."""
    rng = np.random.default_rng(9)
    x = rng.standard_normal((10, 4)).astype(dtype)
    running = np.stack([rng.standard_normal(4), rng.uniform(0.5, 2, 4)]).astype(dtype)
    whole = forward("normalize", x, running)[0]
    alone = forward("normalize", x[3:4], running)[0]
    np.testing.assert_array_equal(bits(alone), bits(whole[3:4]))
    expected = (x.astype(float) - running[0]) / np.sqrt(running[1].astype(float) + 1e-5)
    # Roundings: a difference, sum, root, quotient, product; together 4 eps, on a difference of two.
    np.testing.assert_allclose(whole, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


# ------------------------------------------------------------------------------------------ misuse


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "message"),
    [
        ("layer_norm", [(3, 0)], {}, r"layer_norm: found x of shape \(n, 0\), wanted a last axis"),
        ("layer_norm", [(3,)], {}, r"layer_norm: found x of shape \(n,\), wanted a last axis"),
        ("layer_norm", [(3, 4), (5,)], {}, r"gain of shape \(5,\), wanted \(4,\) as x is \(n, 4\)"),
        ("layer_norm", [(3, 4), (4,), (4, 1)], {}, r"bias of shape \(4, 1\), wanted \(4,\)"),
        ("layer_norm", [(3, 4)], {"epsilon": 0}, "epsilon of layer_norm: found 0"),
        ("rms_norm", [(3, 4), (4,), (4,)], {}, "rms_norm: found 3 inputs, wanted 1 to 2"),
        ("group_norm", [(3, 4)], {"groups": 3}, r"\(n, 4\) and 3 groups, wanted channels"),
        ("group_norm", [(3, 4)], {"groups": 0}, "groups of group_norm: found 0, wanted an integer"),
        ("normalize", [(3, 4), (4, 2)], {}, r"moments of shape \(4, 2\), wanted \(2, 4\), a row"),
        ("normalize", [(3, 4), (2, 4), (3,)], {}, r"normalize: found gain of shape \(3,\), wanted"),
        ("normalize", [(3, 4)], {}, "normalize: found 1 inputs, wanted 2 to 4"),
        ("moments", [(0, 4)], {}, r"moments: found x of shape \(0, 4\), wanted rows, at least one"),
        ("moments", [(None, 4)], {}, r"moments: found x of shape \(n, 4\), .* no sample axis"),
        ("group_norm", [(3, 4), (2,)], {"groups": 2}, r"gain of shape \(2,\), wanted \(4,\)"),
    ],
)
def test_errors(name, shapes, attrs, message):
    with pytest.raises(ValueError, match=message):
        _core.Node(name, shapes, dtype="float64", attrs=attrs)


def test_running_moments_follow_by_hand_and_nothing_else_can():
    x = np.array([[1.0], [3.0], [8.0]])
    node = _core.Node("moments", [x.shape], dtype=x.dtype)
    (moments,) = node.forward([x])
    running = np.array([[0.0], [1.0]])
    node.follow(moments, running, 0.25)
    # A mean of 4 and, over n - 1, a variance of 13.
    np.testing.assert_allclose(running, [[0.25 * 4], [0.75 + 0.25 * 13]], rtol=4 * 2.0**-52)
    other = _core.Node("tanh", [(2,)], dtype=np.float64)
    with pytest.raises(LookupError, match="tanh: found a running parameter"):
        other.follow(np.ones(2), np.ones(2), 0.1)
