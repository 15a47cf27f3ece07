"""The functional face: gradients, and products with Jacobians and Hessians."""

import numpy as np
import pytest
from expressions import EXPRESSIONS
from helpers import STEP, over
from scipy.optimize import check_grad, minimize

import fastbp
from fastbp import (
    Function,
    Tensor,
    grad,
    hessian_vector_product,
    jvp,
    no_grad,
    value_and_grad,
    vjp,
)

SMOOTH = [e for e in EXPRESSIONS if e.witness(*e.arguments()).size]


def randoms(arrays, seed):
    rng = np.random.default_rng([seed, 5])
    return tuple(np.asarray(rng.standard_normal(np.shape(a))) for a in arrays)


def inner(left, right):
    return sum(np.sum(a * b) for a, b in zip(left, right, strict=True))


def as_tuple(found):
    return found if isinstance(found, tuple) else (found,)


# ------------------------------------------------------------------------------ gradients of values


def test_grad_and_value_and_grad(rng):
    x, y = rng.standard_normal(3), rng.standard_normal(3)

    def f(x, y, *, scale=1.0):
        return (x * x * y).sum() * scale

    np.testing.assert_allclose(grad(f)(x, y), 2 * x * y, rtol=1e-15)
    np.testing.assert_allclose(grad(f, 1)(x, y, scale=3.0), 3 * x * x, rtol=1e-15)
    np.testing.assert_allclose(grad(f, argnums=-1)(x, y), x * x, rtol=1e-15)
    value, (dy, dx) = value_and_grad(f, (1, 0))(x, y)
    np.testing.assert_allclose(value, np.sum(x * x * y), rtol=1e-14)
    np.testing.assert_array_equal((dx, dy), (grad(f)(x, y), grad(f, 1)(x, y)))
    assert isinstance(value, np.float64) and type(dx) is np.ndarray
    assert grad(f).__name__ == "f"


def test_scipy_takes_values_and_gradients(rng):
    A = rng.standard_normal((5, 3))

    def f(x):
        return ((A @ x).tanh() ** 2).sum() + (x**4).mean()

    x = rng.standard_normal(3)
    assert check_grad(lambda x: f(Tensor(x)).item(), grad(f), x) < 1e-6
    found = minimize(
        value_and_grad(f),
        x,
        jac=True,
        method="trust-ncg",
        hessp=lambda x, v: hessian_vector_product(f, x, v),
    )
    assert found.success and np.abs(found.jac).max() < 1e-4


def test_gradients_of_other_tensors_are_left_alone():
    w = Tensor([2.0], requires_grad=True)
    (w * 3).backward()
    assert grad(lambda x: (w * x).sum())(np.array([1.0])) == [2]
    assert w.grad == [3]
    (w * 4).backward()
    assert w.grad == [4]


def test_nothing_else_is_differentiated(monkeypatch):
    """Gradients by what a function takes from elsewhere are not computed."""
    ran, through = [], fastbp.autodiff.Entry.gradients

    def noted(entry, saved, dy, wanted):
        ran.append((entry.name, wanted))
        return through(entry, saved, dy, wanted)

    monkeypatch.setattr(fastbp.autodiff.Entry, "gradients", noted)
    w = Tensor([2.0], requires_grad=True)
    h = w.tanh()
    grad(lambda x: (x * h * w).sum())(np.ones(1))
    assert ran == [("sum", [True]), ("multiply", [True, False]), ("multiply", [True, False])]


def test_grad_works_within_no_grad_and_within_a_record():
    with no_grad():
        assert grad(lambda x: x * x)(3.0) == 6
    x = Tensor([1.0], requires_grad=True)
    slope = grad(lambda x: (x * x).sum())(x.detach())
    (x * slope).backward()
    assert x.grad == [2]


@pytest.mark.parametrize("make", [grad, value_and_grad])
def test_what_grad_cannot_do_is_an_error(make):
    x = np.ones(3)
    for f, error, message in [
        (lambda x: x, ValueError, r"returned shape \(3,\), wanted one element; vjp"),
        (lambda x: 1.0, TypeError, "returned float, wanted a Tensor"),
        (lambda x: grad(lambda z: z.sum())(x.detach()), TypeError, "returned ndarray"),
        (lambda x: Tensor(1.0), RuntimeError, "does not depend on argument 0"),
        (lambda x: x.detach().sum(), RuntimeError, r"its path was cut by detach\(\)"),
        (lambda x: (x > 0).sum(), RuntimeError, "its path was cut by greater"),
        (lambda x: grad(lambda z: z.sum())(x), TypeError, "hessian_vector_product"),
    ]:
        with pytest.raises(error, match=message):
            make(f)(x)
    with pytest.raises(RuntimeError, match="argument 1"):
        make(lambda x, y: x.sum(), (0, 1))(x, x)
    with pytest.raises(ValueError, match="found 1 positional arguments and argnums 1"):
        make(lambda x: x, 1)(x)
    with pytest.raises(TypeError, match="requires a gradient, which would not be recorded"):
        make(lambda x: x.sum())(Tensor(x, requires_grad=True))
    with pytest.raises(TypeError, match="has dtype int64"):
        make(lambda x: x.sum())(np.arange(3))


# ---------------------------------------------------------------------------- products: R90 and R91


@over(SMOOTH, "expression")
def test_forward_mode_agrees_with_reverse_mode(expression):
    """R91: <u, J v> = <J' u, v> for random u and v, which forward and reverse mode compute."""
    arrays = tuple(expression.arguments())
    value, along = jvp(expression.on_tensors, arrays, randoms(arrays, 0))
    again, pullback = vjp(expression.on_tensors, *arrays)
    np.testing.assert_array_equal(value, again)
    for seed in range(3):
        v, u = randoms(arrays, seed), randoms([value], seed + 7)[0]
        along = jvp(expression.on_tensors, arrays, v)[1]
        back = as_tuple(pullback(u))
        size = inner(map(abs, back), map(abs, v)) + inner([abs(u)], [abs(along)])
        # The same sums of products, at most some hundreds, in another order.
        bound = 200 * np.finfo(float).eps * (1 + size)
        assert abs(inner([u], [along]) - inner(back, v)) <= bound


@over(SMOOTH, "expression")
def test_hessian_products_against_differences_of_gradients(expression):
    arrays = tuple(expression.arguments())
    weights = randoms([expression.witness(*arrays)], 1)[0]

    def f(*tensors):
        y = expression.on_tensors(*tensors)
        return (y * weights).sum() + (y * y).sum()  # bends also where y is linear

    slopes = grad(f, range(len(arrays)))
    v = randoms(arrays, 2)
    moved = [slopes(*(x + h * t for x, t in zip(arrays, v, strict=True))) for h in (STEP, -STEP)]
    products = as_tuple(hessian_vector_product(f, arrays, v))
    for product, above, below in zip(products, *moved, strict=True):
        expected = (above - below) / (2 * STEP)
        scale = 1 + np.abs(above).max() + np.abs(expected).max()
        np.testing.assert_allclose(product, expected, rtol=0, atol=1e-7 * scale)


def test_cotangents_of_the_same_result_are_left_as_they_are():
    def f(x):
        y = x * 2
        return y, y

    _, pullback = vjp(f, np.ones(2))
    one, other = np.ones(2), np.ones(2)
    for _ in range(2):
        assert pullback(one, other).tolist() == [4, 4]
    assert one.tolist() == other.tolist() == [1, 1]


def test_a_whole_hessian(rng):
    x, y, A = *rng.standard_normal((2, 3)), rng.standard_normal((3, 3))

    def f(x, y):
        return (x @ A @ y).sum() + (x**3).sum()

    for i, unit in enumerate(np.eye(3)):
        dx, dy = hessian_vector_product(f, (x, y), (unit, np.zeros(3)))
        np.testing.assert_allclose(dx, 6 * x * unit, atol=1e-14)
        np.testing.assert_allclose(dy, A[i], atol=1e-14)


def test_several_results(rng):
    x, y = rng.standard_normal((2, 3))

    def f(x, y):
        return x * y, (x * x).sum()

    (product, square), pullback = vjp(f, x, y)
    np.testing.assert_allclose(square, (x * x).sum(), rtol=1e-15)
    np.testing.assert_array_equal(product, x * y)
    dx, dy = pullback(np.ones(3), 2.0)
    np.testing.assert_allclose(dx, y + 4 * x, rtol=1e-15)
    np.testing.assert_array_equal(dy, x)
    _, (along, number) = jvp(f, (x, y), (np.ones(3), np.zeros(3)))
    np.testing.assert_array_equal(along, y)
    np.testing.assert_allclose(number, 2 * x.sum(), rtol=1e-14)
    _, (along, number) = jvp(lambda x, y: (x * 2, y), (x, y), (np.ones(3), np.zeros(3)))
    assert along.tolist() == [2, 2, 2] and not number.any()


def test_a_jacobian_by_rows_and_by_columns(rng):
    A, x = rng.standard_normal((4, 3)), rng.standard_normal(3)

    def f(x):
        return (A @ x).tanh()

    _, pullback = vjp(f, x)
    rows = np.stack([pullback(unit) for unit in np.eye(4)])
    columns = np.stack([jvp(f, x, unit)[1] for unit in np.eye(3)], axis=1)
    np.testing.assert_allclose(rows, columns, rtol=0, atol=1e-15)


def test_what_is_returned_is_the_callers():
    x, v = np.ones(3), np.ones(3)
    value, along = jvp(lambda x: x, x, v)
    again, pullback = vjp(lambda x: x * 1, x)
    for array in (value, along, again, pullback(v), grad(lambda x: x.sum())(x)):
        array += 1
    assert (x == 1).all() and (v == 1).all()


def test_forward_mode_records_nothing():
    w = Tensor([2.0], requires_grad=True)
    seen = []
    jvp(lambda x: seen.append(x * w) or seen[0], np.ones(1), np.ones(1))
    assert not seen[0].requires_grad


def test_no_grad_does_not_stop_tangents():
    """As in PyTorch: it is about the record."""

    def f(x):
        with no_grad():
            return x * x

    assert jvp(f, np.array(3.0), np.array(1.0))[1] == 6


def test_what_products_cannot_do_is_an_error():
    x = np.ones(3)
    for run, error, message in [
        (lambda: jvp(lambda x: x, (x,), (x, x)), ValueError, "found 1 primals and 2 tangents"),
        (lambda: jvp(lambda x: x, x, x[:2]), ValueError, r"tangent of shape \(2,\), wanted \(3,\)"),
        (lambda: jvp(lambda x: x.detach(), x, x), RuntimeError, r"cut by detach\(\)"),
        (lambda: jvp(lambda x: x > 0, x, x), RuntimeError, "cut by greater"),
        (lambda: jvp(lambda x: x.numpy(), x, x), TypeError, "detach"),
        (lambda: jvp(lambda x: x.argmax(), x, x), TypeError, "argmax has no gradient"),
        (lambda: jvp(lambda x: jvp(lambda y: y, x, x), x, x), TypeError, "requires a gradient"),
        (lambda: jvp(lambda _: jvp(lambda y: y, x, x), x, x), RuntimeError, "another forward mode"),
        (lambda: vjp(lambda x: x, x)[1](x, x), ValueError, "found 2 arrays to pull back, wanted 1"),
        (lambda: vjp(lambda x: x, x)[1](x[:2]), ValueError, r"cotangent of shape \(2,\)"),
        (lambda: vjp(lambda x: [x], x), TypeError, "returned list, wanted a Tensor"),
        (lambda: hessian_vector_product(lambda x: x, x, x), ValueError, "wanted one element"),
        (
            lambda: hessian_vector_product(lambda x: x.detach().sum(), x, x),
            RuntimeError,
            r"cut by detach\(\)",
        ),
    ]:
        with pytest.raises(error, match=message):
            run()


def test_a_row_without_a_tangent_is_named(monkeypatch):
    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            return x * x * x

        @staticmethod
        def backward(ctx, dy):
            return dy

    with pytest.raises(LookupError, match="Cube is a Function, which has no tangent"):
        jvp(Cube.apply, np.ones(2), np.ones(2))
    with pytest.raises(LookupError, match="Cube is a Function, which has no tangent"):
        hessian_vector_product(lambda x: Cube.apply(x).sum(), np.ones(2), np.ones(2))
