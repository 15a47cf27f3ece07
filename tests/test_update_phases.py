"""What an update must know before it is made: the norm of the whole gradient, or of each tensor,
what is asked of each parameter, and the gradients of several batches.

The bits are those of the same steps written out in NumPy, on any number of threads. What is asked
together (clipping beside factors, beside several batches) is tested together, in this one file.
"""

import numpy as np
import pytest
from helpers import Run, by_hand, over_dtypes, over_rules, parts_of
from test_graphs import GRAPHS, THREADS, Case, bias, case_as_net, over_graphs, weight

from fastbp import _core
from fastbp.errors import NonFiniteError
from fastbp.testing import network

OPTIONS = {"batch_size": 5, "shuffle": True, "seed": 7, "alpha": 0.1}


def assert_same_runs(runs):
    """Weights, states and what was reported, to the bit."""
    (first, *reported), *others = runs
    for other, *its in others:
        other.same_as(first)
        np.testing.assert_array_equal(its, reported)


def epochs_of(net, n_epochs=2, **options):
    """A run after some epochs, with the loss and the norm of each step."""
    run = Run(net, **options)
    steps = n_epochs * -(-run.n_samples // (options["batch_size"] * options.get("accumulate", 1)))
    losses, norms = np.empty((2, steps))
    run(n_epochs, step_losses=losses, gradient_norms=norms)
    return run, losses, norms


# ---------------------------------------------------------------------------------------- clipping

over_clipping = pytest.mark.parametrize(
    "clipping", [{"clip_norm": 0.1}, {"clip_value": 0.01}], ids=str
)


@over_dtypes
@over_clipping
def test_clipping_has_the_bits_of_numpy(dtype, clipping):
    """With the penalty's part of the gradient, and a last batch of 3."""
    net = network((6, 9, 4), dtype=dtype, n_samples=23)
    run, _, norms = epochs_of(net, rule="adam", **OPTIONS, **clipping)
    params, states, *_, expected = by_hand(
        net, "adam", {}, [0.01] * 2, weights=None, **OPTIONS, **clipping
    )
    np.testing.assert_array_equal(run.params, params)
    np.testing.assert_array_equal(run.states, states)
    np.testing.assert_array_equal(norms, expected)
    plain, _, _ = epochs_of(net, rule="adam", **OPTIONS)
    assert not np.array_equal(plain.params, params)


def test_a_clipped_step_worked_by_hand():
    """x = (3, 4), z = 0 and t = -1: the gradient is (3, 4, 1), of norm sqrt(26)."""
    plan = _core.Plan(2, [("linear", {"units": 1})], ("squared_error", {}), dtype=np.float64)
    for clipping, expected in (
        ({"clip_norm": 2.0}, 2.0 / (np.sqrt(26) + 1e-6) * np.array([3.0, 4.0, 1.0])),
        ({"clip_value": 2.0}, np.array([2.0, 2.0, 1.0])),
    ):
        params, norms = np.zeros(3), np.empty(1)
        training = _core.Training(
            plan,
            params,
            np.array([[3.0, 4.0]]),
            np.array([[-1.0]]),
            rule="sgd",
            states=np.zeros((0, 3)),
            batch_size=1,
            **clipping,
        )
        training.run([0.5], gradient_norms=norms)
        # A product and a quotient of numbers of a few roundings each.
        np.testing.assert_allclose(params, -0.5 * expected, rtol=4 * np.finfo(float).eps)
        assert norms[0] == np.sqrt(26)


@over_dtypes
def test_a_norm_that_is_not_reached_changes_no_bit(dtype):
    net = network((6, 9, 4), dtype=dtype, n_samples=23)
    plain = epochs_of(net, **OPTIONS)
    for clipping in ({"clip_norm": 1e4}, {"clip_value": 1e4}):
        assert_same_runs([plain, epochs_of(net, **OPTIONS, **clipping)])


@pytest.mark.threads
@over_dtypes
@over_graphs
@over_clipping
def test_clipping_gives_the_same_bits_on_any_number_of_threads(graph, dtype, clipping):
    net = case_as_net(Case(graph, dtype, 1500))
    options = {"batch_size": 700, "alpha": 0.1, **clipping}
    runs = [epochs_of(net, n_threads=n, **options) for n in THREADS]
    assert (runs[0][2] > 0.1).any()
    assert_same_runs(runs)


@pytest.mark.threads
def test_many_tiles_are_clipped_by_one_norm():
    """Layers of several tiles, which different threads take; the norm is that of NumPy."""
    net = network((300, 200, 50), dtype=np.float32, n_samples=64)
    options = {"rule": "sgd", "batch_size": 64, "shuffle": False, "clip_norm": 0.01}
    runs = [epochs_of(net, 1, n_threads=n, **options) for n in THREADS]
    assert_same_runs(runs)
    run, _, (norm,) = runs[0]
    grad = np.empty_like(net.params)
    net.plan.loss_gradient(net.params, net.X, net.y, grad=grad)
    # Squares of 70,000 floats, exact in double: half an eps for each addition of a chain.
    assert norm == pytest.approx(np.linalg.norm(grad.astype(float)), rel=70000 * 2.0**-53, abs=0)
    step = np.linalg.norm((net.params - run.params).astype(float))
    # The rate times the norm that was asked for; each weight is rounded once to a float below 1.
    assert step == pytest.approx(0.01 * 0.01, abs=np.sqrt(net.params.size) * 2.0**-24)


def test_frozen_parameters_have_no_part_in_the_norm():
    graph = {
        "inputs": [((2,), "real")],
        "parameters": [{"shape": (2, 1)}, {"shape": (1,), "frozen": True}],
        "nodes": [("linear", {}, (0, 1, 2))],
        "losses": [{"name": "squared_error", "value": 3}],
        "outputs": [3],
    }
    plan = _core.Plan(graph=graph, dtype=np.float64)
    norms = np.empty(1)
    training = _core.Training(
        plan,
        np.zeros(3),
        np.array([[3.0, 4.0]]),
        np.array([[-1.0]]),
        rule="sgd",
        states=np.zeros((0, 3)),
        batch_size=1,
        clip_norm=1.0,
    )
    training.run([0.5], gradient_norms=norms)
    assert norms[0] == 5.0


def test_a_batch_without_weight_has_no_norm():
    net = network(n_samples=15)
    weights = np.repeat([1.0, 0.0, 2.0], 5)
    _, losses, norms = epochs_of(
        net, 1, batch_size=5, sample_weight=weights, shuffle=False, clip_norm=0.1
    )
    assert ((norms > 0) == [True, False, True]).all() and losses[1] == 0


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (1.7e308, "a gradient of node 1, 'linear' became infinite or NaN in step 0 of epoch 0"),
        (1e153, "the gradients became too large in step 0 of epoch 0: the sum of their squares"),
    ],
)
def test_a_gradient_that_is_not_finite_ends_training_before_the_update(x, message):
    """Two losses of 50, since w = 0; each gradient is -10 x. One square of 1e154 is a double."""
    graph = {
        "inputs": [((1,), "real")],
        "parameters": [{"shape": (1, 1)}, {"shape": (1, 1)}],
        "nodes": [("linear", {}, (0, 1)), ("linear", {}, (0, 2))],
        "losses": [{"name": "squared_error", "value": v} for v in (3, 4)],
        "outputs": [3],
    }
    params = np.zeros(2)
    training = _core.Training(
        _core.Plan(graph=graph, dtype=np.float64),
        params,
        np.array([[x]]),
        (np.array([[10.0]]), np.array([[10.0]])),
        rule="sgd",
        states=np.zeros((0, 2)),
        batch_size=1,
        clip_norm=1.0,
    )
    with pytest.raises(NonFiniteError, match=message):
        training.run([1e-3])
    np.testing.assert_array_equal(params, 0)


def test_clipping_that_makes_no_sense_is_refused():
    net = network()
    for name in ("clip_norm", "clip_value"):
        for found in (0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"{name}: found {found}, wanted a finite number"):
                Run(net, **{name: found})
        with pytest.raises(TypeError):
            Run(net, **{name: "1"})
    with pytest.raises(ValueError, match="clip_norm: found 1 beside a clip_value of 2, wanted one"):
        Run(net, clip_norm=1, clip_value=2)
    with pytest.raises(ValueError, match="gradient_norms: found shape"):
        Run(net)(1, gradient_norms=np.empty(2))


def test_the_kept_gradient_is_counted():
    plan = network((20, 30, 3), dtype=np.float32).plan
    plain, clipped = plan.memory(10), plan.memory(10, clip_norm=1.0)
    assert clipped["gradients"] == plain["gradients"] + 4 * plan.n_params
    assert clipped["total"] >= plain["total"] + 4 * plan.n_params
    assert clipped["total"] == sum(size for part, size in clipped.items() if part != "total")


def test_clipped_training_allocates_nothing_in_its_steps():
    run = Run(network((20, 30, 3), n_samples=100), batch_size=20, clip_norm=0.1)
    run(1)
    before = _core.allocation_count()
    run(20)
    assert _core.allocation_count() == before


# ------------------------------------------------------------------------------- norms of tensors


@over_dtypes
@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 0.1}, {"clip_value": 0.01}], ids=str)
def test_lamb_has_the_bits_of_numpy(dtype, clipping):
    """Weights and biases, though they share a tile, have ratios of their own; clipping is first."""
    net = network((6, 9, 4), dtype=dtype, n_samples=23)
    run, _, norms = epochs_of(net, rule="lamb", **OPTIONS, **clipping)
    params, states, *_, expected = by_hand(
        net, "lamb", {}, [0.01] * 2, weights=None, **OPTIONS, **clipping
    )
    np.testing.assert_array_equal(run.params, params)
    np.testing.assert_array_equal(run.states, states)
    np.testing.assert_array_equal(norms, expected)


@pytest.mark.threads
@over_dtypes
@over_graphs
def test_lamb_gives_the_same_bits_on_any_number_of_threads(graph, dtype):
    net = case_as_net(Case(graph, dtype, 1500))
    options = {"rule": "lamb", "batch_size": 700, "alpha": 0.1}
    runs = [epochs_of(net, n_threads=n, **options) for n in THREADS]
    assert not np.array_equal(runs[0][0].params, net.params)
    assert_same_runs(runs)


@pytest.mark.threads
@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 0.01}], ids=str)
def test_a_tensor_of_many_tiles_has_one_ratio(clipping):
    net = network((300, 200, 50), dtype=np.float64, n_samples=64)
    options = {"rule": "lamb", "batch_size": 64, "shuffle": False, **clipping}
    runs = [epochs_of(net, 1, n_threads=n, **options) for n in THREADS]
    assert_same_runs(runs)
    for part in parts_of(net.plan)[0]:
        w, moved = net.params[part], runs[0][0].params[part] - net.params[part]
        # The rate times the tensor's norm: w is rounded to half an eps of its size, 50 of the step.
        if np.any(w):
            assert np.linalg.norm(moved) == pytest.approx(
                0.01 * np.linalg.norm(w), rel=100 * np.finfo(float).eps, abs=0
            )
    if clipping:
        return
    params, *_ = by_hand(
        net, "lamb", {}, [0.01], batch_size=64, shuffle=False, seed=0, alpha=0.0, weights=None
    )
    # Two norms of at most 60,000 squares, added in another order: half an eps each for every one.
    atol = np.abs(params - net.params).max() * 60000 * 2.0**-53 + 2.0**-52
    np.testing.assert_allclose(runs[0][0].params, params, rtol=0, atol=atol)


def test_lamb_keeps_the_gradient_too():
    plan = network((20, 30, 3), dtype=np.float32).plan
    kept = plan.memory(10, rule="lamb")["gradients"] - plan.memory(10, rule="lion")["gradients"]
    assert kept == 4 * plan.n_params
    (row,) = (row for row in _core.table() if row["name"] == "lamb")
    assert row["needs"] == "norms of tensors"


# ------------------------------------------------------------------------- factors of parameters

FACTORS = {"rate_factors": [1, 0.1, 0.5, 0], "decay_factors": [0.5, 0, 2, 0.25]}


@over_dtypes
@over_rules
def test_every_parameter_has_its_own_rate_and_decay(rule, dtype):
    """The bits of NumPy, where each tensor is updated by itself; biases that share a tile with
    their weights have factors of their own; a rate of 0 keeps the bytes."""
    net = network((6, 9, 4), dtype=dtype, n_samples=23)
    for clipping in ({}, {"clip_norm": 0.1}):
        run, losses, _ = epochs_of(net, rule=rule.name, **OPTIONS, **FACTORS, **clipping)
        params, states, _, expected, _ = by_hand(
            net, rule.name, {}, [0.01] * 2, weights=None, **OPTIONS, **FACTORS, **clipping
        )
        np.testing.assert_array_equal(run.params, params)
        np.testing.assert_array_equal(run.states, states)
        # Sums in double of the samples' losses and of squares, in another order.
        np.testing.assert_allclose(losses, expected, rtol=8 * np.finfo(dtype).eps)
        last = parts_of(net.plan)[0][-1]
        np.testing.assert_array_equal(run.params[last], net.params[last])


@over_rules
def test_factors_of_one_change_no_bit(rule):
    net = network((6, 9, 4), n_samples=23)
    ones = {"rate_factors": np.ones(4), "decay_factors": np.ones(4)}
    for clipping in ({}, {"clip_norm": 0.1}):
        options = {"rule": rule.name, **OPTIONS, **clipping}
        assert_same_runs([epochs_of(net, **options), epochs_of(net, **options, **ones)])


@pytest.mark.threads
@over_dtypes
@over_graphs
@pytest.mark.parametrize("rule", ["adamw", "lamb"])
def test_factors_give_the_same_bits_on_any_number_of_threads(graph, dtype, rule):
    net = case_as_net(Case(graph, dtype, 1500))
    rng = np.random.default_rng(1)
    factors = {
        name: rng.choice([0.5, 1, 2], len(graph["parameters"]))
        for name in ("rate_factors", "decay_factors")
    }
    options = {"rule": rule, "batch_size": 700, "alpha": 0.1, **factors}
    assert_same_runs([epochs_of(net, n_threads=n, **options) for n in THREADS])


@pytest.mark.parametrize("penalised", [False, True])
def test_the_penalty_is_on_what_is_penalised(penalised):
    """A bias too, where the graph says so; its factor says how much of it."""
    graph = {
        "inputs": [((1,), "real")],
        "parameters": [
            {"shape": (1, 1), "penalised": True},
            {"shape": (1,), "penalised": penalised},
        ],
        "nodes": [("linear", {}, (0, 1, 2))],
        "losses": [{"name": "squared_error", "value": 3}],
        "outputs": [3],
    }
    plan = _core.Plan(graph=graph, dtype=np.float64)
    params, losses = np.array([1.0, 2.0]), np.empty(1)
    training = _core.Training(
        plan,
        params,
        np.array([[1.0]]),
        np.array([[3.0]]),  # met, so that the penalty is all: 0.5 * alpha * w^2
        rule="sgd",
        states=np.zeros((0, 2)),
        batch_size=1,
        alpha=0.5,
        decay_factors=[1, 0.5],
    )
    training.run([1.0], step_losses=losses)
    # 1 - 0.5 * 1, and 2 - 0.5 * 0.5 * 2; all exact.
    np.testing.assert_array_equal(params, [0.5, 1.5 if penalised else 2.0])
    assert losses[0] == 0.25 + (0.5 if penalised else 0)
    grad = np.empty(2)
    assert plan.loss_gradient(
        np.array([1.0, 2.0]), np.array([[1.0]]), np.array([[3.0]]), alpha=0.5, grad=grad
    ) == 0.25 + (1 if penalised else 0)
    np.testing.assert_array_equal(grad, [0.5, 1.0 if penalised else 0.0])


def test_factors_that_make_no_sense_are_refused():
    net = network()
    for name in FACTORS:
        with pytest.raises(ValueError, match=rf"{name}: found shape \(2,\), wanted \(6,\)"):
            Run(net, **{name: [1, 2]})
        for found in (-1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match=rf"{name}\[1\]: found {found:g}, wanted a finite"):
                Run(net, **{name: [1, found, 1, 1, 1, 1]})


# ---------------------------------------------------------------------------------- accumulation


def dropped():
    """Masks on samples and on hidden units."""
    return {
        "inputs": [((5,), "real")],
        "parameters": [weight(5, 7), bias(7), weight(7, 3), bias(3)],
        "nodes": [
            ("dropout", {"p": 0.2}, (0,)),
            ("linear", {}, (5, 1, 2)),
            ("gelu", {}, (6,)),
            ("dropout", {"p": 0.5}, (7,)),
            ("linear", {}, (8, 3, 4)),
        ],
        "losses": [{"name": "softmax_cross_entropy", "value": 9}],
        "outputs": [9],
    }


ALL_GRAPHS = {**GRAPHS, "dropped": dropped()}


@pytest.mark.threads
@over_dtypes
@pytest.mark.parametrize("graph", ALL_GRAPHS.values(), ids=ALL_GRAPHS)
def test_small_batches_have_the_bits_of_a_large_one(graph, dtype):
    """R70: steps of 768 samples, at once and as three times 256."""
    case = Case(graph, dtype, 1536)
    net = case_as_net(case)
    options = {"alpha": 0.1, "sample_weight": case.weights, "seed": 3}
    runs = [epochs_of(net, batch_size=768, **options)]
    for n in THREADS:
        runs.append(epochs_of(net, batch_size=256, accumulate=3, n_threads=n, **options))
    assert len(runs[0][1]) == 4 and not np.array_equal(runs[0][0].params, net.params)
    assert_same_runs(runs)


@pytest.mark.threads
@pytest.mark.parametrize("name", ["recurrent", "tied", "positions", "broadcast", "dropped"])
@pytest.mark.parametrize("size", [1, 7, 96])
def test_sums_that_run_on_have_the_same_bits_in_any_batches(name, size):
    """Blocks of samples that begin in one batch and end in another; shorter last batches, and a
    shorter last step."""
    net = case_as_net(Case(ALL_GRAPHS[name], np.float32, 900))
    count = 672 // size
    runs = [epochs_of(net, batch_size=size * count)]
    for n in (1, 3):
        runs.append(epochs_of(net, batch_size=size, accumulate=count, n_threads=n))
    assert_same_runs(runs)


@over_rules
@pytest.mark.parametrize("more", [{}, {"clip_norm": 0.1}, FACTORS], ids=["", "clipped", "factors"])
def test_accumulation_goes_with_everything_else(rule, more):
    net = network((6, 9, 4), n_samples=23)
    options = {"rule": rule.name, **OPTIONS, **more}
    large = epochs_of(net, **{**options, "batch_size": 10})
    assert_same_runs([large, epochs_of(net, accumulate=2, **options)])


def test_more_batches_than_an_epoch_has_are_refused():
    net = network(n_samples=23)
    assert_same_runs([epochs_of(net, batch_size=23), epochs_of(net, batch_size=5, accumulate=5)])
    with pytest.raises(ValueError, match="accumulate: found 6, wanted 1 to the 5 batches of X"):
        Run(net, accumulate=6)
    with pytest.raises(ValueError, match="accumulate: found 0, wanted at least 1"):
        Run(net, accumulate=0)
    with pytest.raises(
        ValueError, match="rates: found 5 an epoch, wanted 1, or 3, one for each step"
    ):
        Run(net, accumulate=2).training.run(np.ones((1, 5)))


def test_a_batch_without_weight_takes_part_in_a_step_that_has_some():
    net = network(n_samples=20)
    weights = np.repeat([1.0, 0.0, 0.0, 0.0], 5)
    options = {"sample_weight": weights, "shuffle": False}
    large = epochs_of(net, 1, batch_size=10, **options)
    small = epochs_of(net, 1, batch_size=5, accumulate=2, **options)
    assert_same_runs([large, small])
    assert small[0].step == 1 and (small[1] > 0).tolist() == [True, False]


def test_the_culprit_is_found_in_a_later_batch():
    """The third sample overflows in the second layer, of the second batch of the second step."""
    layers = [("linear", {"units": 2}), ("linear", {"units": 1})]
    plan = _core.Plan(1, layers, ("squared_error", {}), dtype=np.float64)
    X = np.ones((8, 1))
    X[7] = 1e308
    params = np.array([1.0, 1, 0, 0, 1, 1, 0])
    training = _core.Training(
        plan,
        params,
        X,
        np.zeros((8, 1)),
        rule="sgd",
        states=np.zeros((0, 7)),
        batch_size=2,
        accumulate=2,
        shuffle=False,
    )
    with pytest.raises(NonFiniteError, match="step 1 of epoch 0, first in the output of layer 1"):
        training.run([0.0])
    np.testing.assert_array_equal(params, [1.0, 1, 0, 0, 1, 1, 0])


def test_accumulation_takes_the_room_of_a_small_batch():
    """Beside it a flat gradient, and of each sample of the step its loss and its weight."""
    plan = network((64, 100, 10), ("relu", {}), dtype=np.float32).plan
    small, large = plan.memory(100), plan.memory(1000)
    several = plan.memory(100, accumulate=10)
    for part in ("activations", "deltas", "weight_copies", "thread_scratch"):
        assert several[part] == small[part]
    partial = large["gradients"] - plan.memory(300)["gradients"]  # of blocks, as the large one's
    assert several["gradients"] == small["gradients"] + partial + 4 * plan.n_params
    assert 0 <= several["other"] - small["other"] <= 1000 * 8 + 1024
    assert several["total"] == sum(size for part, size in several.items() if part != "total")
    assert several["total"] < large["total"]
