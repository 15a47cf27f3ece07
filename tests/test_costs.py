"""What a plan says of itself before it runs, and what running it takes: order, FLOPs, memory."""

import itertools

import numpy as np
import pytest
from helpers import Run

from fastbp import _core
from fastbp.testing import network


def test_order_runs_every_row_once_forward_and_once_backward():
    """R3: one forward and one backward pass hold every row once."""
    plan = network((4, 6, 5, 3), ("gelu", {}), ("huber", {})).plan
    assert plan.order() == (
        "linear0.forward",
        "gelu0.forward",
        "linear1.forward",
        "gelu1.forward",
        "linear2.forward",
        "huber.forward",
        "huber.backward",
        "linear2.backward_input",
        "gelu1.backward",
        "linear1.backward_input",
        "gelu0.backward",
        "linear0.backward_params",
        "linear1.backward_params",
        "linear2.backward_params",
    )
    assert len(set(plan.order())) == len(plan.order())


def test_flops_of_a_dense_network():
    """R6 and R96: backward is twice forward, less the input gradient of the first layer."""
    sizes = (784, 512, 256, 10)
    plan = network(sizes, ("identity", {}), n_samples=1).plan
    products = [2 * a * b for a, b in itertools.pairwise(sizes)]
    flops = plan.flops(128)
    # Biases, activations and the loss are below 1 % of these products.
    assert flops["forward"] == pytest.approx(128 * sum(products), rel=0.01)
    assert flops["backward"] == pytest.approx(128 * (2 * sum(products) - products[0]), rel=0.01)
    assert plan.flops(256)["forward"] == 2 * flops["forward"]


def test_memory_is_planned():
    """R14: the tensors that backward reads are listed, and the total is the sum of its parts."""
    plan = network((64, 100, 10), ("relu", {}), dtype=np.float32).plan
    memory = plan.memory(200, rule="adam", n_samples=1797)
    assert memory["parameters"] == 4 * (64 * 100 + 100 + 100 * 10 + 10)
    assert memory["optimizer_state"] == 2 * memory["parameters"]
    assert memory["last_epoch"] >= memory["parameters"]
    # One input for each layer, one delta for each layer, of 200 rows; rows are padded a little.
    assert 200 * 4 * (64 + 100) <= memory["activations"] <= 1.5 * 200 * 4 * (64 + 100)
    assert 200 * 4 * (100 + 10) <= memory["deltas"] <= 1.5 * 200 * 4 * (100 + 10)
    assert memory["order"] >= 4 * 1797
    assert memory["total"] == sum(size for part, size in memory.items() if part != "total")
    assert 0 <= memory["other"] <= 200 * 4 * 4 + 8192  # targets, scales and losses; small tables
    assert memory["partial_gradients"] == 0
    blocks = plan.memory(2048, rule="adam")
    assert blocks["partial_gradients"] >= plan.balance(2048, 1)["n_blocks"] * memory["parameters"]
    larger = plan.memory(400, rule="adam", n_samples=1797)
    assert larger["activations"] == pytest.approx(2 * memory["activations"], rel=0.01)
    assert plan.memory(200, n_threads=2)["thread_scratch"] > plan.memory(200)["thread_scratch"]


def test_the_steady_state_allocates_nothing():
    net = network((20, 30, 3), n_samples=100)
    run = Run(net, batch_size=20)
    run(1)
    before = _core.allocation_count()
    run(50)
    assert _core.allocation_count() == before


def test_repeated_calls_of_one_plan_allocate_nothing():
    net = network((20, 30, 3), n_samples=100)
    grad = np.empty_like(net.params)
    calls = [
        lambda: net.plan.predict(net.params, net.X),
        lambda: net.plan.loss_gradient(net.params, net.X, net.y, grad=grad),
        lambda: net.plan.hessian_product(net.params, net.X, net.y, net.params),
        lambda: net.plan.tangent(net.params, net.X, net.params),
    ]
    for call in calls:
        call()
        before = _core.allocation_count()
        for _ in range(20):
            call()
        assert _core.allocation_count() == before


def test_a_failed_allocation_is_an_error_and_nothing_else():
    """The n-th allocation fails, for every n, until the call succeeds; then all is as ever."""
    net = network((6, 9, 4), n_samples=23)
    expected = net.plan.predict(net.params, net.X)
    grad = np.empty_like(net.params)

    def fresh():
        return _core.Plan(*net.arguments, dtype=np.float64)

    calls = [
        fresh,
        lambda: fresh().predict(net.params, net.X),
        lambda: fresh().loss_gradient(net.params, net.X, net.y, grad=grad),
        lambda: fresh().hessian_product(net.params, net.X, net.y, net.params),
        lambda: fresh().tangent(net.params, net.X, net.params),
        lambda: fresh().inspect(net.params, net.X, net.y),
        lambda: Run(net, "adam")(2),
    ]
    for call in calls:
        for nth in range(1, 100):
            _core.fail_allocation(nth)
            try:
                call()
                break
            except MemoryError as error:
                assert str(error)
            finally:
                _core.fail_allocation(0)
        else:
            pytest.fail("100 allocations in one call")
        assert nth > 1
    np.testing.assert_array_equal(net.plan.predict(net.params, net.X), expected)
