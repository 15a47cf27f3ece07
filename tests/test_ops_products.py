"""Matrix products of stacks: which matrices meet, exact results, and errors."""

import numpy as np
import pytest
from helpers import bits, over_dtypes

from fastbp import _core


def integers(rng, shape, dtype):
    """Of which sums and products are exact in any order."""
    return rng.integers(-9, 10, shape).astype(dtype)


def summed_to(array, shape):
    """The sum over the axes along which an array of that shape was repeated."""
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1)
    return array.sum(axis=repeated, keepdims=True)


SHAPES = [
    ((5, 3), (3, 7)),
    ((3, 3), (3, 3)),
    ((3, 5), (5, 4)),
    ((4, 3, 5), (4, 5, 6)),
    ((4, 3, 5), (5, 6)),
    ((3, 5), (4, 5, 6)),
    ((1, 3, 5), (4, 5, 6)),
    ((2, 1, 3, 5), (4, 5, 6)),
    ((2, 1, 3, 5), (1, 4, 5, 6)),
    ((2, 260, 3), (3, 49)),
    ((2, 3, 270), (2, 270, 100)),
    ((65, 1), (1, 300)),
]


@over_dtypes
@pytest.mark.parametrize("isa", _core.build_info()["isas"])
@pytest.mark.parametrize(("of_a", "of_b"), SHAPES)
def test_products_and_gradients_are_exact(of_a, of_b, isa, dtype, rng, force_isa):
    force_isa(isa)
    a, b = integers(rng, of_a, dtype), integers(rng, of_b, dtype)
    node = _core.Node("matmul", [of_a, of_b], dtype=dtype)
    (y,) = node.forward([a, b])
    expected = np.matmul(a, b)
    assert y.shape == expected.shape
    np.testing.assert_array_equal(y, expected)
    dy = integers(rng, y.shape, dtype)
    da, db = node.backward([a, b], [y], [dy], [True, True])
    np.testing.assert_array_equal(da, summed_to(dy @ b.swapaxes(-1, -2), of_a))
    np.testing.assert_array_equal(db, summed_to(a.swapaxes(-1, -2) @ dy, of_b))


@over_dtypes
@pytest.mark.parametrize(("m", "k", "n"), [(5, 3, 7), (1, 400, 33), (270, 65, 50), (16, 16, 16)])
def test_the_bits_are_those_of_linear(m, k, n, dtype, rng):
    """Of which test_gemm.c holds each element to one chain of fused multiply-adds."""
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    ours = _core.Node("matmul", [a.shape, b.shape], dtype=dtype)
    linear = _core.Node("linear", [a.shape, b.shape], dtype=dtype)
    (y,) = ours.forward([a, b])
    np.testing.assert_array_equal(bits(y), bits(linear.forward([a, b])[0]))
    (da, _) = ours.backward([a, b], [y], [y], [True, False])
    np.testing.assert_array_equal(
        bits(da), bits(linear.backward([a, b], [y], [y], [True, False])[0])
    )


@pytest.mark.parametrize(
    ("shapes", "samples", "batched"),
    [
        ([(3, 3), (3, 3)], 1, (False, False)),
        ([(4, 3, 5), (5, 6)], 4, (True, False)),
        ([(4, 3, 5), (4, 5, 6)], 4, (True, True)),
        ([(1, 3, 5), (4, 5, 6)], 4, (False, True)),
        ([(1, 3, 5), (1, 5, 6)], 1, (True, True)),
        ([(1, 3, 5), (0, 5, 6)], 0, (False, True)),
        ([(7, 3, 5), (2, 7, 5, 6)], 2, (False, True)),
    ],
)
def test_where_the_samples_are(shapes, samples, batched):
    node = _core.Node("matmul", shapes, dtype="float64")
    assert (node.samples, node.batched) == (samples, batched)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [(3, 4), (5, 6)],
            r"matmul: found a of shape \(3, 4\) and b of shape \(5, 6\), wanted \(..., m, k\) and "
            r"\(..., k, n\)",
        ),
        ([(4,), (4, 6)], r"found a of shape \(4,\)"),
        (
            [(2, 3, 4), (3, 4, 5)],
            r"a of shape \(2, 3, 4\) and b of shape \(3, 4, 5\), wanted shapes that",
        ),
        ([(2, 2, 3, 4), (2, 3, 4, 5)], r"found a of shape \(n, 2, 3, 4\) and b of shape \(n, 3"),
        ([(3, 4)], "matmul: found 1 inputs, wanted 2 to 2"),
    ],
)
def test_errors(shapes, message):
    with pytest.raises(ValueError, match=message):
        _core.Node("matmul", shapes, dtype="float64")
