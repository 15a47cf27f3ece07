"""Every activation: value, two derivatives, kinks, extremes, NaN, shapes.

That its bits depend on nothing but its input is tested in test_rows.py.
"""

import numpy as np
import pytest
import reference
from helpers import bits, central_difference, over, over_dtypes

from fastbp import _core
from fastbp.testing import activation_inputs, cases

ACTIVATIONS = cases("activation")


def witness_of(case, order):
    activation = reference.ACTIVATIONS[case.name]
    f = (activation.value, activation.first, activation.second)[order]
    return lambda x: np.asarray(f(x, **case.attrs), dtype=np.float64) + np.zeros_like(x)


def away_from_kinks(case, x, distance):
    """Which elements are not near a kink."""
    keep = np.ones(x.shape, dtype=bool)
    for kink in reference.ACTIVATIONS[case.name].kinks:
        keep &= np.abs(x - kink) > distance
    return keep


@over_dtypes
@over(ACTIVATIONS)
def test_activation_value(case, dtype):
    x = activation_inputs(case, dtype, extremes=True)
    y = _core.activation(case.name, x, case.attrs)
    assert y.dtype == dtype
    exact = x.astype(np.float64)
    expected = witness_of(case, 0)(exact)
    # 4 ulp of the value are promised for float32. The condition number covers attributes, which
    # are rounded to the dtype, and in float64 the witness, as inexact as the engine.
    condition = np.abs(expected) + np.abs(exact * witness_of(case, 1)(exact))
    error = np.abs(y - expected)
    limit = 8 * np.finfo(dtype).eps * condition + np.finfo(dtype).smallest_subnormal
    assert np.all(error <= limit), x[error > limit]


@over_dtypes
@pytest.mark.parametrize("order", [1, 2])
@over(ACTIVATIONS)
def test_activation_derivatives(case, order, dtype):
    x = activation_inputs(case, dtype, extremes=True)
    if order == 2:  # its value at a kink is left open
        x = x[away_from_kinks(case, x, 0)]
    d = _core.activation(case.name, x, case.attrs, order=order)
    assert d.dtype == dtype
    expected = witness_of(case, order)(x.astype(np.float64))
    # 4 eps of the largest magnitude are promised, since a derivative may be made of the output,
    # which has lost the digits of its tails; as much again for the rounding of the attributes.
    largest = np.abs(expected).max()
    assert np.abs(d - expected).max() <= 8 * np.finfo(dtype).eps * largest


@pytest.mark.parametrize("order", [1, 2])
@over(ACTIVATIONS)
def test_activation_derivatives_against_finite_differences(case, order):
    x = activation_inputs(case)
    scale = np.maximum(1.0, np.abs(x))
    x, scale = [a[away_from_kinks(case, x, 1e-4 * scale)] for a in (x, scale)]
    d = _core.activation(case.name, x, case.attrs, order=order)
    numeric = central_difference(
        lambda x: _core.activation(case.name, x, case.attrs, order=order - 1), x, scale
    )
    # 4e-11 of central_difference, times scale^3 of the truncation where |x| > 1. The third and
    # fourth derivatives are below 20 for all attributes of the cases, and gone by |x| = 12.
    assert np.abs(numeric / scale - d).max() <= 20 * 4e-11 * 12


@pytest.mark.parametrize("order", [1, 2])
@over(ACTIVATIONS)
def test_the_witness_of_an_activation_against_finite_differences(case, order):
    x = activation_inputs(case)
    scale = np.maximum(1.0, np.abs(x))
    x, scale = [a[away_from_kinks(case, x, 1e-4 * scale)] for a in (x, scale)]
    numeric = central_difference(witness_of(case, order - 1), x, scale)
    assert np.abs(numeric / scale - witness_of(case, order)(x)).max() <= 20 * 4e-11 * 12


@over_dtypes
@over(ACTIVATIONS)
def test_activation_at_and_beside_its_kinks(case, dtype):
    """R40 and its like: the convention at the kink, the one-sided slope a single step beside it."""
    for kink in reference.ACTIVATIONS[case.name].kinks:
        points = np.array([kink, np.nextafter(dtype(kink), dtype(9)), -dtype(9)], dtype=dtype)
        points[2] = np.nextafter(dtype(kink), -dtype(9))
        if kink == 0:
            points = np.append(points, dtype(-0.0))
        d = _core.activation(case.name, points, case.attrs, order=1)
        expected = witness_of(case, 1)(points.astype(float)).astype(dtype)
        # One ulp for constants that the witness multiplies and the engine writes out.
        np.testing.assert_array_max_ulp(d, expected, maxulp=1)


@over_dtypes
def test_relu_is_an_exact_mask(dtype):
    """R40: 1 for z > 0, else 0; 0 at 0.0 and -0.0; NaN stays NaN, in value and in slope."""
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([-1e30, -1, -tiny, -0.0, 0.0, tiny, 1, 1e30, np.inf, -np.inf], dtype=dtype)
    d = _core.activation("relu", x, order=1)
    np.testing.assert_array_equal(bits(d), bits((x > 0).astype(dtype)))
    np.testing.assert_array_equal(_core.activation("relu", x), np.where(x > 0, x, 0))
    assert np.isnan(_core.activation("relu", np.array([np.nan], dtype))).all()
    assert np.isnan(_core.activation("relu", np.array([np.nan], dtype), order=1)).all()


@over_dtypes
def test_logistic_slope_peaks_at_a_quarter(dtype):
    """R44: exactly 0.25, at 0; nothing overflows up to 1e4, where the textbook formula does."""
    x = np.concatenate([np.linspace(-1e4, 1e4, 20_001), np.linspace(-1, 1, 2001)]).astype(dtype)
    with np.errstate(all="raise"):
        s, d = (_core.activation("logistic", x, order=order) for order in (0, 1))
    assert d.max() == 0.25
    assert _core.activation("logistic", np.zeros(1, dtype), order=1) == 0.25
    assert np.all((s >= 0) & (s <= 1))
    assert s[x == -1e4] == 0 and s[x == 1e4] == 1


@over_dtypes
def test_tanh_slope_peaks_at_one(dtype):
    """R45: exactly 1, at 0; it saturates at both ends."""
    x = np.concatenate([np.linspace(-1e4, 1e4, 20_001), np.linspace(-1, 1, 2001)]).astype(dtype)
    d = _core.activation("tanh", x, order=1)
    assert d.max() == 1
    assert _core.activation("tanh", np.zeros(1, dtype), order=1) == 1
    assert np.abs(_core.activation("tanh", x)).max() == 1
    assert d[x == 1e4] == 0 and d[x == -1e4] == 0


@over_dtypes
@over(ACTIVATIONS)
def test_activation_passes_nan_on(case, dtype):
    x = np.array([np.nan, 0.5, np.nan], dtype)
    for order in (0, 1, 2) if case.row["reads"] != "nothing" else (0,):
        result = _core.activation(case.name, x, case.attrs, order=order)
        np.testing.assert_array_equal(np.isnan(result), [True, False, True])


@over_dtypes
@over(ACTIVATIONS)
def test_activation_takes_odd_shapes(case, dtype):
    x = activation_inputs(case, dtype)[:24].reshape(2, 3, 4)
    expected = _core.activation(case.name, x.ravel(), case.attrs)
    np.testing.assert_array_equal(_core.activation(case.name, x, case.attrs).ravel(), expected)
    turned = _core.activation(case.name, x.T, case.attrs)
    np.testing.assert_array_equal(turned.T.ravel(), expected)
    assert _core.activation(case.name, x[:0], case.attrs).shape == (0, 3, 4)
    x.flags.writeable = False
    np.testing.assert_array_equal(_core.activation(case.name, x, case.attrs).ravel(), expected)


@over_dtypes
@over(cases("activation", attributes=False))
def test_the_plainest_instruction_set_agrees_too(case, dtype, force_isa):
    """Without FMA the bits may differ; the promised accuracy may not."""
    force_isa(_core.build_info()["isas"][0])
    test_activation_value(case, dtype)
    test_activation_derivatives(case, 1, dtype)
