"""Every update rule: the bits of NumPy, steps worked by hand, and independent witnesses."""

from math import log, sqrt

import numpy as np
import pytest
import reference
from helpers import aligned, bits, over, over_dtypes
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

from fastbp import _core
from fastbp.testing import cases, rows

RULES = cases("rule")
EPS = np.finfo(np.float64).eps


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
            ours = aligned(2 + n_states, length + offset, dtype)[:, offset:]
            ours[:2] = rng.standard_normal((2, length))
            ours[2:] = np.abs(rng.standard_normal((n_states, length)))
            theirs = ours.copy()
            for step in (1, 2, 1000):
                _core.update(case.name, ours[0], ours[1], list(ours[2:]), 0.01, step, case.attrs)
                reference.RULES[case.name].update(
                    theirs[0], theirs[1], list(theirs[2:]), 0.01, step, **case.attrs
                )
            np.testing.assert_array_equal(bits(ours), bits(theirs))


# From w = 1, for each rule: its attributes, the rate, and for each step g and the w after it.
BETAS = {"beta_1": 0.5, "beta_2": 0.75, "epsilon": 1.0}
# Of beta_2 = 0.75: 1 - 0.75^2 = 0.4375. Of the first gradients 2 and 1: m = 1 and v = 1, twice.
BY_HAND = {
    "sgd": ({}, 0.1, [(0.5, 0.95), (-1, 1.05)]),
    # v = -0.05, then 0.5 v + 0.1 = 0.075.
    "momentum": ({"momentum": 0.5}, 0.1, [(0.5, 0.95), (-1, 1.025)]),
    # The same v; each step adds 0.5 v - 0.1 g.
    "nesterov": ({"momentum": 0.5}, 0.1, [(0.5, 0.925), (-1, 0.925 + 0.0375 + 0.1)]),
    # Sums of squares 9 and 25.
    "adagrad": ({"epsilon": 1.0}, 0.1, [(3, 1 - 0.3 / 4), (4, 0.925 - 0.4 / 6)]),
    # v = 0.25 * 4 = 1, then 0.75 + 0.25 = 1.
    "rmsprop": ({"rho": 0.75, "epsilon": 1.0}, 0.1, [(2, 1 - 0.2 / 2), (-1, 0.9 + 0.1 / 2)]),
    # v = 8, a step of 1 / 3 * 4, u = 8 / 9; then v = 4.5.
    "adadelta": (
        {"rho": 0.5, "epsilon": 1.0},
        0.75,
        [(4, 1 - 0.75 * 4 / 3), (-1, 0.75 * sqrt(17 / 9) / sqrt(5.5))],
    ),
    # Both corrections of the first step are 0.5.
    "adam": (BETAS, 0.1, [(2, 1 - 0.1 / 2), (1, 0.95 - 0.1 * sqrt(0.4375) / 0.75 / 2)]),
    # w loses 0.05 of itself first.
    "adamw": (
        {**BETAS, "weight_decay": 0.5},
        0.1,
        [
            (2, 0.95 - 0.2 / 3),
            (1, 0.95 * (0.95 - 0.2 / 3) - 0.1 / 0.75 / (1 / sqrt(0.4375) + 1)),
        ],
    ),
    # The second gradient is 0: m = 0.5, and v = 0.75, but the 1 of before counts.
    "amsgrad": (
        BETAS,
        0.1,
        [(2, 1 - 0.2 / 3), (0, 1 - 0.2 / 3 - 0.1 / 0.75 * 0.5 / (1 / sqrt(0.4375) + 1))],
    ),
    # 0.96^decay is 0.5, so the momenta are 0.5 * (3/4, 7/8, 15/16) = (0.375, 0.4375, 0.46875); the
    # products of the first two and three are 0.1640625 and 0.076904296875.
    "nadam": (
        {**BETAS, "momentum_decay": log(0.5) / log(0.96)},
        0.1,
        [
            (2, 1 - 0.1 * (2 + 0.4375 / 0.8359375) / 3),
            (
                1,
                1
                - 0.1 * (2 + 0.4375 / 0.8359375) / 3
                - 0.1 * (0.5625 / 0.8359375 + 0.46875 / 0.923095703125) / (1 / sqrt(0.4375) + 1),
            ),
        ],
    ),
    # The tensor is this one number: the step is the rate times |w|, along the sign of d, which is
    # 2 / 3 + 0.5. Then m = v = 1, w = 0.9 and d is positive too. The third gradient turns it:
    # m = -1.5, v = 4.75, 1 - 0.75^3 = 0.578125 and d = -0.443 + 0.405.
    "lamb": (
        {**BETAS, "weight_decay": 0.5},
        0.1,
        [(2, 1 - 0.1), (1, 0.9 - 0.09), (-4, 0.81 + 0.081)],
    ),
    # c = 1, m = 0.5; c = 0.25 - 0.2, though g points the other way, m = 0.275; c = 0.1375 - 0.5.
    "lion": (
        {"beta_1": 0.5, "beta_2": 0.75, "weight_decay": 0.5},
        0.1,
        [(2, 0.95 - 0.1), (-0.4, 0.95 * 0.85 - 0.1), (-1, 0.95 * 0.7075 + 0.1)],
    ),
}


@pytest.mark.parametrize("rule", [row["name"] for row in rows("rule")])
def test_steps_worked_by_hand(rule):
    """The first steps of every rule of the table with plain numbers."""
    attrs, rate, steps = BY_HAND[rule]
    w, states = np.ones(1), np.zeros((reference.RULES[rule].n_states, 1))
    for step, (g, expected) in enumerate(steps, start=1):
        _core.update(rule, w, np.array([g], np.float64), list(states), rate, step, attrs)
        # Some ten roundings of numbers of at most 1.
        np.testing.assert_allclose(w, expected, rtol=0, atol=10 * EPS)


@over_dtypes
@over(cases("rule", attributes=False))
def test_a_gradient_of_nan_is_not_hidden(case, dtype):
    """A weight that it reaches becomes NaN, which training finds and reports."""
    states = np.zeros((case.row["n_states"], 3), dtype)
    w = np.ones(3, dtype)
    _core.update(case.name, w, np.array([1, np.nan, 0], dtype), list(states), 0.1, 1, case.attrs)
    np.testing.assert_array_equal(np.isnan(w), [False, True, False])


@pytest.mark.parametrize("beta_1", [0.0, 0.9, 0.99, 1 - 1e-6])
@pytest.mark.parametrize("momentum_decay", [0.0, 1e-6, 0.004, 0.38, 5.0, 1e4])
def test_the_product_of_momenta_ends_early_without_a_trace(beta_1, momentum_decay):
    """The reference multiplies them all; the engine stops where no bit of the step would change.

    The decay 0.38 takes longest: the momenta near beta_1 about as slowly as their product falls.
    """
    attrs = {"beta_1": beta_1, "beta_2": 0.9, "epsilon": 1e-8, "momentum_decay": momentum_decay}
    for step in (1, 2, 5, 30, 47, 54, 60, 100, 1000, 2300, 2400, 3000):
        ours, theirs = np.array([[1.0], [0.5], [0.25]]), np.array([[1.0], [0.5], [0.25]])
        _core.update("nadam", ours[0], np.array([0.3]), list(ours[1:]), 0.1, step, attrs)
        reference.nadam(theirs[0], np.array([0.3]), list(theirs[1:]), 0.1, step, **attrs)
        np.testing.assert_array_equal(bits(ours), bits(theirs))


def test_adam_over_a_thousand_steps_against_scikit_learn(rng):
    """R61: the same sequence of gradients gives scikit-learn's very bits in float64."""
    ours = rng.standard_normal(50)
    theirs = [ours.copy()]
    optimizer = AdamOptimizer(theirs, learning_rate_init=0.003)
    states = np.zeros((2, 50))
    for step in range(1, 1001):
        gradient = rng.standard_normal(50) + 0.1 * ours
        _core.update("adam", ours, gradient, list(states), 0.003, step)
        optimizer.update_params(theirs, [gradient])
        np.testing.assert_array_equal(ours, theirs[0])


def adamw_as_in_the_paper(w, gradients, rate, beta_1, beta_2, epsilon, weight_decay):
    """Algorithm 2 of Loshchilov and Hutter (2019), with bias-corrected moments by name."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)
        w = w - rate * (m_hat / (np.sqrt(v_hat) + epsilon) + weight_decay * w)
    return w


def by_the_engine(rule, attrs, w, gradients, rate):
    w, states = w.copy(), np.zeros((reference.RULES[rule].n_states, w.size))
    for step, g in enumerate(gradients, start=1):
        _core.update(rule, w, g, list(states), rate, step, attrs)
    return w


def assert_agree_after_a_thousand_steps(ours, expected):
    """Two orders of the same arithmetic, in float64, on gradients that do not depend on w.

    So errors only add up. In each step of either form, w below 4 is rounded once or twice, by at
    most eps each. The update, below 0.005 in the mean, has the relative error of running means that
    remember 100 steps at most (or of the sum of all squares, whose updates are smaller): below 200
    roundings of eps / 2, which adds half an eps.
    """
    assert np.abs(expected).max() < 4
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1000 * 4 * EPS)


FIRST_MOMENTS = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6}
ADAMW = {**FIRST_MOMENTS, "weight_decay": 0.05}


def test_adamw_over_a_thousand_steps_against_the_paper(rng):
    """R62: the decay is taken from the weight, not added to the gradient."""
    w, gradients = rng.standard_normal(50), rng.standard_normal((1000, 50))
    ours = by_the_engine("adamw", ADAMW, w, gradients, 0.003)
    expected = adamw_as_in_the_paper(w, gradients, 0.003, **ADAMW)
    assert_agree_after_a_thousand_steps(ours, expected)


def lamb_as_in_the_paper(w, gradients, rate, beta_1, beta_2, epsilon, weight_decay):
    """Algorithm 2 of You et al. (2020), with its moments by name."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        r = m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        update = r + weight_decay * w
        w = w - rate * np.linalg.norm(w) / np.linalg.norm(update) * update
    return w


def test_lamb_over_a_thousand_steps_against_the_paper(rng):
    """Of one tensor of 50. The norm of w has a part in every step, so that errors grow with it.

    A relative error of w in one step is in the next one's step too, which is 0.003 of w: over 1000
    steps it grows by at most e^3 = 20. Each step adds what the other rules' do, and the ratio's
    error, 60 roundings of a step of 0.003: less than another eps.
    """
    w, gradients = rng.standard_normal(50), rng.standard_normal((1000, 50))
    ours = by_the_engine("lamb", ADAMW, w, gradients, 0.003)
    expected = lamb_as_in_the_paper(w, gradients, 0.003, **ADAMW)
    assert np.abs(expected).max() < 4 and np.abs(expected - w).max() > 0.1
    np.testing.assert_allclose(ours, expected, rtol=0, atol=20 * 1000 * 5 * EPS)


def test_lamb_without_a_norm_takes_the_direction_itself():
    """Weights of 0 move as Adam's would; a direction of 0 moves nothing."""
    for w, g, expected in ((0.0, 2.0, -0.2 / 3), (1.0, 0.0, 1.0)):
        ours, states = np.full(3, w), np.zeros((2, 3))
        attrs = {**BETAS, "weight_decay": 0.0}
        _core.update("lamb", ours, np.full(3, g), list(states), 0.1, 1, attrs)
        np.testing.assert_allclose(ours, expected, rtol=4 * EPS, atol=0)


# Of each rule: the class in torch.optim, our attributes, and torch's arguments.
MOMENTS = {"betas": (0.8, 0.99), "eps": 1e-6}
TORCH = {
    "sgd": ("SGD", {}, {}),
    "momentum": ("SGD", {"momentum": 0.8}, {"momentum": 0.8}),
    "nesterov": ("SGD", {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}),
    "adagrad": ("Adagrad", {"epsilon": 1e-9}, {"eps": 1e-9}),
    "rmsprop": ("RMSprop", {"rho": 0.95, "epsilon": 1e-6}, {"alpha": 0.95, "eps": 1e-6}),
    "adadelta": ("Adadelta", {"rho": 0.95, "epsilon": 1e-5}, {"rho": 0.95, "eps": 1e-5}),
    "adamw": ("AdamW", ADAMW, {**MOMENTS, "weight_decay": 0.05}),
    "amsgrad": ("Adam", FIRST_MOMENTS, {**MOMENTS, "amsgrad": True}),
    "nadam": (
        "NAdam",
        {**FIRST_MOMENTS, "momentum_decay": 0.01},
        {**MOMENTS, "momentum_decay": 0.01},
    ),
}


def test_every_rule_has_a_peer_or_a_reason():
    """The epsilon of adam is scikit-learn's, as its test shows; PyTorch lacks Lion and LAMB."""
    assert set(TORCH) | {"adam", "lamb", "lion"} == {row["name"] for row in rows("rule")}


@pytest.fixture
def torch():
    """PyTorch in float64: in float32, its NAdam would keep the product of the momenta in that."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.parametrize("rule", TORCH)
def test_over_a_thousand_steps_against_torch(rule, rng, torch):
    """R60 and R62, where torch is installed."""
    name, attrs, arguments = TORCH[rule]
    w, gradients = rng.standard_normal(50), rng.standard_normal((1000, 50))
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = getattr(torch.optim, name)([parameter], lr=0.003, **arguments)
    for g in gradients:
        parameter.grad = torch.tensor(g)
        optimizer.step()
    ours = by_the_engine(rule, attrs, w, gradients, 0.003)
    assert_agree_after_a_thousand_steps(ours, parameter.detach().numpy())
