"""Numbers of 16 bits: the engine's rounding against NumPy's float16 and, for bfloat16, which NumPy
has not, against the nearer of two neighbours."""

import numpy as np
import pytest

from fastbp import _core

PATTERNS = np.arange(2**16, dtype=np.uint16)
over_precisions = pytest.mark.parametrize("precision", ["bf16", "fp16"])


@pytest.fixture(params=_core.build_info()["isas"], autouse=True)
def isa(request):
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(None)


def exact(precision):
    """What every pattern stands for."""
    if precision == "fp16":
        return PATTERNS.view(np.float16).astype(np.float32)
    return (PATTERNS.astype(np.uint32) << 16).view(np.float32)


def nearest_bf16(x):
    """By integers: of the patterns below and above the nearer, or of two as near the even one."""
    bits = x.view(np.uint32).astype(np.int64)
    below = bits >> 16
    to_below, to_above = bits - (below << 16), ((below + 1) << 16) - bits
    above = (to_above < to_below) | ((to_above == to_below) & (below % 2 == 1))
    return (below + above).astype(np.uint16)


def expected(x, precision):
    if precision == "bf16":
        return nearest_bf16(x)
    with np.errstate(over="ignore"):
        return x.astype(np.float16).view(np.uint16)


def around_all_ties(precision):
    """Every number of 16 bits, the ties between neighbours, and the float32 next to each of these.

    Both signs; the tie above the largest number is the least that becomes infinite.
    """
    size = exact(precision)
    size = size[np.isfinite(size) & (size.view(np.uint32) < 2**31)]
    if precision == "bf16":
        ties = (size.view(np.uint32) + 0x8000).view(np.float32)
    else:
        ties = ((size + np.append(size[1:], np.float32(65536))) / 2).astype(np.float32)
    points = np.concatenate([size, ties])
    points = np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)])
    return np.concatenate([points, -points]).astype(np.float32)


@over_precisions
def test_every_pattern_is_widened_exactly(precision):
    found = _core.widen(PATTERNS, precision)
    np.testing.assert_array_equal(found, exact(precision))
    signs = PATTERNS >= 2**15
    np.testing.assert_array_equal(np.signbit(found), signs)


@over_precisions
def test_every_pattern_survives_being_widened_and_narrowed(precision):
    wide = _core.widen(PATTERNS, precision)
    found, nan = _core.narrow(wide, precision), np.isnan(wide)
    np.testing.assert_array_equal(found[~nan], PATTERNS[~nan])
    assert np.isnan(_core.widen(found[nan], precision)).all()


@over_precisions
def test_ties_and_what_lies_next_to_them(precision):
    x = around_all_ties(precision)
    np.testing.assert_array_equal(_core.narrow(x, precision), expected(x, precision))


@over_precisions
def test_any_float32(precision):
    """Patterns at random, subnormal, infinite and NaN among them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2**32, 2**20, dtype=np.uint32).view(np.float32)
    nan = np.isnan(x)
    assert nan.any()
    found = _core.narrow(x, precision)
    np.testing.assert_array_equal(found[~nan], expected(x[~nan], precision))
    assert np.isnan(_core.widen(found[nan], precision)).all()


@over_precisions
def test_nan_has_the_same_bits_on_every_instruction_set(precision):
    size = np.arange(0x7F800001, 0x80000000, 4099, dtype=np.uint32)
    nan = np.concatenate([size, size | 0x80000000]).view(np.float32)
    found = _core.narrow(nan, precision)
    upper = nan.view(np.uint32) >> 16
    if precision == "bf16":
        expected = upper | 0x40
    else:
        expected = (upper & 0x8000) | 0x7E00 | (nan.view(np.uint32) >> 13 & 0x3FF)
    np.testing.assert_array_equal(found, expected)


@over_precisions
def test_what_is_at_the_ends(precision):
    """The largest numbers are 65504 and (2 - 2**-7) 2**127; halfway to the next is infinite."""
    most, half_a_step = {
        "fp16": (65504.0, 16.0),
        "bf16": ((2 - 2.0**-7) * 2.0**127, 2.0 ** (127 - 8)),
    }[precision]
    last = np.nextafter(np.float32(most + half_a_step), np.float32(0))
    ends = np.array([most, last, most + half_a_step, -most - half_a_step, np.inf, -0.0, np.nan])
    found = _core.widen(_core.narrow(ends, precision), precision)
    np.testing.assert_array_equal(found, [most, most, np.inf, -np.inf, np.inf, 0.0, np.nan])
    np.testing.assert_array_equal(np.signbit(found[:6]), [0, 0, 0, 1, 0, 1])


@over_precisions
def test_an_element_has_the_same_bits_in_every_place(precision):
    value = np.float32(1.2345678)
    (alone,) = _core.narrow([value], precision)
    for n in range(1, 70):
        for at in range(n):
            x = np.zeros(n, np.float32)
            x[at] = value
            assert _core.narrow(x, precision)[at] == alone


def test_there_is_nothing_to_narrow_in_full_precision():
    for convert in (_core.narrow, _core.widen):
        with pytest.raises(ValueError, match="precision: found 'full', wanted one of 16 bits"):
            convert(PATTERNS, "full")
        with pytest.raises(ValueError, match="precision: found 'fp8', wanted one of"):
            convert(PATTERNS, "fp8")
