"""The same bits: for any number of threads, any company of samples, any neighbour at work."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import Run, over, over_dtypes, over_inputs

from fastbp import _core
from fastbp.testing import cases, network

over_rules = over(cases("rule", attributes=False), "rule")


@pytest.mark.threads
@over_dtypes
@over_inputs
@over_rules
def test_training_gives_the_same_bits_for_any_number_of_threads(rule, sparse, dtype):
    net = network(
        (64, 128, 70, 10),
        ("relu", {}),
        ("softmax_cross_entropy", {}),
        dtype=dtype,
        sparse=sparse,
        n_samples=500,
    )
    weights = np.random.default_rng(1).uniform(0.5, 2, 500).astype(dtype)
    results = []
    for n_threads in (1, 2, 3, 5):
        run = Run(
            net, rule.name, batch_size=200, alpha=0.1, sample_weight=weights, n_threads=n_threads
        )
        results.append((run, run(3)["losses"]))
    first, losses = results[0]
    for run, other in results[1:]:
        run.same_as(first)
        np.testing.assert_array_equal(other, losses)


@pytest.mark.threads
@over_dtypes
@pytest.mark.parametrize(
    ("sizes", "batch_size"),
    [((1030, 1100, 3), 150), ((20, 300, 1), 32), ((3, 2000, 2), 64), ((700, 5, 900), 333)],
)
def test_odd_shapes_give_the_same_bits_for_any_number_of_threads(sizes, batch_size, dtype):
    net = network(sizes, dtype=dtype, n_samples=333)
    results = []
    for n_threads in (1, 2, 4):
        run = Run(net, "momentum", batch_size=batch_size, alpha=0.1, n_threads=n_threads)
        run(2, rate=1e-4)
        results.append(run)
    for run in results[1:]:
        run.same_as(results[0])


@over_dtypes
@over_inputs
@pytest.mark.parametrize("link", ["squared_error", "softmax_cross_entropy", "poisson", "focal"])
def test_a_prediction_does_not_depend_on_its_company(link, sparse, dtype, rng):
    """predict(X)[i] is predict(X[i:i+1])[0], bit for bit, in any batch, order and layout."""
    for sizes in ((5, 9, 3), (33, 70, 17, 4), (1, 1, 2)):
        net = network(sizes, ("silu", {}), (link, {}), dtype=dtype, sparse=sparse, n_samples=150)
        together = net.plan.predict(net.params, net.X)
        for i in (0, 1, 63, 64, 65, 127, 128, 149):
            alone = net.plan.predict(net.params, net.X[i : i + 1])
            np.testing.assert_array_equal(alone[0], together[i])
        order = rng.permutation(150)
        np.testing.assert_array_equal(net.plan.predict(net.params, net.X[order]), together[order])
        for start, stop in ((0, 7), (3, 70), (100, 150)):
            part = net.plan.predict(net.params, net.X[start:stop])
            np.testing.assert_array_equal(part, together[start:stop])
        if not sparse:
            turned = np.asfortranarray(net.X)
            np.testing.assert_array_equal(net.plan.predict(net.params, turned), together)


def test_a_wide_prediction_does_not_depend_on_its_company():
    """Where training would run on BLAS, predict does not."""
    net = network((1030, 1100, 3), dtype=np.float32, n_samples=70)
    together = net.plan.predict(net.params, net.X)
    for i in (0, 33, 69):
        np.testing.assert_array_equal(
            net.plan.predict(net.params, net.X[i : i + 1])[0], together[i]
        )


@pytest.mark.threads
def test_many_threads_may_read_one_plan():
    """predict and gradients of one plan at the same time, from Python threads."""
    net = network((64, 128, 10), ("relu", {}), ("softmax_cross_entropy", {}), n_samples=200)
    expected = net.plan.predict(net.params, net.X)
    loss = net.plan.loss_gradient(net.params, net.X, net.y)

    def work(i):
        if i % 2:
            return net.plan.loss_gradient(net.params, net.X, net.y, n_threads=1 + i % 3) == loss
        found = net.plan.predict(net.params, net.X, n_threads=1 + i % 3)
        return np.array_equal(found, expected)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(60)))


@pytest.mark.threads
def test_trainings_side_by_side_do_not_disturb_each_other():
    net = network((30, 64, 3), n_samples=300)
    alone = Run(net, batch_size=100)
    alone(5)

    def work(_):
        run = Run(net, batch_size=100, n_threads=2)
        run(5)
        return np.array_equal(run.params, alone.params)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(12)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_works_on_one_thread():
    net = network((64, 128, 10), ("relu", {}), n_samples=200)
    expected = net.plan.predict(net.params, net.X, n_threads=2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            found = net.plan.predict(net.params, net.X, n_threads=1)
            refused = False
            try:
                net.plan.predict(net.params, net.X, n_threads=2)
            except RuntimeError:
                refused = True
            good = _core.in_forked_child() and refused and np.array_equal(found, expected)
            code = 0 if good else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not _core.in_forked_child()
