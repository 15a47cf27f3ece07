"""exp, log, erf and their relatives, and the activations made of them, against mpmath.

A thousand arguments to full precision, on every instruction set; tests/c/test_elementary.c sweeps
millions against the C library. What holds for every row of the table is in test_rows.py.
"""

import mpmath
import numpy as np
import pytest

from fastbp import _core

DTYPES = [np.float32, np.float64]

# The function, and its bounds in ulp for float32 and float64, as the headers in math/ state them.
FUNCTIONS = {
    "exp": (mpmath.exp, 1, 1),
    "expm1": (mpmath.expm1, 1.5, 2),
    "log": (mpmath.log, 1, 1),
    "log1p": (mpmath.log1p, 1.5, 1.5),
    "tanh": (mpmath.tanh, 2.5, 3),
    "logistic": (lambda x: 1 / (1 + mpmath.exp(-x)), 2.5, 2.5),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), 2, 2),
    "erf": (mpmath.erf, 1.5, 2),
    "erfc": (lambda x: mpmath.erfc(min(x, 10000)), 4, 4),  # mpmath takes no more
    "cospi": (mpmath.cospi, 2, 2),
}
ODD = ["expm1", "log1p", "tanh", "erf"]  # the sign of zero is that of the argument

# 4 ulp each, as math/activations.h states it.
ACTIVATIONS = {
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: (
        x / (1 + mpmath.exp(-mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
    ),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "softsign": lambda x: x / (1 + abs(x)),
}

over_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
over_functions = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.fixture(params=_core.build_info()["isas"])
def isa(request, force_isa):
    """Each instruction set that runs here, in force."""
    force_isa(request.param)
    return request.param


@pytest.fixture(autouse=True)
def digits():
    """350 bits, so that 1 + exp(-x) keeps the digits of 1e-45 beside 1."""
    with mpmath.workprec(350):
        yield


def bits(array):
    """The array's bytes as integers, so that NaN equals NaN and 0.0 differs from -0.0."""
    return array.view(f"u{array.itemsize}")


def arguments(dtype):
    """From the smallest denormal to the largest number, and dense where things happen."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    tails = [-745.13, -744, -708.5, -103.97, -103, -87.4, -37, -27, -14.3, -13, -10.05, 88.7, 709.7]
    # Where erfc would be off by more than 4 ulp, were the rounding of sqrt(2) x to go into it.
    tails += [6.7850685119628906, 14.015424653056556, 24.705696703070732, 26.202049964735586]
    x = np.concatenate(
        [
            2.0 ** np.linspace(info.minexp - info.nmant, info.maxexp - 0.01, 60),
            np.geomspace(1e-12, 40, 200),
            1 + np.geomspace(float(info.eps), 0.5, 20),
            1 - np.geomspace(float(info.eps), 0.5, 20),
            rng.uniform(0, 2, 100),
            rng.uniform(0, 120 if dtype == np.float32 else 760, 100),
        ]
    )
    with np.errstate(over="ignore"):
        return np.concatenate([x, -x, tails]).astype(dtype)


def errors_in_ulp(f, x, y):
    """How far y is from f(x), in last places of f(x); an overflow must be one."""
    info = np.finfo(x.dtype)
    worst = np.zeros(len(x))
    for i, (argument, result) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        exact = f(mpmath.mpf(argument))
        if abs(exact) > float(info.max):
            assert abs(result) >= info.max and (result > 0) == (exact > 0), argument
            continue
        exponent = max(mpmath.frexp(exact)[1], int(info.minexp) + 1) if exact else info.minexp + 1
        last_place = mpmath.ldexp(1, int(exponent) - info.nmant - 1)
        worst[i] = abs(mpmath.mpf(result) - exact) / last_place
    return worst


def test_every_function_has_a_witness():
    assert set(_core.build_info()["elementary"]) == set(FUNCTIONS)


@over_dtypes
@over_functions
def test_accuracy(name, dtype, isa):
    f, *bounds = FUNCTIONS[name]
    x = arguments(dtype)
    if name in ("log", "log1p"):
        x = x[x > (0 if name == "log" else -1)]
    worst = errors_in_ulp(f, x, _core.elementary(name, x))
    bound = bounds[DTYPES.index(dtype)]
    assert worst.max() <= bound, (x[worst.argmax()], worst.max())


@over_dtypes
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_accuracy_of_what_is_made_of_them(name, dtype, isa):
    x = arguments(dtype)
    # Witnesses to 350 bits need no more; the limits beyond are in test_rows.py.
    x = x[np.abs(x) < 2000]
    worst = errors_in_ulp(ACTIVATIONS[name], x, _core.activation(name, x))
    assert worst.max() <= 4, (x[worst.argmax()], worst.max())


@over_dtypes
@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [-np.inf, -0.0, 0.0, np.inf], [0, 1, 1, np.inf]),
        ("expm1", [-np.inf, np.inf], [-1, np.inf]),
        ("log", [-np.inf, -1, -0.0, 0.0, 1, np.inf], [np.nan, np.nan, -np.inf, -np.inf, 0, np.inf]),
        ("log1p", [-np.inf, -2, -1, np.inf], [np.nan, np.nan, -np.inf, np.inf]),
        ("tanh", [-np.inf, np.inf], [-1, 1]),
        ("logistic", [-np.inf, -0.0, 0.0, np.inf], [0, 0.5, 0.5, 1]),
        ("softplus", [-np.inf, np.inf], [0, np.inf]),
        ("erf", [-np.inf, np.inf], [-1, 1]),
        ("erfc", [-np.inf, -0.0, 0.0, np.inf], [2, 1, 1, 0]),
        (
            "cospi",
            [-np.inf, -1, -0.5, -0.0, 0.5, 1, 1.5, 2, np.inf],
            [np.nan, -1, 0, 1, 0, -1, 0, 1, np.nan],
        ),
        ("cospi", [2.0**22 + 0.5, 2.0**23 - 1, 2.0**24, 1e30], [0, -1, 1, 1]),
        *[(name, [-0.0, 0.0], [-0.0, 0.0]) for name in ODD],
        *[(name, [np.nan], [np.nan]) for name in FUNCTIONS],
    ],
)
def test_special_values(name, x, expected, dtype, isa):
    y = _core.elementary(name, np.array(x, dtype=dtype))
    np.testing.assert_array_equal(y, np.array(expected, dtype=dtype))
    np.testing.assert_array_equal(np.signbit(y[y == 0]), np.signbit(expected)[y == 0])


@over_dtypes
@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_are_odd_to_the_last_bit(name, dtype, isa):
    x = arguments(dtype)
    y, mirrored = _core.elementary(name, x), _core.elementary(name, -x)
    np.testing.assert_array_equal(bits(mirrored), bits(-y))


@over_dtypes
def test_exp_underflows_gradually(dtype, isa):
    """Every denormal is reached, and nothing is flushed to zero before half the smallest one."""
    info = np.finfo(dtype)
    smallest = float(info.smallest_subnormal)
    multiples = np.arange(1, 200)
    x = np.log(multiples.astype(np.longdouble) * np.longdouble(smallest)).astype(dtype)
    found = _core.elementary("exp", x)
    # x is rounded: relative to x near -745, eps of it moves the result by 745 eps.
    np.testing.assert_allclose(found / smallest, multiples, rtol=1e3 * float(info.eps), atol=1)
    assert _core.elementary("exp", dtype(np.log(smallest) - 0.68) * np.ones(1, dtype)) == smallest
    assert _core.elementary("exp", dtype(np.log(smallest) - 0.70) * np.ones(1, dtype)) == 0


@over_dtypes
@over_functions
def test_an_element_has_the_same_bits_in_every_place(name, dtype, isa):
    """Vector body or tail, aligned or not."""
    values = np.random.default_rng(1).permutation(arguments(dtype))[:67]
    alone = np.concatenate([_core.elementary(name, values[i : i + 1]) for i in range(67)])
    room = np.empty(67 + 16, dtype)
    for offset in range(16):
        for length in (1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 67):
            part = room[offset : offset + length]
            part[:] = np.roll(values, offset)[:length]
            expected = np.roll(alone, offset)[:length]
            np.testing.assert_array_equal(bits(_core.elementary(name, part)), bits(expected))


@pytest.mark.skipif(
    len({"v3", "v4"} & set(_core.build_info()["isas"])) < 2,
    reason="needs two instruction sets with FMA",
)
@over_dtypes
@over_functions
def test_instruction_sets_with_fma_give_the_same_bits(name, dtype, force_isa):
    x = arguments(dtype)
    force_isa("v3")
    narrow = _core.elementary(name, x)
    force_isa("v4")
    np.testing.assert_array_equal(bits(_core.elementary(name, x)), bits(narrow))


@over_dtypes
def test_shapes_and_strides(dtype):
    x = np.linspace(-2, 2, 24, dtype=dtype).reshape(4, 6)
    y = _core.elementary("tanh", x)
    assert y.shape == x.shape and y.dtype == dtype
    np.testing.assert_array_equal(_core.elementary("tanh", x[::2, ::-3]), y[::2, ::-3])
    assert _core.elementary("tanh", x[:0]).shape == (0, 6)


def test_an_unknown_function_is_named():
    with pytest.raises(ValueError, match="cosh"):
        _core.elementary("cosh", np.zeros(3))
