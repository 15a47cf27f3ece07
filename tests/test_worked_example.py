"""The worked example: two inputs, two sigmoid units, one linear output, half squared error.

All nine derivatives have closed forms, written out below as on paper (R7), and so have the
error terms (R8), the update (R9) and the order of the steps (R13).
"""

import math

import numpy as np
import pytest

from fastbp import _core, check_gradients

# Inputs x1, x2, target t; hidden unit j has weights w1j, w2j and bias bj; the output v1, v2 and c.
X1, X2, T = 0.35, -0.9, -0.5
W11, W12, W21, W22, B1, B2 = 0.1, 0.4, 0.8, -0.6, 0.05, -0.2
V1, V2, C = 0.3, 0.9, -0.1

PLAN = _core.Plan(
    2,
    [("linear", {"units": 2}), ("logistic", {}), ("linear", {"units": 1})],
    ("squared_error", {}),
    dtype=np.float64,
)
PARAMS = np.array([W11, W12, W21, W22, B1, B2, V1, V2, C])
X = np.array([[X1, X2]])
Y = np.array([[T]])

# A derivative here is a product of at most five rounded factors, and a factor is a sum of at most
# three rounded terms: 20 roundings of half an ulp, and the engine's exp beside the C library's.
RTOL = 16 * np.finfo(float).eps


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


H1 = sigmoid(W11 * X1 + W21 * X2 + B1)
H2 = sigmoid(W12 * X1 + W22 * X2 + B2)
OUTPUT = V1 * H1 + V2 * H2 + C
DELTA_O = OUTPUT - T
DELTA_1 = DELTA_O * V1 * H1 * (1 - H1)
DELTA_2 = DELTA_O * V2 * H2 * (1 - H2)

CLOSED_FORMS = {
    "w11": DELTA_1 * X1,
    "w12": DELTA_2 * X1,
    "w21": DELTA_1 * X2,
    "w22": DELTA_2 * X2,
    "b1": DELTA_1,
    "b2": DELTA_2,
    "v1": DELTA_O * H1,
    "v2": DELTA_O * H2,
    "c": DELTA_O,
}


def gradient():
    grad = np.empty(9)
    loss = PLAN.loss_gradient(PARAMS, X, Y, grad=grad)
    return loss, grad


def test_loss_is_half_the_squared_error():
    assert gradient()[0] == pytest.approx(0.5 * (OUTPUT - T) ** 2, rel=RTOL, abs=0)


@pytest.mark.parametrize("place", range(9), ids=list(CLOSED_FORMS))
def test_derivative_has_its_closed_form(place):
    expected = list(CLOSED_FORMS.values())[place]
    assert gradient()[1][place] == pytest.approx(expected, rel=RTOL, abs=0)


def test_error_terms():
    """R8: delta of a hidden unit is the next error times the weight times the slope."""
    hidden, output = PLAN.inspect(PARAMS, X, Y)
    np.testing.assert_allclose(hidden["a"], [[H1, H2]], rtol=RTOL)
    np.testing.assert_allclose(output["z"], [[OUTPUT]], rtol=RTOL)
    np.testing.assert_array_equal(output["a"], output["z"])
    np.testing.assert_allclose(output["delta"], [[DELTA_O]], rtol=RTOL)
    np.testing.assert_allclose(hidden["delta"], [[DELTA_1, DELTA_2]], rtol=RTOL)


def test_one_step_of_gradient_descent_is_the_hand_update():
    """R9: w - rate * g, bit for bit."""
    params, rate = PARAMS.copy(), 0.1
    training = _core.Training(PLAN, params, X, Y, rule="sgd", states=np.empty((0, 9)), batch_size=1)
    training.run([rate])
    np.testing.assert_array_equal(params, PARAMS - rate * gradient()[1])


def test_finite_differences_agree():
    report = check_gradients(PLAN, X, Y, params=PARAMS)
    assert report.ok, report
    assert sum(tensor.n_checked for tensor in report.tensors) == 9


def test_order_of_a_two_layer_relu_network():
    """R13: dy, then dh and dz1, as the chain rule wants them; dW2 and dW1 once their deltas stand.

    The guides interleave dW2 with the deltas; here the weights are a second phase, in which no
    gradient waits for another.
    """
    plan = _core.Plan(
        3,
        [("linear", {"units": 4}), ("relu", {}), ("linear", {"units": 2})],
        ("squared_error", {}),
        dtype=np.float64,
    )
    first, relu, second = range(3)
    assert [node["name"] for node in plan.nodes] == ["linear", "relu", "linear"]
    assert plan.order() == (
        ("forward", first),
        ("forward", relu),
        ("forward", second),
        ("loss", 0),  # and dy
        ("backward", second),  # dh
        ("backward", relu),  # dz1
        *[("backward_shared", first)] * 2,  # dW1 and db1
        *[("backward_shared", second)] * 2,  # dW2 and db2
    )
