"""The same bits: for any number of threads, any instruction set, any layout and company of samples,
any neighbour at work."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import (
    LAYOUTS,
    Run,
    gradient,
    over_activations,
    over_dtypes,
    over_inputs,
    over_rules,
)

from fastbp import _core
from fastbp.testing import network


@pytest.mark.threads
@over_dtypes
@over_inputs
@pytest.mark.parametrize(
    ("sizes", "n_samples"),
    [((64, 128, 70, 10), 301), ((33, 257, 5), 301), ((1030, 1100, 1025, 3), 140)],
)
def test_any_number_of_threads_gives_the_same_bits(sizes, n_samples, sparse, dtype):
    """Sizes that make several threads worth their while, the last of them wide enough for BLAS."""
    net = network(sizes, ("relu", {}), dtype=dtype, n_samples=n_samples, sparse=sparse)
    results = []
    for n_threads in (1, 2, 3, 7):
        loss, grad = gradient(net, n_threads=n_threads, alpha=0.1)
        results.append((loss, grad, net.plan.predict(net.params, net.X, n_threads=n_threads)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


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
    for sizes in ((5, 9, 3), (33, 70, 17, 4), (1, 1, 2), (9, 48, 8), (7, 16, 33, 64)):
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


@over_dtypes
def test_no_activation_is_the_identity(dtype):
    net = network((5, 7, 6, 3), ("identity", {}), dtype=dtype)
    layers = [layer for layer in net.arguments[1] if layer[0] == "linear"]
    bare = _core.Plan(net.arguments[0], layers, net.arguments[2], dtype=dtype)
    loss, grad = gradient(net)
    other = np.empty_like(grad)
    assert bare.loss_gradient(net.params, net.X, net.y, grad=other) == loss
    np.testing.assert_array_equal(other, grad)
    np.testing.assert_array_equal(
        bare.tangent(net.params, net.X, grad), net.plan.tangent(net.params, net.X, grad)
    )
    products = [p.hessian_product(net.params, net.X, net.y, grad) for p in (bare, net.plan)]
    np.testing.assert_array_equal(*products)


@over_dtypes
def test_the_layout_of_samples_does_not_matter(dtype, tmp_path):
    net = network((5, 8, 3), dtype=dtype, n_samples=70)
    loss, grad = gradient(net)
    z = net.plan.predict(net.params, net.X)
    np.save(tmp_path / "X.npy", net.X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    samples = {name: layout(net.X) for name, layout in LAYOUTS.items()}
    for name, X in {**samples, "memory-mapped": mapped}.items():
        other = np.empty_like(grad)
        assert net.plan.loss_gradient(net.params, X, net.y, grad=other) == loss, name
        np.testing.assert_array_equal(other, grad, err_msg=name)
        np.testing.assert_array_equal(net.plan.predict(net.params, X), z, err_msg=name)
        dz = net.plan.tangent(net.params, X, grad)
        np.testing.assert_array_equal(dz, net.plan.tangent(net.params, net.X, grad), err_msg=name)


@pytest.mark.skipif(
    not {"v3", "v4"} <= set(_core.build_info()["isas"]), reason="needs two sets with FMA"
)
@over_dtypes
@over_inputs
@over_activations
def test_any_instruction_set_with_fma_gives_the_same_bits(activation, sparse, dtype, force_isa):
    results = []
    for isa in ("v3", "v4"):
        force_isa(isa)
        net = network((17, 40, 33, 5), activation.spec, dtype=dtype, sparse=sparse, n_samples=75)
        results.append([*gradient(net, alpha=0.1), net.plan.predict(net.params, net.X)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


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
