"""The gradient check itself: planted mistakes are caught and named, kinks and tiny gradients told.

How it is called is tested in test_gradcheck_interface.py; that the engine's gradients pass it, in
test_gradients.py.
"""

import numpy as np
import pytest
from helpers import check

from fastbp import gradcheck
from fastbp.testing import network

# Layer 1 is square, so that its transposition has the right shape, and layer 0 is not.
SIZES = (4, 5, 5, 3)


# --------------------------------------------------------------------------------- planted mistakes


class Planted:
    """A plan with a mistake in its gradient: spoil() changes that of one tensor in place."""

    def __init__(self, plan, tensor, spoil):
        self._plan, self._tensor, self._spoil = plan, tensor, spoil

    def __getattr__(self, name):
        return getattr(self._plan, name)

    def loss_gradient(self, params, X, y, *, grad=None, **options):
        loss = self._plan.loss_gradient(params, X, y, grad=grad, **options)
        if grad is not None:
            (place,) = (t for t in self._plan.tensors if t["name"] == self._tensor)
            start, size = place["offset"], int(np.prod(place["shape"]))
            self._spoil(grad[start : start + size].reshape(place["shape"]))
        return loss


class WithoutPenalty:
    """A plan whose gradient forgets the penalty that its loss has."""

    def __init__(self, plan):
        self._plan = plan

    def __getattr__(self, name):
        return getattr(self._plan, name)

    def loss_gradient(self, params, X, y, *, grad=None, alpha=0.0, **options):
        if grad is not None:
            self._plan.loss_gradient(params, X, y, grad=grad, alpha=0.0, **options)
        return self._plan.loss_gradient(params, X, y, alpha=alpha, **options)


class WithoutWeights(WithoutPenalty):
    """A plan whose gradient forgets the sample weights."""

    def loss_gradient(self, params, X, y, *, grad=None, sample_weight=None, **options):
        if grad is not None:
            self._plan.loss_gradient(params, X, y, grad=grad, **options)
        return self._plan.loss_gradient(params, X, y, sample_weight=sample_weight, **options)


def flip_sign(gradient):
    gradient *= -1


def double(gradient):
    gradient *= 2


def transpose(gradient):
    gradient[:] = gradient.T.copy().reshape(gradient.shape)


def forget(gradient):
    gradient[:] = 0


def not_a_number(gradient):
    gradient.flat[1] = np.nan


def slightly_off(gradient):
    gradient.flat[np.argmax(np.abs(gradient))] *= 1 + 1e-5


def failed(report):
    return [check.name for check in report.failures]


def test_a_sound_plan_passes():
    report = check(network(SIZES), alpha=0.3)
    assert report.ok
    assert failed(report) == []
    assert [tensor.n_checked for tensor in report.tensors] == [20, 5, 25, 5, 15, 3]
    assert report.n_params == 73 and report.directions is None and report.undecided == 0
    # eps^(2/3) = 4e-11 of a loss near 1, over gradients of at least 1e-2.
    assert report.worst.error < 4e-9


MISTAKES = [
    (tensor, spoil)
    for tensor in ("layer0.weight", "layer1.weight", "layer1.bias", "layer2.bias")
    for spoil in (flip_sign, double, transpose, forget, not_a_number, slightly_off)
    if not (spoil is transpose and tensor.endswith("bias"))  # a vector is its own transpose
]


@pytest.mark.parametrize("activation", ["tanh", "relu", "logistic"])
@pytest.mark.parametrize(("tensor", "spoil"), MISTAKES)
def test_a_planted_mistake_is_caught_and_named(tensor, spoil, activation):
    net = network(SIZES, (activation, {}))
    report = check(net, Planted(net.plan, tensor, spoil))
    assert not report.ok
    assert failed(report) == [tensor]
    assert report.worst.name == tensor
    assert f"in {tensor}" in str(report).splitlines()[-1]


def test_the_worst_element_is_the_spoilt_one():
    net = network(SIZES)

    def spoil(gradient):
        gradient[2, 3] += 0.5

    report = check(net, Planted(net.plan, "layer0.weight", spoil))
    worst = report.worst
    assert (worst.name, worst.shape, worst.index) == ("layer0.weight", (4, 5), (2, 3))
    assert worst.analytic - worst.numeric == pytest.approx(0.5, abs=1e-8)
    grad = np.empty(net.plan.n_params)
    net.plan.loss_gradient(net.params, net.X, net.y, grad=grad)
    grad[2 * 5 + 3] += 0.5
    largest = max(np.abs(grad[:20]).max(), abs(worst.numeric))
    assert worst.error == pytest.approx(0.5 / largest, rel=1e-6)


def test_a_missing_penalty_is_caught():
    net = network(SIZES)
    report = check(net, WithoutPenalty(net.plan), alpha=0.3)
    assert failed(report) == ["layer0.weight", "layer1.weight", "layer2.weight"]


def test_forgotten_sample_weights_are_caught(rng):
    net = network(SIZES)
    weights = rng.uniform(0.1, 2.0, len(net.X))
    assert check(net, sample_weight=weights).ok
    report = check(net, WithoutWeights(net.plan), sample_weight=weights)
    assert failed(report) == [tensor["name"] for tensor in net.plan.tensors]


@pytest.mark.parametrize("spoil", [flip_sign, double, forget, slightly_off])
def test_a_planted_mistake_is_caught_in_a_sample_of_elements(spoil):
    """Above 2,000 parameters; a single wrong element is the largest one, which is in the sample."""
    net = network((30, 60, 8))
    report = check(net)
    assert report.ok and report.directions is not None
    assert sum(t.n_checked for t in report.tensors) < report.n_params == 2348
    assert report.directions.n_checked == 10
    assert "sample" in str(report).splitlines()[0] and "10 directions" in str(report)
    report = check(net, Planted(net.plan, "layer0.weight", spoil))
    assert not report.ok
    assert "layer0.weight" in failed(report)
    assert set(failed(report)) <= {"layer0.weight", "10 directions"}


def test_directions_see_what_the_sample_misses():
    net = network((30, 60, 8))
    seen = check(net)

    def spoil(gradient):
        gradient[:, 5:50] += 1e-3  # below the largest element, and mostly outside the sample

    report = check(net, Planted(net.plan, "layer0.weight", spoil))
    assert report.directions.error > seen.directions.error
    assert "10 directions" in failed(report)


def test_the_sample_is_a_function_of_the_seed():
    net = network((30, 60, 8))
    assert check(net) == check(net)
    assert check(net).directions != check(net, random_state=1).directions


# --------------------------------------------------------------------------------- kinks, vanishing


def at_a_kink():
    """Zero inputs and biases: every relu of the first layer is exactly at its kink."""
    net = network((3, 4, 2), ("relu", {}), n_samples=6)
    net.X[:] = 0
    net.params[12:16] = 0
    return net


def test_an_element_at_a_kink_is_undecided():
    net = at_a_kink()
    report = check(net)
    by_name = {tensor.name: tensor for tensor in report.tensors}
    assert by_name["layer0.bias"].undecided == 4
    assert not report.ok and report.undecided > 0.01
    assert np.isnan(by_name["layer0.bias"].error) and by_name["layer0.bias"].index is None
    assert "NOT OK" in str(report)
    # The weights see zeros only: derivatives and differences are both exactly zero.
    assert by_name["layer0.weight"].error == 0 and by_name["layer0.weight"].undecided == 0


def test_the_slope_at_the_kink_is_the_convention_not_the_mean():
    """R40: exactly nothing flows through a relu at 0, though differences would say a half."""
    net = at_a_kink()
    grad = np.full(net.plan.n_params, np.nan)
    net.plan.loss_gradient(net.params, net.X, net.y, grad=grad)
    np.testing.assert_array_equal(grad[:16], 0)


def test_one_unit_at_a_kink_among_many_is_told_but_passes():
    """Fewer than 1 % undecided, in tensors whose other elements are settled."""
    net = network((9, 12, 8), ("relu", {}), n_samples=6)
    net.params[0 : 9 * 12 : 12] = 0  # weights of the first unit
    net.params[9 * 12] = 0  # and its bias
    net.X[:, 1:] = 0  # so that only two derivatives meet the kink
    report = check(net)
    undecided = {t.name: t.undecided for t in report.tensors if t.undecided}
    assert undecided == {"layer0.weight": 1, "layer0.bias": 1}
    assert report.ok and 0 < report.undecided < 0.01


def test_a_kink_near_the_point_is_got_past_by_a_shorter_step():
    """A relu 1e-6 from its kink: inside the first step, outside a shorter one."""
    net = network((3, 4, 2), ("relu", {}), n_samples=6)
    net.X[:] = 0
    net.params[12:16] = [1e-6, -1e-6, 0.5, -0.5]
    report = check(net)
    assert report.ok and report.undecided == 0, report


def test_a_mistake_is_not_excused_by_kinks_elsewhere():
    net = network((9, 12, 8), ("relu", {}), n_samples=6)
    net.params[0 : 9 * 12 : 12] = 0
    net.params[9 * 12] = 0
    net.X[:, 1:] = 0
    report = check(net, Planted(net.plan, "layer0.weight", double))
    assert failed(report) == ["layer0.weight"]


def vanishing():
    """Twenty sigmoid layers: at these weights the first gradient is about 1e-14."""
    return network((4, *[6] * 20, 3), ("logistic", {}))


def test_a_vanished_gradient_is_checked_on_a_rescaled_problem():
    net = vanishing()
    grad = np.empty(net.plan.n_params)
    net.plan.loss_gradient(net.params, net.X, net.y, grad=grad)
    assert np.abs(grad[:24]).max() < gradcheck.VANISHED
    report = check(net)
    assert report.ok, report
    assert report.tensors[0].rescaled and not report.tensors[-1].rescaled
    assert report.undecided == 0
    assert "rescaled" in str(report).splitlines()[1]


@pytest.mark.parametrize("spoil", [flip_sign, double, transpose, forget])
def test_a_mistake_in_a_vanished_gradient_is_caught(spoil):
    net = vanishing()
    report = check(net, Planted(net.plan, "layer2.weight", spoil))
    assert not report.ok
    assert failed(report) == ["layer2.weight"]


def test_a_dead_layer_is_brought_to_life():
    net = network((3, 4, 2), ("relu", {}))
    net.params[12:16] = -100
    assert check(net).ok
    assert check(net).tensors[0].rescaled
    report = check(net, Planted(net.plan, "layer0.weight", double))
    assert failed(report) == ["layer0.weight"]


def test_a_gradient_that_is_zero_everywhere_is_zero_on_both_sides():
    net = network((3, 4, 2))
    net.X[:] = 0
    report = check(net)
    assert report.ok and report.undecided == 0
    assert report.tensors[0].error == report.tensors[0].analytic == report.tensors[0].numeric == 0


def test_large_and_small_inputs_pass():
    """The first step is of no use for either; other steps are tried."""
    for size in (1e-8, 1e-4, 1e3):
        net = network(SIZES)
        net.X[:] *= size
        net.params[:20] /= size
        assert check(net).ok, size
