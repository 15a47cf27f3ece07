"""Gradients of tensors: of every expression, of rows, and of random graphs."""

import numpy as np
import pytest
import tape
from expressions import EXPRESSIONS
from helpers import STEP, bits, over
from scipy.optimize import approx_fprime

from fastbp import Tensor, _core, ops
from fastbp.testing import activation_inputs, cases, loss_inputs


def leaf(data):
    return Tensor(np.asarray(data, float), requires_grad=True)


def leaves(*arrays):
    return [Tensor(array, requires_grad=True) for array in arrays]


# A central difference is off by about 4e-11 for a function of size and curvature 1 (helpers.STEP);
# these are sums of some dozens of terms of size up to 10, whose third derivatives are up to 100
# times as large.
FINITE = 1e-7


def differences(f, arrays):
    """The gradients of a number by arrays, by SciPy's differences forward and backward."""
    sizes = np.cumsum([array.size for array in arrays])[:-1]

    def flat(vector):
        parts = np.split(vector, sizes)
        return f(*(p.reshape(a.shape) for p, a in zip(parts, arrays, strict=True)))

    point = np.concatenate([np.ravel(array) for array in arrays])
    found = sum(approx_fprime(point, flat, step) for step in (STEP, -STEP)) / 2
    parts = np.split(found, sizes)
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


@over([e for e in EXPRESSIONS if e.witness(*e.arguments()).size], "expression")
def test_gradients_against_finite_differences_of_numpy(expression):
    arrays = expression.arguments()
    weights = np.random.default_rng(1).standard_normal(np.shape(expression.witness(*arrays)))
    tensors = leaves(*arrays)
    (expression.on_tensors(*tensors) * weights).sum().backward()
    expected = differences(lambda *x: np.sum(expression.witness(*x) * weights), arrays)
    for tensor, slope in zip(tensors, expected, strict=True):
        scale = 1 + np.abs(slope).max()
        np.testing.assert_allclose(tensor.grad, slope, rtol=0, atol=FINITE * scale)


def test_an_empty_result_has_a_gradient_of_zeros():
    x = leaf(np.ones((3, 4)))
    (x[:0] * 2).sum().backward()
    assert x.grad.shape == (3, 4) and not x.grad.any()


@over(cases("activation", attributes=False) + cases("function", attributes=False))
def test_functions_have_the_derivatives_of_their_rows(case):
    (x,) = leaves(activation_inputs(case))
    function = getattr(ops, case.name)
    y = function(x, **case.attrs)
    y.backward(np.full(x.shape, 2.0))
    with np.errstate(all="ignore"):
        expected = 2 * _core.activation(case.name, x.data, case.attrs, order=1)
    np.testing.assert_array_equal(x.grad, expected)


@over(cases("loss", attributes=False))
def test_losses_give_a_value_for_each_row(case):
    z, target = loss_inputs(case)
    (x,) = leaves(z)
    value = getattr(ops, case.name)(x, target, **case.attrs)
    expected, slope = _core.loss(case.name, z, target, case.attrs)
    np.testing.assert_array_equal(value.data, expected)
    value.sum().backward()
    np.testing.assert_array_equal(x.grad, slope)


def test_the_example_of_the_guides():
    """R92: w.x + b is 0, the logistic 0.5 and the outer derivative 2 (0.5 - 1) 0.25."""
    x, w, b = leaf([1, 2]), leaf([0.5, -0.3]), leaf(0.1)
    (((w @ x + b).logistic() - 1) ** 2).backward()
    # Each is a handful of operations on numbers near 1.
    near = {"rtol": 0, "atol": 8 * np.finfo(float).eps}
    np.testing.assert_allclose(w.grad, [-0.25, -0.5], **near)
    np.testing.assert_allclose(b.grad, -0.25, **near)
    np.testing.assert_allclose(x.grad, [-0.125, 0.075], **near)


# ------------------------------------------------------------------------------------ random graphs


STEPS = (
    lambda tanh, w, x, y: x + y,
    lambda tanh, w, x, y: x - y,
    lambda tanh, w, x, y: tanh(x) * tanh(y),
    lambda tanh, w, x, y: tanh(x @ w) + x,
    lambda tanh, w, x, y: tanh(x) * 0.7,
    lambda tanh, w, x, y: tanh(x + x) * y,
)


def random_program(seed):
    """A function of three matrices and a square one, with shared nodes and residual paths.

    It uses operators, tanh and sum alone, which arrays, tensors and the tape all have.
    """
    rng = np.random.default_rng([seed, 3])
    steps = [
        (rng.integers(len(STEPS)), *rng.integers(0, 3 + i, 2)) for i in range(rng.integers(5, 25))
    ]

    def run(tanh, w, *values):
        values = list(values)
        for kind, i, j in steps:
            values.append(STEPS[kind](tanh, w, values[i], values[j]))
        last = values[-1] + tanh(values[0] + values[1] - values[2]) + values[len(values) // 2] @ w
        return (tanh(last * 0.1) * last).sum()

    return run


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_against_a_tape_and_finite_differences(seed):
    program, rng = random_program(seed), np.random.default_rng(seed)
    arrays = [0.5 * rng.standard_normal((4, 4)), *(rng.standard_normal((3, 4)) for _ in range(3))]
    tensors = leaves(*arrays)
    result = program(lambda x: x.tanh(), *tensors)
    result.backward()
    found = [tensor.grad for tensor in tensors]
    values = [tape.Value(array) for array in arrays]
    taped = program(lambda x: x.tanh(), *values)
    slopes = differences(lambda *x: program(np.tanh, *x), arrays)
    size = max(np.abs(slope).max() for slope in slopes) + abs(float(taped.array))
    for ours, other, slope in zip(found, tape.gradients(taped, values), slopes, strict=True):
        # The same formulas; up to 100 sums, in another order.
        np.testing.assert_allclose(ours, other, rtol=0, atol=100 * np.finfo(float).eps * size)
        np.testing.assert_allclose(ours, slope, rtol=0, atol=FINITE * size)


def test_the_same_program_gives_the_same_bits():
    program, rng = random_program(7), np.random.default_rng(0)
    arrays = [rng.standard_normal((4, 4)), *(rng.standard_normal((3, 4)) for _ in range(3))]
    found = []
    for _ in range(2):
        tensors = leaves(*arrays)
        program(lambda x: x.tanh(), *tensors).backward()
        found.append(np.concatenate([bits(tensor.grad).ravel() for tensor in tensors]))
    np.testing.assert_array_equal(*found)
