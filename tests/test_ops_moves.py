"""Ops that move elements: the bits of NumPy for whatever they move, and their errors."""

import numpy as np
import pytest
from helpers import bits, over_dtypes
from reference_ops import moves

from fastbp import _core


def forward(name, *arrays, **attrs):
    node = _core.Node(name, [a.shape for a in arrays], dtype=arrays[0].dtype, attrs=attrs)
    (y,) = node.forward(arrays)
    return y


def backward(name, x, dy, **attrs):
    node = _core.Node(name, [x.shape], dtype=x.dtype, attrs=attrs)
    (dx,) = node.backward([x], [None], [dy], [True])
    return dx


def anything(rng, shape, dtype):
    """Random bits: numbers of any size, infinities, NaN of any payload, zeros of both signs."""
    array = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    array = array.view(dtype).reshape(shape)
    array[rng.random(shape) < 0.1] = -0.0
    return array


def same_bits(ours, theirs):
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(bits(ours), bits(np.ascontiguousarray(theirs)))


def random_slices(rng, shape):
    """Starts, steps and counts of a slice that fits, of one element or more."""
    starts, steps, counts = [], [], []
    for n in shape:
        first, last = rng.integers(0, n, 2)
        step = max(1, int(rng.integers(1, 5))) * (1 if last >= first else -1)
        starts.append(int(first))
        steps.append(step)
        counts.append(int((last - first) // step) + 1)
    return {"starts": starts, "steps": steps, "counts": counts}


def random_shape(rng):
    return tuple(int(n) for n in rng.integers(1, 8, rng.integers(0, 6)))


@over_dtypes
@pytest.mark.parametrize("isa", _core.build_info()["isas"])
def test_what_moves_keeps_its_bits(isa, dtype, rng, force_isa):
    force_isa(isa)
    for _ in range(60):
        shape = random_shape(rng)
        x = anything(rng, shape, dtype)
        flat = tuple(rng.permutation([*shape, 1]).tolist())
        same_bits(forward("reshape", x, shape=flat), x.reshape(flat))
        axes = tuple(rng.permutation(len(shape)).tolist())
        same_bits(forward("transpose", x, axes=axes), x.transpose(axes))
        same_bits(backward("transpose", x, x.transpose(axes).copy(), axes=axes), x)
        taken = random_slices(rng, shape)
        same_bits(forward("index", x, **taken), moves.index(x, **taken))
        around = rng.integers(0, 4, (2, len(shape))).tolist()
        padded = moves.pad(x, *around, value=-0.0)
        same_bits(forward("pad", x, before=around[0], after=around[1], value=-0.0), padded)
        same_bits(backward("pad", x, padded, before=around[0], after=around[1]), x)
        wide = (*rng.integers(1, 4, 2).tolist(), *(n if n > 1 else 3 for n in shape))
        same_bits(forward("broadcast", x, shape=wide), np.broadcast_to(x, wide))


@over_dtypes
def test_concatenated_arrays_keep_their_bits(dtype, rng):
    for _ in range(60):
        shape = (2, *random_shape(rng))
        axis = int(rng.integers(0, len(shape)))
        parts = []
        for n in rng.integers(0, 5, rng.integers(1, 9)):
            part = (*shape[:axis], int(n), *shape[axis + 1 :])
            parts.append(anything(rng, part, dtype))
        whole = forward("concatenate", *parts, axis=axis - len(shape) * int(rng.integers(0, 2)))
        same_bits(whole, np.concatenate(parts, axis))
        node = _core.Node(
            "concatenate", [part.shape for part in parts], dtype=dtype, attrs={"axis": axis}
        )
        wanted = rng.random(len(parts)) < 0.7
        slopes = node.backward([None] * len(parts), [None], [whole], wanted)
        for slope, part, want in zip(slopes, parts, wanted, strict=True):
            assert (slope is None) != want
            if want:
                same_bits(slope, part)


@over_dtypes
@pytest.mark.parametrize("shape", [(300, 700), (5, 129, 1, 65), (64, 3, 64)])
def test_large_transpositions(shape, dtype, rng):
    x = anything(rng, shape, dtype)
    same_bits(forward("transpose", x, axes=tuple(range(len(shape)))[::-1]), x.transpose())


def test_steps_and_starts_that_lead_nowhere_may_have_any_size():
    x = np.arange(12.0).reshape(3, 4)
    one = {"starts": (2, 3), "steps": (2**48, -(2**48)), "counts": (1, 1)}
    np.testing.assert_array_equal(forward("index", x, **one), [[11]])
    none = {"starts": (2**48, 0), "steps": (1, 1), "counts": (0, 4)}
    assert forward("index", x, **none).shape == (0, 4)


def test_gradients_are_zero_where_nothing_was_taken():
    x = np.zeros((4, 6), np.float32)
    taken = {"starts": (3, 1), "steps": (-2, 3), "counts": (2, 2)}
    expected = np.zeros((4, 6))
    expected[3::-2, 1:6:3] = 1
    np.testing.assert_array_equal(backward("index", x, np.ones((2, 2), "f"), **taken), expected)


@over_dtypes
def test_gradients_of_what_was_repeated_are_sums(dtype, rng):
    """Of integers, which are exact in any order."""
    for shape, wide in [((1,), (5000,)), ((7, 1), (7, 33)), ((3, 1, 5), (2, 3, 9, 5)), ((), (4,))]:
        dy = rng.integers(-9, 10, wide).astype(dtype)
        more = len(wide) - len(shape)
        repeated = [*range(more), *(more + i for i, n in enumerate(shape) if n == 1)]
        expected = dy.sum(axis=tuple(repeated)).reshape(shape)
        ours = backward("broadcast", np.zeros(shape, dtype), dy, shape=wide)
        np.testing.assert_array_equal(ours, expected)


def test_the_value_of_padding_has_no_tangent():
    node = _core.Node(
        "pad", [(2,)], dtype="float64", attrs={"before": [1], "after": [2], "value": 5.0}
    )
    x, t = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    (y,) = node.forward([x])
    np.testing.assert_array_equal(y, [5, 1, 2, 5, 5])
    np.testing.assert_array_equal(node.tangent([x], [y], [t])[0], [0, 3, 4, 0, 0])


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "message"),
    [
        (
            "reshape",
            [(3, 4)],
            {"shape": (5, 2)},
            r"reshape: found x of shape \(3, 4\), which has 12 elements, and shape \(5, 2\), "
            "which has 10",
        ),
        ("reshape", [(3, 4)], {"shape": (-1,)}, "shape of reshape: found -1, wanted an integer"),
        ("reshape", [(3,)], {"shape": (2**40,) * 8}, r"which has 2\.\d+e\+96"),
        (
            "transpose",
            [(None, 3, 4)],
            {"axes": (0,)},
            r"axes of transpose: found 1 numbers, wanted 2 as x is of shape \(n, 3, 4\)",
        ),
        ("transpose", [(3, 4)], {"axes": (0, 2)}, r"found 2, wanted an axis of .* shape \(3, 4\)"),
        ("transpose", [(3, 4)], {"axes": (1, -1)}, "found -1, wanted each axis once"),
        (
            "index",
            [(3, 4)],
            {"starts": (0, 1), "steps": (1, 2), "counts": (3, 3)},
            r"index: found elements 1 to 5 of axis 1, wanted 0 to 3 as x is of shape \(3, 4\)",
        ),
        (
            "index",
            [(3,)],
            {"starts": (1,), "steps": (-1,), "counts": (3,)},
            "found elements 1 to -1 of axis 0",
        ),
        (
            "index",
            [(3,)],
            {"starts": (1,), "steps": (0,), "counts": (1,)},
            "steps of index: found 0, wanted any other integer",
        ),
        (
            "index",
            [(3,)],
            {"starts": (0,), "steps": (2**48,), "counts": (2**48,)},
            "of axis 0, wanted 0 to 2",
        ),
        (
            "index",
            [(3, 4)],
            {"starts": (0, 1), "steps": (1,), "counts": (3, 3)},
            "steps of index: found 1 numbers, wanted 2",
        ),
        ("pad", [(3,)], {"before": (0,)}, "after of pad: found 0 numbers, wanted 1"),
        ("pad", [(3,)], {"before": (0,), "after": (-1,)}, "after of pad: found -1, wanted"),
        ("pad", [(3,)], {"before": (2**48,), "after": (2,)}, "the shape .*, which no array has"),
        (
            "concatenate",
            [(2, 3), (2, 3), (4, 2)],
            {"axis": 0},
            r"concatenate: found a of shape \(2, 3\) and c of shape \(4, 2\), wanted shapes that "
            "differ in axis 0 alone",
        ),
        ("concatenate", [(2, 3), (2,)], {"axis": 1}, r"found a of .* and b of shape \(2,\)"),
        ("concatenate", [(2,)], {"axis": 1}, "axis of concatenate: found 1, wanted an axis"),
        ("concatenate", [()], {}, r"found 0, wanted an axis of an array of shape \(\)"),
        ("concatenate", [(2**62,) * 8], {}, "found the shape .* 4611686018427387904\\), which no"),
        ("concatenate", [(0, 2**40, 2**40)], {}, "which no array has"),
        ("concatenate", [(2,)] * 9, {}, "found 9 inputs, wanted at most 8"),
        (
            "broadcast",
            [(3, 2)],
            {"shape": (3, 4)},
            r"broadcast: found x of shape \(3, 2\) and shape \(3, 4\), wanted one that has",
        ),
        ("broadcast", [(3, 2)], {"shape": (2,)}, r"found x of shape \(3, 2\) and shape \(2,\)"),
        ("broadcast", [()], {"shape": (2**40,) * 8}, "which no array has"),
    ],
)
def test_errors(name, shapes, attrs, message):
    with pytest.raises(ValueError, match=message):
        _core.Node(name, shapes, dtype="float64", attrs=attrs)
