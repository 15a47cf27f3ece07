"""Every update rule: the bits of NumPy, and independent witnesses of Adam and AdamW."""

import numpy as np
import pytest
import reference
from helpers import aligned, bits, over, over_dtypes
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

from fastbp import _core
from fastbp.testing import cases

RULES = cases("rule")


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


ADAMW = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6, "weight_decay": 0.05}


def adamw_by_the_engine(w, gradients, rate):
    w, states = w.copy(), np.zeros((2, w.size))
    for step, g in enumerate(gradients, start=1):
        _core.update("adamw", w, g, list(states), rate, step, ADAMW)
    return w


def test_adamw_over_a_thousand_steps_against_the_paper(rng):
    """R62: the decay is taken from the weight, not added to the gradient."""
    w, gradients = rng.standard_normal(50), rng.standard_normal((1000, 50))
    ours = adamw_by_the_engine(w, gradients, 0.003)
    expected = adamw_as_in_the_paper(w, gradients, 0.003, **ADAMW)
    # 1000 updates, each rounded a few times, of weights below 4.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1000 * 4 * np.finfo(float).eps)


def test_adamw_against_torch(rng):
    """R62, where torch is installed."""
    torch = pytest.importorskip("torch")
    w, gradients = rng.standard_normal(50), rng.standard_normal((1000, 50))
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.AdamW(
        [parameter],
        lr=0.003,
        betas=(ADAMW["beta_1"], ADAMW["beta_2"]),
        eps=ADAMW["epsilon"],
        weight_decay=ADAMW["weight_decay"],
    )
    for g in gradients:
        parameter.grad = torch.tensor(g)
        optimizer.step()
    ours = adamw_by_the_engine(w, gradients, 0.003)
    np.testing.assert_allclose(
        ours, parameter.detach().numpy(), rtol=0, atol=1000 * 4 * np.finfo(float).eps
    )
