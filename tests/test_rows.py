"""Every row of the table meets every property: values, derivatives, kinks, extremes, bits.

The tests run over the table itself, so a row without a reference fails the suite. Networks made of
rows are in test_gradients.py and test_engine.py.
"""

import numpy as np
import pytest
import reference
from scipy.optimize import approx_fprime

from fastbp import _core
from fastbp.testing import activation_inputs, cases, loss_inputs, rows

DTYPES = [np.float32, np.float64]
ACTIVATIONS = cases("activation")
LOSSES = cases("loss")
RULES = cases("rule")
EVERY = {
    "op": dict.fromkeys(reference.OPS),
    "activation": reference.ACTIVATIONS,
    "loss": reference.LOSSES,
    "rule": reference.RULES,
}


def over(row_cases):
    return pytest.mark.parametrize("case", row_cases, ids=str)


over_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def bits(array):
    """The array's bytes as integers, so that NaN equals NaN and 0.0 differs from -0.0."""
    return array.view(f"u{array.itemsize}")


def central_difference(f, x, scale):
    """d f(x + t scale) / dt at t = 0, by SciPy; f maps arrays to arrays.

    The step h = eps^(1/3) balances truncation, h^2/6 f''', and rounding, eps f / h: both are near
    4e-11 for a function of size and curvature 1.
    """
    step = np.finfo(np.float64).eps ** (1 / 3)
    one_sided = [
        approx_fprime(np.zeros(1), lambda t: np.ravel(f(x + t[0] * scale)), h)
        for h in (step, -step)
    ]
    return (sum(one_sided) / 2).reshape(np.shape(f(x)))


# ---------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("kind", EVERY)
def test_every_row_has_a_reference_and_the_other_way_round(kind):
    assert {row["name"] for row in rows(kind)} == set(EVERY[kind])


def test_the_table_has_no_kind_unknown_to_the_tests():
    assert {row["kind"] for row in _core.table()} == set(EVERY)


def test_names_are_unique_within_a_kind():
    names = [(row["kind"], row["name"]) for row in _core.table()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", _core.table(), ids=lambda row: f"{row['kind']}-{row['name']}")
def test_a_row_describes_itself(row):
    assert row["doc"] and "\n" not in row["doc"]
    for attr in row["attrs"]:
        assert attr["doc"] and "\n" not in attr["doc"]
        assert attr["low"] <= attr["default"] <= attr["high"]
    if row["kind"] == "activation":
        assert row["reads"] in ("nothing", "input", "output")
    if row["kind"] != "rule":
        assert row["row_independent"]
        assert row["tangent"] and row["tangent_of_backward"]


@pytest.mark.parametrize("kind", ["activation", "loss", "rule"])
def test_documented_defaults(kind):
    for row in rows(kind):
        defaults = {attr["name"]: attr["default"] for attr in row["attrs"]}
        assert defaults == EVERY[kind][row["name"]].defaults, row["name"]


def test_links_targets_and_states_are_the_documented_ones():
    for row in rows("loss"):
        witness = reference.LOSSES[row["name"]]
        assert (row["link"], row["target"]) == (witness.link, witness.target), row["name"]
    for row in rows("rule"):
        assert row["n_states"] == reference.RULES[row["name"]].n_states, row["name"]


def test_an_unknown_row_or_attribute_is_named():
    x = np.zeros(3)
    with pytest.raises(ValueError, match="no_such_row"):
        _core.activation("no_such_row", x)
    with pytest.raises(ValueError, match="no_such_row"):
        _core.loss("no_such_row", x[:, None], x[:, None])
    with pytest.raises(ValueError, match="no_such_row"):
        _core.update("no_such_row", x, x.copy(), [], 0.1, 1)
    with pytest.raises(ValueError, match="no_such_attribute"):
        _core.activation("elu", x, {"no_such_attribute": 1.0})


@pytest.mark.parametrize(
    ("row", "attr"),
    [(row, attr) for row in _core.table() for attr in row["attrs"] if row["kind"] == "activation"],
    ids=lambda value: value["name"],
)
def test_an_attribute_outside_its_range_is_refused(row, attr):
    wrong = [np.nan, np.inf]
    if np.isfinite(attr["low"]):
        wrong.append(attr["low"] if attr["low_open"] else attr["low"] - 1)
    if np.isfinite(attr["high"]):
        wrong.append(attr["high"] if attr["high_open"] else attr["high"] + 1)
    for value in wrong:
        with pytest.raises(ValueError, match=attr["name"]):
            _core.activation(row["name"], np.zeros(3), {attr["name"]: value})


# -------------------------------------------------------------------------------------- activations


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


# ------------------------------------------------------------------------------------------- losses


def loss_of(case):
    """Value, gradient and Hessian-vector product of the witness, with the case's attributes."""
    witness = reference.LOSSES[case.name]
    return tuple(
        lambda *args, f=f: np.asarray(f(*args, **case.attrs), dtype=np.float64)
        for f in (witness.value, witness.gradient, witness.hvp)
    )


def away_from_loss_kinks(case, z, t, distance=1e-3):
    """Which samples have no output near a kink."""
    keep = np.ones(len(z), dtype=bool)
    for kink in reference.LOSSES[case.name].kinks(t, **case.attrs):
        keep &= np.abs(z - kink).min(axis=1) > distance
    return keep


def rounding_of_loss(dtype, z, t, value, gradient):
    """Per sample: 16 eps of every term that a loss may be a sum of."""
    t = np.zeros_like(z) if np.ndim(t) == 1 else t
    terms = (np.abs(z) + np.abs(t)) * (1 + np.abs(gradient))
    return 16 * np.finfo(dtype).eps * (1 + np.abs(value) + terms.sum(axis=1))


@over_dtypes
@over(LOSSES)
def test_loss_against_the_witness(case, dtype):
    z, t = loss_inputs(case, 60, 3, dtype)
    value, gradient = _core.loss(case.name, z, t, case.attrs)
    assert value.shape == (60,) and gradient.shape == (60, 3)
    assert value.dtype == dtype and gradient.dtype == dtype
    exact_z, exact_t = z.astype(float), t if t.dtype == np.int32 else t.astype(float)
    f, first, _ = loss_of(case)
    expected, slope = f(exact_z, exact_t), first(exact_z, exact_t)
    limit = rounding_of_loss(dtype, exact_z, exact_t, expected, slope)
    assert np.all(np.abs(value - expected) <= limit)
    assert np.all(np.abs(gradient - slope) <= limit[:, None])


@over(LOSSES)
def test_loss_gradient_against_finite_differences(case):
    z, t = loss_inputs(case, 60)
    keep = away_from_loss_kinks(case, z, t)
    z, t = z[keep], t[keep]
    value, gradient = _core.loss(case.name, z, t, case.attrs)
    for output in range(z.shape[1]):
        direction = np.zeros_like(z)
        direction[:, output] = 1
        numeric = central_difference(
            lambda z: _core.loss(case.name, z, t, case.attrs)[0], z, direction
        )
        # 4e-11 of central_difference, of a loss with values and third derivatives up to 100 times
        # those of a function of size 1; Poisson's grow like itself.
        limit = 100 * 4e-11 * (1 + np.abs(value))
        assert np.all(np.abs(numeric - gradient[:, output]) <= limit)


@over_dtypes
@over(LOSSES)
def test_loss_tangents_against_the_witness(case, dtype):
    """Forward mode of the loss, and forward mode over its gradient: the Hessian-vector product."""
    z, t = loss_inputs(case, 60, 3, dtype)
    keep = away_from_loss_kinks(case, z, t)
    z, t = z[keep], t[keep]
    dz = np.random.default_rng(5).standard_normal(z.shape).astype(dtype)
    d_value, d_gradient = _core.loss_tangent(case.name, z, t, dz, case.attrs)
    exact = [z.astype(float), t if t.dtype == np.int32 else t.astype(float)]
    _, first, second = loss_of(case)
    slope, bend = first(*exact), second(*exact, dz.astype(float))
    limit = rounding_of_loss(dtype, *exact, (slope * dz).sum(axis=1), 1 + np.abs(bend))
    assert np.all(np.abs(d_value - (slope * dz).sum(axis=1)) <= 4 * limit)
    assert np.all(np.abs(d_gradient - bend) <= 4 * limit[:, None])


@over(LOSSES)
def test_loss_tangents_against_finite_differences(case):
    z, t = loss_inputs(case, 60)
    keep = away_from_loss_kinks(case, z, t)
    z, t = z[keep], t[keep]
    dz = np.random.default_rng(5).standard_normal(z.shape)
    d_value, d_gradient = _core.loss_tangent(case.name, z, t, dz, case.attrs)
    for tangent, part in ((d_value, 0), (d_gradient, 1)):
        numeric = central_difference(
            lambda z, part=part: _core.loss(case.name, z, t, case.attrs)[part], z, dz
        )
        # As for the gradient; |dz| up to 4 enters the truncation to the third power.
        assert np.abs(numeric - tangent).max() <= 64 * 100 * 4e-11 * (1 + np.abs(tangent).max())


@over(LOSSES)
def test_the_witness_of_a_loss_against_finite_differences(case):
    z, t = loss_inputs(case, 60)
    keep = away_from_loss_kinks(case, z, t)
    z, t = z[keep], t[keep]
    dz = np.random.default_rng(5).standard_normal(z.shape)
    f, first, second = loss_of(case)
    slope = central_difference(lambda z: f(z, t), z, dz)
    expected = (first(z, t) * dz).sum(axis=1)
    assert np.abs(slope - expected).max() <= 6400 * 4e-11 * (1 + np.abs(expected).max())
    bend = central_difference(lambda z: first(z, t), z, dz)
    expected = second(z, t, dz)
    assert np.abs(bend - expected).max() <= 6400 * 4e-11 * (1 + np.abs(expected).max())


@over_dtypes
@over(LOSSES)
def test_loss_gradient_at_its_kinks(case, dtype):
    _, t = loss_inputs(case, 12, 3, dtype)
    for kink in reference.LOSSES[case.name].kinks(t.astype(float), **case.attrs):
        z = kink.astype(dtype)
        # Where rounding has moved z off the kink there is nothing to test.
        exact = z.astype(float) == kink
        _, gradient = _core.loss(case.name, z, t, case.attrs)
        expected = loss_of(case)[1](z.astype(float), t.astype(float)).astype(dtype)
        np.testing.assert_array_equal(gradient[exact], expected[exact])
        assert exact.any() or case.attrs


@over_dtypes
@over(LOSSES)
def test_loss_far_out(case, dtype):
    """R51 to R53: logits of 1e4 give finite losses and gradients, also where p is 0 or 1."""
    if case.row["link"] == "exp":
        pytest.skip("exp(1e4) is the mean that this loss is asked about: it is infinite")
    big = np.array([1e4, -1e4, 0.0, 88.0, -88.0, 710.0, 40.0, -40.0], dtype=dtype)
    z = np.stack([np.roll(big, shift)[:3] for shift in range(8)])
    _, t = loss_inputs(case, 8, 3, dtype)
    value, gradient = _core.loss(case.name, z, t, case.attrs)
    d_value, d_gradient = _core.loss_tangent(case.name, z, t, np.ones_like(z), case.attrs)
    exact = z.astype(float), t if t.dtype == np.int32 else t.astype(float)
    f, first, _ = loss_of(case)
    expected, slope = f(*exact), first(*exact)
    limit = rounding_of_loss(dtype, *exact, expected, slope)
    assert np.all(np.abs(value - expected) <= limit)
    assert np.all(np.abs(gradient - slope) <= limit[:, None])
    assert np.isfinite(d_value).all() and np.isfinite(d_gradient).all()


@over_dtypes
def test_cross_entropy_gradient_is_p_minus_target(dtype):
    """R51 and R52: the fused rows' gradients are the differences that the textbooks derive."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((50, 4)).astype(dtype)
    classes = rng.integers(0, 4, 50).astype(np.int32)
    _, gradient = _core.loss("softmax_cross_entropy", z, classes)
    p = _core.link("softmax_cross_entropy", z)
    # p and gradient are rounded apart: each has errors of a few eps of 1.
    limit = 8 * np.finfo(dtype).eps
    assert np.abs(gradient - (p - np.eye(4)[classes])).max() <= limit
    labels = rng.integers(0, 2, (50, 4)).astype(dtype)
    _, gradient = _core.loss("sigmoid_cross_entropy", z, labels)
    assert np.abs(gradient - (_core.link("sigmoid_cross_entropy", z) - labels)).max() <= limit


def test_focal_without_focus_is_cross_entropy():
    """R54: gamma = 0."""
    z, t = loss_inputs(next(c for c in LOSSES if c.name == "focal"), 30, 4)
    for a, b in zip(
        _core.loss("focal", z, t, {"gamma": 0.0}),
        _core.loss("sigmoid_cross_entropy", z, t),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)  # values below 10: 16 eps and more
    z, t = loss_inputs(next(c for c in LOSSES if c.name == "softmax_focal"), 30, 4)
    for a, b in zip(
        _core.loss("softmax_focal", z, t, {"gamma": 0.0}),
        _core.loss("softmax_cross_entropy", z, t),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


@over_dtypes
@over(cases("loss", attributes=False))
def test_link(case, dtype):
    z, _ = loss_inputs(case, 40, 5, dtype, scale=4.0)
    p = _core.link(case.name, z)
    assert p.dtype == dtype and p.shape == z.shape
    expected = reference.LINKS[case.row["link"]](z.astype(float))
    # 4 ulp of exp and as many for the sum and the division; |z| <= 20 times the rounding of the
    # maximum's subtraction, which is exact only for neighbours.
    limit = 32 * np.finfo(dtype).eps * np.abs(expected)
    assert np.all(np.abs(p - expected) <= limit + np.finfo(dtype).tiny)


@over_dtypes
def test_softmax_rows_sum_to_one(dtype):
    """R47: also with logits of 1e4, and with a thousand classes."""
    rng = np.random.default_rng(0)
    for scale, n_classes in ((1.0, 2), (1.0, 1000), (30.0, 7), (1e4, 7)):
        z = (scale * rng.standard_normal((20, n_classes))).astype(dtype)
        with np.errstate(all="raise"):
            p = _core.link("softmax_cross_entropy", z)
        assert np.isfinite(p).all() and (p >= 0).all()
        # n terms that add to 1, each rounded once, and their sum before the division.
        limit = (2 * np.sqrt(n_classes) + 4) * np.finfo(dtype).eps
        assert np.abs(p.sum(axis=1, dtype=np.float64) - 1).max() <= limit
    z = np.array([[1e4, 0, -1e4]], dtype)
    np.testing.assert_array_equal(_core.link("softmax_cross_entropy", z), [[1, 0, 0]])


@over_dtypes
@over(LOSSES)
def test_a_sample_does_not_feel_its_neighbours(case, dtype):
    """The bits of a sample are those that it has alone, for every number of outputs."""
    for n_outputs in (1, 2, 3, 7, 8, 16, 17, 33):
        if case.row["target"] == "class" and n_outputs == 1:
            continue
        z, t = loss_inputs(case, 19, n_outputs, dtype)
        dz = np.roll(z, 1, axis=0)
        together = [
            *_core.loss(case.name, z, t, case.attrs),
            *_core.loss_tangent(case.name, z, t, dz, case.attrs),
            _core.link(case.name, z),
        ]
        for i in range(len(z)):
            one = slice(i, i + 1)
            alone = [
                *_core.loss(case.name, z[one], t[one], case.attrs),
                *_core.loss_tangent(case.name, z[one], t[one], dz[one], case.attrs),
                _core.link(case.name, z[one]),
            ]
            for a, b in zip(alone, together, strict=True):
                np.testing.assert_array_equal(bits(a[0:1]), bits(b[one]))


# ------------------------------------------------------------------------------------- update rules


@over_dtypes
@over(RULES)
def test_rule_has_the_bits_of_numpy(case, dtype):
    """R60 and the rules of DESIGN.md: no fused multiply-add, no other order of operations.

    Lengths and offsets of every remainder of a vector, three steps each.
    """
    rng = np.random.default_rng(0)
    n_states = case.row["n_states"]
    for length in [*range(1, 40), 70, 129]:
        for offset in (0, 1, 3):
            ours = _aligned(2 + n_states, length + offset, dtype)[:, offset:]
            ours[:2] = rng.standard_normal((2, length))
            ours[2:] = np.abs(rng.standard_normal((n_states, length)))
            theirs = ours.copy()
            for step in (1, 2, 1000):
                _core.update(case.name, ours[0], ours[1], list(ours[2:]), 0.01, step, case.attrs)
                reference.RULES[case.name].update(
                    theirs[0], theirs[1], list(theirs[2:]), 0.01, step, **case.attrs
                )
            np.testing.assert_array_equal(bits(ours), bits(theirs))


# ------------------------------------------------------------------------------------ the same bits


def _aligned(n_rows, length, dtype):
    """Zeros (n_rows, length) of which every row begins on a cache line of 64 bytes."""
    itemsize = np.dtype(dtype).itemsize
    stride = -(-length * itemsize // 64) * 64
    raw = np.zeros(n_rows * stride + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_rows * stride].view(dtype).reshape(n_rows, -1)[:, :length]


@over_dtypes
@pytest.mark.parametrize("order", [0, 1, 2])
@over(cases("activation"))
def test_an_element_has_the_same_bits_in_every_place(case, order, dtype):
    """Every position, length from 1 to 70 and alignment to the cache line."""
    values = np.random.default_rng(0).permutation(activation_inputs(case, dtype))[:70]
    alone = np.concatenate(
        [_core.activation(case.name, values[i : i + 1], case.attrs, order=order) for i in range(70)]
    )
    (line,) = _aligned(1, 70 + 64, dtype)
    for offset in range(64 // line.itemsize):
        for length in range(1, 71):
            # Over the lengths, every element comes to every position.
            shift = (31 * length + offset) % 70
            part = line[offset : offset + length]
            part[:] = np.roll(values, shift)[:length]
            result = _core.activation(case.name, part, case.attrs, order=order)
            assert np.array_equal(bits(result), bits(np.roll(alone, shift)[:length]))


def fma_isas():
    return [isa for isa in _core.build_info()["isas"] if isa in ("v3", "v4")]


@pytest.mark.skipif(len(fma_isas()) < 2, reason="needs two instruction sets with FMA")
@over_dtypes
@over(ACTIVATIONS + LOSSES)
def test_every_instruction_set_gives_the_same_bits(case, dtype, force_isa):
    results = {}
    for name in fma_isas():
        force_isa(name)
        if case.row["kind"] == "activation":
            x = activation_inputs(case, dtype, extremes=True)
            results[name] = [
                _core.activation(case.name, x, case.attrs, order=order) for order in (0, 1, 2)
            ]
        else:
            z, t = loss_inputs(case, 30, 5, dtype)
            results[name] = [
                *_core.loss(case.name, z, t, case.attrs),
                *_core.loss_tangent(case.name, z, t, np.roll(z, 1), case.attrs),
                _core.link(case.name, z),
            ]
    first, *others = results.values()
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(bits(a), bits(b))


@over_dtypes
@over(cases("activation", attributes=False))
def test_the_plainest_instruction_set_agrees_too(case, dtype, force_isa):
    """Without FMA the bits may differ; the promised accuracy may not."""
    force_isa(_core.build_info()["isas"][0])
    test_activation_value(case, dtype)
    test_activation_derivatives(case, 1, dtype)


def test_forcing_an_unknown_instruction_set_is_refused(force_isa):
    with pytest.raises(ValueError, match="v99"):
        force_isa("v99")
    force_isa(None)
    assert _core.build_info()["isa"] == _core.build_info()["isas"][-1]
