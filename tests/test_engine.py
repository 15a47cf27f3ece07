"""Training: what a step does, to the bit, how it goes on, and what ends it.

Gradients are right by test_gradients.py and rules by test_rules.py; here it is tested that training
applies them as the textbook says.
"""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import reference
from helpers import Run, by_hand, over, over_dtypes, over_inputs, over_rules

from fastbp import NonFiniteError, _core
from fastbp.testing import cases, network


@over_dtypes
@over_inputs
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in-order"])
@over_rules
def test_training_is_the_hand_update_bit_for_bit(rule, shuffle, sparse, dtype):
    """R9, R60 and the whole loop of R10: gather, forward, backward, penalty, update, next batch.

    23 samples in batches of 5: the last is a batch of 3.
    """
    net = network((6, 9, 4), dtype=dtype, sparse=sparse, n_samples=23)
    weights = np.random.default_rng(1).uniform(0.5, 2, 23).astype(dtype)
    options = {"batch_size": 5, "shuffle": shuffle, "seed": 77, "alpha": 0.1}
    rates = [0.1, 0.05, 0.01]
    for sample_weight in (None, weights):
        run = Run(net, rule.name, sample_weight=sample_weight, **options)
        step_losses = np.empty(15)
        result = run.training.run(rates, first_epoch=0, step=0, step_losses=step_losses)
        params, states, losses, each, _ = by_hand(
            net, rule.name, {}, rates, weights=sample_weight, **options
        )
        np.testing.assert_array_equal(run.params, params)
        np.testing.assert_array_equal(run.states, states)
        assert (result["epochs"], result["step"], result["interrupted"]) == (3, 15, False)
        # The losses are sums in double of the samples' losses, here and there in another order.
        rtol = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(step_losses, each, rtol=rtol)
        np.testing.assert_allclose(result["losses"], losses, rtol=rtol)


@over_dtypes
def test_training_on_blas_is_the_hand_update(dtype, leave_more_to_blas):
    """Layers that run on BLAS: its sums may depend on the batch's place, so not to the bit."""
    net = network((1030, 1025, 3), dtype=dtype, n_samples=40)
    assert net.plan.uses_blas
    options = {"batch_size": 40, "shuffle": True, "seed": 0, "alpha": 0.1}
    run = Run(net, "sgd", **options)
    run.training.run([0.01, 0.01])
    params, *_ = by_hand(net, "sgd", {}, [0.01, 0.01], weights=None, **options)
    # Two steps of 0.01, whose gradients have errors of some eps of their size, at most 1.
    np.testing.assert_allclose(run.params, params, rtol=0, atol=20 * np.finfo(dtype).eps)


@over_rules
def test_attributes_of_a_rule_reach_the_step(rule):
    net = network(n_samples=10)
    options = {"batch_size": 4, "shuffle": True, "seed": 3, "alpha": 0.0}
    for case in cases("rule"):
        if case.name == rule.name:
            run = Run(net, rule.name, case.attrs, **options)
            run.training.run([0.01] * 3)
            params, *_ = by_hand(net, rule.name, case.attrs, [0.01] * 3, weights=None, **options)
            np.testing.assert_array_equal(run.params, params)


def test_a_batch_without_weight_is_passed_over():
    """Nothing can be learnt from it: no update, no step counted for Adam, a loss of zero."""
    net = network(n_samples=15)
    weights = np.repeat([1.0, 0.0, 2.0], 5)
    run = Run(net, "adam", sample_weight=weights, shuffle=False)
    step_losses = np.empty(3)
    result = run(1, step_losses=step_losses)
    assert result["step"] == 2 and step_losses[1] == 0
    keep = weights > 0
    few = replace(net, X=net.X[keep], y=net.y[keep])
    alone = Run(few, "adam", sample_weight=weights[keep], shuffle=False)
    alone(1)
    run.same_as(alone)


def least(loss, n_outputs):
    """What a loss cannot fall below: the entropy of smoothed targets, else 0."""
    smoothing = loss.attrs.get("smoothing", 0.0)
    if smoothing == 0:
        return 0.0
    of_softmax = loss.row["target"] == "class"
    n_shares = n_outputs if of_softmax else 2
    shares = np.full(n_shares, smoothing / n_shares)
    shares[0] += 1 - smoothing
    return -np.sum(shares * np.log(shares)) * (1 if of_softmax else n_outputs)


@over(cases("loss"), "loss")
def test_training_lowers_every_loss(loss):
    net = network((4, 16, 3), loss=loss.spec, n_samples=30)
    losses = np.array(Run(net, "adam", batch_size=10)(60)["losses"]) - least(loss, 3)
    assert np.isfinite(losses).all()
    assert 0 < losses[-1] < 0.9 * losses[0]


@over_rules
def test_continuation_is_exact(rule):
    """3 epochs and then 3 more are 6, with the same or with a new Training."""
    net = network(n_samples=23)
    whole, parts = Run(net, rule.name, seed=5), Run(net, rule.name, seed=5)
    losses = whole(6)["losses"]
    again = [*parts(3)["losses"], *parts(3)["losses"]]
    np.testing.assert_array_equal(losses, again)
    parts.same_as(whole)
    third = Run(net, rule.name, seed=5)
    third(3)
    fourth = _core.Training(
        net.plan,
        third.params,
        net.X,
        net.y,
        rule=rule.name,
        states=third.states,
        batch_size=5,
        seed=5,
    )
    fourth.run([0.01] * 3, first_epoch=3, step=15)
    third.same_as(whole)


def test_every_epoch_has_its_own_order():
    """R123: with two samples in batches of one, the order shows in the weights."""
    net = network(n_samples=11)
    shuffled = Run(net, "sgd", batch_size=1, seed=9)
    losses = np.empty(22)
    shuffled(2, rate=1e-9, step_losses=losses)
    single, _ = _core.loss("squared_error", net.plan.predict(net.params, net.X, raw=True), net.y)
    for epoch in range(2):
        order = _core.permutation(9, epoch, 11)
        # The rate is so small that the weights hardly move.
        np.testing.assert_allclose(losses[11 * epoch : 11 * (epoch + 1)], single[order], rtol=1e-6)
    assert not np.array_equal(_core.permutation(9, 0, 11), _core.permutation(9, 1, 11))


def test_adam_trains_a_network_as_numpy_does(rng):
    """R61: 1000 steps of a whole network beside the NumPy perceptron with the NumPy rule."""
    net = network((4, 6, 3), n_samples=20)
    run = Run(net, "adam", batch_size=20, shuffle=False, alpha=0.01)
    losses = run(1000, rate=1e-3)["losses"]
    witness = reference.MLP(*net.arguments)
    params, states = net.params.copy(), [np.zeros(net.plan.n_params) for _ in range(2)]
    expected = np.empty(1000)
    for step in range(1000):
        expected[step], grad = witness.loss_gradient(params, net.X, net.y, alpha=0.01)
        reference.adam(params, grad, states, 1e-3, step + 1, **reference.ADAM)
    # A difference of 1e-16 in a gradient moves the weights by a rate's share of it; 1000 steps of
    # a smooth descent multiply that by far less than the 1e6 allowed here.
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    np.testing.assert_allclose(run.params, params, rtol=0, atol=1e-10)


# --------------------------------------------------------------------------- what is not finite


def test_an_overflowing_weight_is_told_and_undone():
    net = network(n_samples=20)
    run = Run(net, "sgd", batch_size=5)
    with pytest.raises(NonFiniteError, match="epoch 0") as error:
        run(3, rate=1e300)
    assert isinstance(error.value, ValueError)
    assert error.value.epoch == 0 and 0 <= error.value.step < 4
    assert 0 <= error.value.layer < 3
    np.testing.assert_array_equal(run.params, net.params)  # the initial weights


def test_the_weights_of_the_last_whole_epoch_come_back():
    net = network(n_samples=20)
    good, run = Run(net, "sgd"), Run(net, "sgd")
    good(2)
    with pytest.raises(NonFiniteError) as error:
        run.training.run([0.01, 0.01, 1e300, 0.01])
    assert error.value.epoch == 2
    np.testing.assert_array_equal(run.params, good.params)


def test_an_infinite_loss_is_found_before_any_update():
    """Sample 13 of 20, in batches of 5 in order: step 2. exp of the raw output overflows."""
    net = network((4, 3), loss=("poisson", {}), n_samples=20)
    net.X[13] = 1e6 * np.sign(net.params[:12].reshape(4, 3)[:, 0])
    run = Run(net, "sgd", shuffle=False)
    with pytest.raises(NonFiniteError) as error:
        run(1, rate=1e-12)
    assert (error.value.epoch, error.value.step, error.value.layer) == (0, 2, -1)
    np.testing.assert_array_equal(run.params, net.params)


@pytest.mark.parametrize("layer", [0, 1])
def test_the_first_layer_to_overflow_is_named(layer):
    """Sample 2 overflows in layer 1; where sample 5 does so in layer 0, that is the first."""
    net = network((4, 6, 5, 3), ("identity", {}), n_samples=8)
    net.params[30:60] = 1e200  # weights of layer 1
    net.X[2] = 1e200
    if layer == 0:
        net.params[:24] = 2.0
        net.X[5] = 1e308
    run = Run(net, "sgd", batch_size=8, shuffle=False)
    with pytest.raises(NonFiniteError) as error:
        run(1)
    assert (error.value.epoch, error.value.step, error.value.layer) == (0, 0, layer)
    assert f"layer {layer}" in str(error.value)


@pytest.mark.threads
def test_the_culprit_is_the_same_for_any_number_of_threads():
    net = network((64, 128, 70, 10), ("relu", {}), n_samples=500)
    net.X[333] = 1e308
    found = set()
    for n_threads in (1, 2, 4):
        run = Run(net, "sgd", batch_size=100, n_threads=n_threads, seed=1)
        with pytest.raises(NonFiniteError) as error:
            run(1)
        found.add((error.value.epoch, error.value.step, error.value.layer, str(error.value)))
        np.testing.assert_array_equal(run.params, net.params)
    assert len(found) == 1


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to a process of its own there")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_ends_after_the_last_whole_epoch(n_threads):
    """Within a second, and the weights are those of as many whole epochs as were done."""
    net = network((64, 128, 70, 10), ("relu", {}), n_samples=5000)
    run = Run(net, "adam", batch_size=200, n_threads=n_threads)
    sent = []

    def press():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, press)
    timer.start()
    result = run(100_000)
    assert time.perf_counter() - sent[0] < 1
    timer.join()
    assert result["interrupted"] and len(result["losses"]) == result["epochs"]
    again = Run(net, "adam", batch_size=200, n_threads=n_threads)
    again(result["epochs"])
    np.testing.assert_array_equal(run.params, again.params)
