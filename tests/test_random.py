"""Random numbers and orders of samples: functions of their keys, and of the right distribution."""

import numpy as np
import pytest
from helpers import over_dtypes

from fastbp import _core


def test_a_permutation_is_one_and_a_function_of_seed_and_epoch():
    for n in (0, 1, 2, 3, 17, 1000):
        order = _core.permutation(42, 7, n)
        assert order.dtype == np.uint32
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
    first = _core.permutation(42, 7, 1000)
    others = [_core.permutation(*key, 1000) for key in ((42, 8), (43, 7), (7, 42), (42 + 2**32, 7))]
    for other in others:
        assert np.count_nonzero(first == other) < 20  # 1 expected
    np.testing.assert_array_equal(_core.permutation(42, 7, 1000), first)


def test_permutations_are_uniform():
    """Every element comes to every place equally often: chi-square over 20,000 epochs."""
    n, draws = 6, 20_000
    counts = np.zeros((n, n))
    pairs = np.zeros((n, n))
    for epoch in range(draws):
        order = _core.permutation(1, epoch, n)
        counts[np.arange(n), order] += 1
        pairs[order[:-1], order[1:]] += 1
    expected = draws / n
    # 25 degrees of freedom: 60 has probability 1e-4, and the seed is fixed.
    assert np.sum((counts - expected) ** 2) / expected < 60
    off = ~np.eye(n, dtype=bool)
    expected = draws * (n - 1) / (n * (n - 1))
    assert np.sum((pairs[off] - expected) ** 2) / expected < 75  # 29 degrees


@over_dtypes
def test_uniform_numbers(dtype):
    x = _core.uniform(5, 2, 100_000, -3.0, 1.0, dtype)
    assert x.dtype == dtype and x.min() >= -3 and x.max() <= 1
    # Standard errors: 4 / sqrt(12 n) of the mean, and as small for the quantiles.
    assert abs(x.mean(dtype=float) + 1) < 5 * 4 / np.sqrt(12 * 100_000)
    counts = np.histogram(x, 20, (-3, 1))[0]
    assert np.sum((counts - 5000) ** 2) / 5000 < 55  # 19 degrees of freedom: 1e-5
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(100_000)


@over_dtypes
def test_normal_numbers(dtype):
    x = _core.normal(5, 2, 100_001, dtype).astype(float)
    n = len(x)
    # Standard errors of the first four moments of a normal sample.
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(np.mean(x**2) - 1) < 5 * np.sqrt(2 / n)
    assert abs(np.mean(x**3)) < 5 * np.sqrt(15 / n)
    assert abs(np.mean(x**4) - 3) < 5 * np.sqrt(96 / n)
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(n)
    assert 3.8 < np.abs(x).max() < 6


@pytest.mark.parametrize("draw", [_core.uniform, _core.normal], ids=["uniform", "normal"])
@over_dtypes
def test_numbers_are_a_function_of_seed_stream_and_place(draw, dtype):
    limits = (0.0, 1.0) if draw is _core.uniform else ()
    first = draw(1, 2, 101, *limits, dtype)
    np.testing.assert_array_equal(draw(1, 2, 101, *limits, dtype), first)
    np.testing.assert_array_equal(draw(1, 2, 33, *limits, dtype), first[:33])
    for seed, stream in ((1, 3), (2, 2), (2, 1), (1 + 2**40, 2)):
        other = draw(seed, stream, 101, *limits, dtype)
        assert np.count_nonzero(other == first) <= 1
