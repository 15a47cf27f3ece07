"""Every elementwise function that is no activation: value, two derivatives, domain, kinks, NaN.

That its bits depend on nothing but its input is tested in test_rows.py, and that it is the same as
a node of a graph in test_ops.py.
"""

import mpmath
import numpy as np
import pytest
import reference
from helpers import bits, central_difference, over, over_dtypes

from fastbp import _core
from fastbp.testing import RowCase, activation_inputs, cases

(POWER,) = (case.row for case in cases("function", attributes=False) if case.name == "power")
EXPONENTS = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 4.0, 8.0)
FUNCTIONS = cases("function") + tuple(RowCase(POWER, {"exponent": p}) for p in EXPONENTS)


def run(name, x, order=0, **attrs):
    return _core.activation(name, x, attrs, order=order)


def witness_of(case, order, dtype=np.float64):
    """The reference in long double, with attributes as the dtype holds them."""
    function = reference.FUNCTIONS[case.name]
    f = (function.value, function.first, function.second)[order]
    attrs = {name: np.longdouble(dtype(value)) for name, value in case.attrs.items()}
    return lambda x: f(np.asarray(x, np.longdouble), **attrs) + np.zeros_like(x)


def inputs_of(case, dtype, *, extremes=False, away=0.0):
    """Arguments in the function's domain, as far from its end and from kinks as is asked."""
    x = activation_inputs(case, dtype, extremes=extremes)
    function = reference.FUNCTIONS[case.name]
    low, high = function.domain(**case.attrs)
    keep = (x > low + away) & (x < high - away)
    for kink in function.kinks:
        keep &= np.abs(x - dtype(kink)) > away
    return x[keep]


@over_dtypes
@pytest.mark.parametrize("order", [0, 1, 2])
@over(FUNCTIONS)
def test_function_value_and_derivatives(case, order, dtype):
    x = inputs_of(case, dtype, extremes=True)
    ours = _core.activation(case.name, x, case.attrs, order=order)
    assert ours.dtype == dtype
    info = np.finfo(dtype)
    with np.errstate(over="ignore", under="ignore"):
        expected = witness_of(case, order, dtype)(x)
        if order == 2:  # the kernel adds 0 times the slope
            slope = witness_of(case, 1, dtype)(x)
            x, ours, expected = (a[np.abs(slope) <= info.max] for a in (x, ours, expected))
    over = np.abs(expected) > info.max
    np.testing.assert_array_equal(ours[over], np.inf * np.sign(expected[over]))
    # 2 and 6 ulp are promised, and an ulp is at most eps; 2 for power with exponents up to 10,
    # whose derivatives multiply the last place of a denormal by at most 8 * 7.
    limit = (2, 6, 6)[order] * info.eps * np.abs(expected)
    limit += (1, 8, 56)[order] * info.smallest_subnormal
    with np.errstate(invalid="ignore"):
        wrong = ~over & ~(np.abs(ours - expected) <= limit)
    assert not wrong.any(), (x[wrong], ours[wrong], expected[wrong])


def check_by_differences(case, order, function, derivative):
    """A central difference is off by h^2 / 6 times the third derivative, and by eps f / h: 4e-11
    each where they are 1. Here the third is below 100 times the function and the first two."""
    x = inputs_of(case, np.float64, away=0.5)
    x = x[np.abs(x) <= 12]
    numeric = central_difference(function, x, np.ones_like(x))
    size = sum(np.abs(witness_of(case, k)(x)) for k in range(3))
    assert np.all(np.abs(numeric - derivative(x)) <= 100 * 4e-11 * (1 + size))


@pytest.mark.parametrize("order", [1, 2])
@over(FUNCTIONS)
def test_function_derivatives_against_finite_differences(case, order):
    def derivative_of(k):
        return lambda x: _core.activation(case.name, x, case.attrs, order=k)

    check_by_differences(case, order, derivative_of(order - 1), derivative_of(order))


@pytest.mark.parametrize("order", [1, 2])
@over(FUNCTIONS)
def test_the_witness_of_a_function_against_finite_differences(case, order):
    check_by_differences(case, order, witness_of(case, order - 1), witness_of(case, order))


@over_dtypes
@over(FUNCTIONS)
def test_function_passes_nan_on(case, dtype):
    """Unless the power is 0."""
    x = np.array([np.nan, 0.5, np.nan], dtype)
    for order in (0, 1, 2) if case.row["reads"] != "nothing" else (0,):
        constant = case.name == "power" and case.attrs["exponent"] in (0, 1)[: order + 1]
        result = _core.activation(case.name, x, case.attrs, order=order)
        np.testing.assert_array_equal(np.isnan(result), [not constant, False, not constant])


@over_dtypes
@pytest.mark.parametrize(
    ("name", "x", "value", "slope"),
    [
        ("exp", [-np.inf, -0.0, 0.0, np.inf], [0, 1, 1, np.inf], [0, 1, 1, np.inf]),
        ("expm1", [-np.inf, -0.0, 0.0, np.inf], [-1, -0.0, 0, np.inf], [0, 1, 1, np.inf]),
        ("log", [-0.0, 0.0, 1, np.inf], [-np.inf, -np.inf, 0, np.inf], [-np.inf, np.inf, 1, 0]),
        ("log1p", [-1, -0.0, 0.0, np.inf], [-np.inf, -0.0, 0, np.inf], [np.inf, 1, 1, 0]),
        ("erf", [-np.inf, -0.0, np.inf], [-1, -0.0, 1], [0, 2 / np.sqrt(np.pi), 0]),
        ("negative", [-np.inf, -0.0, 0.0, 2], [np.inf, 0, -0.0, -2], [-1, -1, -1, -1]),
        ("absolute", [-np.inf, -0.0, 0.0, 2], [np.inf, 0, 0, 2], [-1, 0, 0, 1]),
        ("sign", [-np.inf, -0.0, 0.0, 2], [-1, 0, 0, 1], [0, 0, 0, 0]),
        ("square", [-np.inf, -0.0, 0.0, 2], [np.inf, 0, 0, 4], [-np.inf, -0.0, 0, 4]),
        ("sqrt", [-0.0, 0.0, 4, np.inf], [-0.0, 0, 2, np.inf], [np.inf, np.inf, 0.25, 0]),
        (
            "reciprocal",
            [-np.inf, -0.0, 0.0, 2],
            [-0.0, -np.inf, np.inf, 0.5],
            [-0.0, -np.inf, -np.inf, -0.25],
        ),
    ],
)
def test_at_the_ends_and_kinks(name, x, value, slope, dtype):
    x = np.array(x, dtype)
    for order, expected in enumerate((value, slope)):
        found = run(name, x, order)
        np.testing.assert_array_equal(found, np.array(expected, dtype))
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@over_dtypes
def test_outside_the_domain_is_nan(dtype):
    below = np.array([-2, -1.5, -1e30, -np.inf], dtype)
    for name in ("log", "log1p", "sqrt"):
        assert np.isnan(run(name, below)).all()
    assert np.isnan(run("power", below[:3], exponent=0.5)).all()


@over_dtypes
def test_second_derivatives_where_the_slope_is_constant_are_zero(dtype):
    x = np.array([-1e30, -2, -0.0, 0.0, 2, 1e30], dtype)
    for name in ("absolute", "sign", "negative"):
        assert not run(name, x, 2).any()
    assert not run("clip", x, 2, low=-1, high=2).any()
    np.testing.assert_array_equal(run("square", x, 2), np.full(6, 2, dtype))


# ------------------------------------------------------------------------------------------- power


@over_dtypes
@pytest.mark.parametrize("p", [*EXPONENTS, 3.0, 5.0, 1e30, -1e30, 2.0**24 - 1, 2.0**53 - 1])
def test_power_of_zeros_infinities_and_signs_is_that_of_c(p, dtype):
    x = np.array([-np.inf, -2, -1, -0.0, 0.0, 1, 2, np.inf, np.nan], dtype)
    ours = run("power", x, exponent=p)
    with np.errstate(all="ignore"):
        expected = np.power(x, np.full(x.shape, p, dtype))  # as C; of a number, NumPy makes sqrt
    np.testing.assert_array_max_ulp(ours, expected, maxulp=1)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours[number]), np.signbit(expected[number]))


@over_dtypes
def test_small_whole_powers_and_their_roots_are_exact(dtype):
    for p in range(1, 9):
        # All x whose power the type can hold.
        most = min(1000, int(2 ** ((np.finfo(dtype).nmant + 1) / p) + 1e-9))
        x = np.arange(1, most + 1)
        powers = np.array([int(n) ** p for n in x], dtype)
        np.testing.assert_array_equal(run("power", dtype(x), exponent=p), powers)
        np.testing.assert_array_equal(run("power", -dtype(x), exponent=p), powers * (-1) ** p)
    squares = dtype(np.arange(1000)) ** 2
    np.testing.assert_array_equal(run("power", squares, exponent=0.5), np.sqrt(squares))


@over_dtypes
@pytest.mark.parametrize("isa", _core.build_info()["isas"])
@pytest.mark.parametrize("p", [-64.0, -7.3, -1.0, 1 / 3, 0.5, 3.0, 16.0, 33.3, 300.0])
def test_power_keeps_its_bound(p, isa, dtype, force_isa):
    """1 + |exponent| / 10 ulp, in the whole range, against mpmath."""
    force_isa(isa)
    info = np.finfo(dtype)
    reach = np.log2(float(info.max)) / abs(p)
    rng = np.random.default_rng(0)
    near = 2.0 ** rng.uniform(-0.6, 0.6, 150)
    wide = 2.0 ** rng.uniform(max(-reach, info.minexp - 10), min(reach, info.maxexp), 150)
    x = np.concatenate([near, wide]).astype(dtype)
    y = run("power", x, exponent=p)
    for argument, result in zip(x.tolist(), y.tolist(), strict=True):
        with mpmath.workprec(120):
            exact = mpmath.mpf(argument) ** mpmath.mpf(float(dtype(p)))
            if exact > float(info.max):
                assert result >= info.max
                continue
            exponent = max(int(mpmath.frexp(exact)[1]), int(info.minexp) + 1)
            error = abs(mpmath.mpf(result) - exact) / mpmath.ldexp(1, exponent - info.nmant - 1)
        assert error <= 1 + abs(p) / 10, argument


@over_dtypes
def test_derivatives_of_whole_powers_at_zero(dtype):
    """p x^(p - 1), also where its factor is 0 or the power one of 0."""
    x = np.array([-0.0, 0.0], dtype)
    for p, slope, curvature in [(0, 0, 0), (1, 1, 0), (2, 0, 2), (3, 0, 0)]:
        np.testing.assert_array_equal(run("power", x, 1, exponent=p), np.full(2, slope))
        np.testing.assert_array_equal(run("power", x, 2, exponent=p), np.full(2, curvature))
    np.testing.assert_array_equal(run("power", x, 1, exponent=0.5), np.full(2, np.inf))


@over_dtypes
def test_an_odd_exponent_near_the_end_of_the_digits_keeps_the_sign(dtype):
    p = 2.0 ** (np.finfo(dtype).nmant + 1) - 1
    x = np.array([-1], dtype)
    assert run("power", x, exponent=p) == -1
    assert run("power", x, 1, exponent=p) == dtype(p)
    assert run("power", x, 2, exponent=p) == -dtype(p) * dtype(p - 1)


def test_power_wants_its_exponent():
    with pytest.raises(ValueError, match="exponent: found nan, wanted a number"):
        run("power", np.ones(3))
    with pytest.raises(ValueError, match="exponent of power: found none, wanted a number"):
        _core.Node("power", [(3,)], dtype="float64")
    with pytest.raises(ValueError, match="exponent of power: found inf, wanted a number in"):
        _core.Node("power", [(3,)], dtype="float64", attrs={"exponent": np.inf})


# -------------------------------------------------------------------------------------------- clip


@over_dtypes
def test_clip_at_its_bounds(dtype):
    """Slope 1 at the bounds, as torch.clamp; without bounds it is the identity."""
    beside = [np.nextafter(dtype(v), dtype(w)) for v in (-1, 2) for w in (-9, 9)]
    x = np.array([-np.inf, -1, 2, np.inf, *beside], dtype)
    np.testing.assert_array_equal(run("clip", x, low=-1, high=2), np.clip(x, dtype(-1), dtype(2)))
    inside = [0, 1, 1, 0, 0, 1, 1, 0]
    np.testing.assert_array_equal(run("clip", x, 1, low=-1, high=2), inside)
    np.testing.assert_array_equal(bits(run("clip", x)), bits(x))
    np.testing.assert_array_equal(run("clip", x, 1), np.ones(8))
    np.testing.assert_array_equal(run("clip", x, low=0), np.maximum(x, 0))
    np.testing.assert_array_equal(run("clip", x, high=0), np.minimum(x, 0))


def test_crossed_bounds_are_those_of_numpy():
    x = np.linspace(-3, 3, 7)
    np.testing.assert_array_equal(run("clip", x, low=1, high=-1), np.clip(x, 1, -1))
    assert not run("clip", x, 1, low=1, high=-1).any()


# ----------------------------------------------------------------------------------------- shapes


@over_dtypes
@over(FUNCTIONS)
def test_function_takes_odd_shapes(case, dtype):
    x = np.abs(activation_inputs(case, dtype)[:24].reshape(2, 3, 4)) + dtype(0.1)
    expected = _core.activation(case.name, x.ravel(), case.attrs)
    np.testing.assert_array_equal(_core.activation(case.name, x, case.attrs).ravel(), expected)
    turned = _core.activation(case.name, x.T, case.attrs)
    np.testing.assert_array_equal(turned.T.ravel(), expected)
    assert _core.activation(case.name, x[:0], case.attrs).shape == (0, 3, 4)


@over_dtypes
@over(cases("function", attributes=False))
def test_the_plainest_instruction_set_agrees_too(case, dtype, force_isa):
    """Without FMA the bits may differ; the promised accuracy may not."""
    force_isa(_core.build_info()["isas"][0])
    for order in (0, 1, 2):
        test_function_value_and_derivatives(case, order, dtype)
