"""Every loss: value, gradient, tangents, kinks, extremes, the link to predictions."""

import numpy as np
import reference
from helpers import bits, central_difference, over, over_dtypes

from fastbp import _core
from fastbp.testing import cases, loss_inputs

LOSSES = cases("loss")


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
    assert np.isfinite(expected).all() and np.isfinite(slope).all()
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
@over([case for case in LOSSES if case.row["link"] != "exp"])
def test_loss_far_out(case, dtype):
    """R51 to R53: logits of 1e4 give finite losses and gradients, also where p is 0 or 1."""
    big = np.array([1e4, -1e4, 0.0, 88.0, -88.0, 710.0, 40.0, -40.0], dtype=dtype)
    z = np.stack([np.roll(big, shift)[:3] for shift in range(8)])
    _, t = loss_inputs(case, 8, 3, dtype)
    value, gradient = _core.loss(case.name, z, t, case.attrs)
    d_value, d_gradient = _core.loss_tangent(case.name, z, t, np.ones_like(z), case.attrs)
    exact = z.astype(float), t if t.dtype == np.int32 else t.astype(float)
    f, first, _ = loss_of(case)
    expected, slope = f(*exact), first(*exact)
    assert np.isfinite(expected).all() and np.isfinite(slope).all()  # else any value is within
    limit = rounding_of_loss(dtype, *exact, expected, slope)
    assert np.all(np.abs(value - expected) <= limit)
    assert np.all(np.abs(gradient - slope) <= limit[:, None])
    assert np.isfinite(d_value).all() and np.isfinite(d_gradient).all()


@over_dtypes
def test_poisson_far_out(dtype):
    """The mean is exp(z): 0 far below, where the loss is finite, and truly infinite far above."""
    z, t = np.array([[-1e4], [-1e4], [1e4]], dtype), np.array([[0], [3], [3]], dtype)
    value, gradient = _core.loss("poisson", z, t)
    np.testing.assert_allclose(value, [0, 3 * np.log(3) + 3e4 - 3, np.inf], rtol=1e-6)
    np.testing.assert_array_equal(gradient, [[0], [-3], [np.inf]])


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
