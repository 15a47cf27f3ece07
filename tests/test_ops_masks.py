"""Random masks: functions of (seed, step, stream, place in the batch), alike in both directions."""

import numpy as np
import pytest
from helpers import bits, over_dtypes
from reference_ops.masks import kept
from reference_ops.philox import philox

from fastbp import _core

over_ops = pytest.mark.parametrize("name", ["dropout", "alpha_dropout"])
DRAWS = (11, 5, 3)


def run(name, x, draws=DRAWS, training=True, **attrs):
    """The result, and the gradient of its sum."""
    node = _core.Node(name, [x.shape], dtype=x.dtype, attrs=attrs)
    options = {"draws": draws, "training": training}
    y = node.forward([x], **options)
    (dx,) = node.backward([x], y, [np.ones_like(x)], [True], **options)
    return y[0], dx


def test_the_reference_gives_the_known_answers():
    """From the file kat_vectors of the generator's authors."""
    for key, counter, answer in [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]:
        assert tuple(int(word) for word in philox(key, counter)) == answer


@over_dtypes
@over_ops
def test_masks_are_those_of_the_reference_on_every_instruction_set(name, dtype, force_isa):
    x = np.random.default_rng(1).standard_normal((7, 3, 45)).astype(dtype)
    for draws in (DRAWS, (2**63 + 5, 2**46 + 2**31 + 9, 2**32 - 1), (1, 2, 3, 2**40)):
        expected = kept(x.shape, 0.3, draws)
        for isa in _core.build_info()["isas"]:
            force_isa(isa)
            _, dx = run(name, x, draws, p=0.3)
            np.testing.assert_array_equal(dx != 0, expected)


@over_dtypes
@over_ops
@pytest.mark.parametrize("shape", [(1,), (5,), (16,), (3, 7), (64,), (2, 50)])
def test_a_mask_depends_on_the_place_in_the_batch_alone(name, shape, dtype):
    """Not on how many samples run together, nor on where a part of the batch begins."""
    x = np.random.default_rng(2).standard_normal((41, *shape)).astype(dtype)
    y, dx = run(name, x)
    for size in (1, 2, 3, 17):
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            for ours, whole in zip(run(name, x[part], (*DRAWS, first)), (y, dx), strict=True):
                np.testing.assert_array_equal(bits(ours), bits(whole[part]))


@over_dtypes
@over_ops
def test_nothing_comes_through_dropped_units(name, dtype):
    """Their value is a constant and their gradient exactly 0 (R28), whatever x and dy are."""
    x = np.random.default_rng(3).standard_normal((20, 30)).astype(dtype)
    node = _core.Node(name, [x.shape], dtype=dtype, attrs={"p": 0.4})
    options = {"draws": DRAWS, "training": True}
    y, dx = run(name, x, p=0.4)
    dropped = dx == 0
    assert 0 < dropped.sum() < x.size and len(np.unique(y[dropped])) == 1
    odd = np.where(dropped, np.nan, x)
    np.testing.assert_array_equal(bits(run(name, odd, p=0.4)[0]), bits(y))
    for value in (np.nan, np.inf, 1e30):
        dy = np.full_like(x, value)
        (slopes,) = node.backward([x], [y], [dy], [True], **options)
        assert not slopes[dropped].any()
        assert not np.signbit(slopes[dropped]).any()


@over_dtypes
@over_ops
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_without_dropping_it_is_the_identity(name, p, training, dtype):
    x = np.random.default_rng(4).standard_normal((6, 11)).astype(dtype)
    x[0, :4] = 0.0, -0.0, np.nan, np.inf
    y, dx = run(name, x, training=training, p=p)
    np.testing.assert_array_equal(bits(y), bits(x))
    np.testing.assert_array_equal(dx, np.ones_like(x))


def test_seed_step_stream_and_place_all_matter():
    n, p = 20_000, 0.5
    x = np.ones((1, n))
    others = [(12, 5, 3), (11 + 2**32, 5, 3), (11, 6, 3), (11, 5 + 2**31, 3), (11, 5 + 2**40, 3)]
    others += [(11, 5, 4), (*DRAWS, 1), (*DRAWS, 2**34)]
    masks = [run("dropout", x, draws, p=p)[0] != 0 for draws in (DRAWS, *others)]
    # Two independent masks agree in n / 2 places, with a standard deviation of sqrt(n) / 2.
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs(np.count_nonzero(one == other) - n / 2) < 5 * np.sqrt(n) / 2


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_units_are_dropped_independently_with_probability_p(p):
    n = 200_000
    dropped = run("dropout", np.ones((n // 100, 100)), p=p)[0].ravel() == 0
    # A count of n draws has variance n p (1 - p); the sum of products of neighbours about their
    # mean, which are uncorrelated, n (p (1 - p))^2.
    assert abs(dropped.sum() - n * p) < 5 * np.sqrt(n * p * (1 - p))
    about = dropped - p
    for lag in (1, 4, 16, 64, 100):
        assert abs(np.sum(about[lag:] * about[:-lag])) < 5 * np.sqrt(n) * p * (1 - p)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.7])
def test_mean_and_variance_stay(p):
    n = 200_000
    # Dropout: of x / (1 - p) with probability 1 - p, else 0, the variance is x^2 p / (1 - p).
    y = run("dropout", np.full((n // 100, 100), 3.0), p=p)[0]
    assert abs(y.mean() - 3) < 5 * 3 * np.sqrt(p / (1 - p) / n)
    # Alpha dropout of normal x: y is a x + b with probability 1 - p, else a s + b. Mean and
    # variance are to be 0 and 1, so the estimates have variances 1 / n and (m4 - 1) / n.
    x = np.random.default_rng(5).standard_normal((n // 100, 100))
    y, dx = run("alpha_dropout", x, p=p)
    a, least = dx.max(), y[dx == 0][0]
    b = (y - a * x)[dx != 0].mean()
    m4 = (1 - p) * (3 * a**4 + 6 * a**2 * b**2 + b**4) + p * least**4
    assert abs(y.mean()) < 5 / np.sqrt(n)
    assert abs(np.mean(y**2) - 1) < 5 * np.sqrt((m4 - 1) / n)


def test_a_probability_next_to_1_drops_all_but_a_few():
    y, _ = run("dropout", np.ones((10, 1000)), p=1 - 2.0**-40)
    assert np.count_nonzero(y) == 0  # of 2^32 draws one keeps


@over_ops
@pytest.mark.parametrize("p", [1.0, -0.1])
def test_errors(name, p):
    with pytest.raises(ValueError, match=rf"p of {name}: found .*, wanted a number in \[0, 1\)"):
        _core.Node(name, [(3, 4)], dtype="float64", attrs={"p": p})
