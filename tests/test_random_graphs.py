"""Forty random networks: the same bits at once and planned, and gradients by every witness.

They are made in random_modules.py.
"""

import numpy as np
import pytest
from random_modules import INPUT, MOVES, OUTPUTS, RandomNetwork

import fastbp
from fastbp import Tensor, _core, check_gradients, nn, no_grad

SEEDS = range(40)
over_seeds = pytest.mark.parametrize("seed", SEEDS)


def data(n, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, *INPUT)).astype(dtype)
    return X, rng.integers(0, OUTPUTS, n).astype(np.int32)


def built(seed, dtype=np.float64, **options):
    network = RandomNetwork(seed, **options).build(INPUT, seed=seed, dtype=dtype)
    return network, fastbp.compile(network, "softmax_cross_entropy")


def flat_gradient(network):
    """In the order of the flat buffer; zeros where nothing comes back, as the engine has it."""
    return np.concatenate(
        [
            np.zeros(one.size, one.data.dtype) if one.grad is None else one.grad.ravel()
            for one in network._home.parameters.values()
        ]
    )


@over_seeds
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_at_once_and_planned(seed, dtype):
    """What is trained, masks included, and what is predicted."""
    network, plan = built(seed, dtype)
    X, y = data(13, dtype)
    flat = network._home.flat
    with no_grad():
        np.testing.assert_array_equal(network(X).data, plan.core.predict(flat, X, raw=True))
    nn.SoftmaxCrossEntropy()(network(X), y).backward()
    grad = np.full_like(flat, np.nan)
    plan.core.loss_gradient(flat, X, y, grad=grad, draws=(seed, 0))
    np.testing.assert_array_equal(flat_gradient(network), grad)


@over_seeds
def test_every_value_and_gradient_on_the_way(seed):
    network, plan = built(seed, random=False)
    numbers = [value.graph.number(value.place) for value in network.made[1:]]
    X, y = data(13)
    loss = nn.SoftmaxCrossEntropy()(network(X), y)
    tensors = network.made[1:]
    for tensor in tensors:
        if tensor.requires_grad:
            tensor.retain_grad()
    loss.backward()
    values, gradients = plan.core.trace(network._home.flat, X, y)
    for v, tensor in zip(numbers, tensors, strict=True):
        np.testing.assert_array_equal(values[v], tensor.data, err_msg=f"value {v}")
        if v in gradients:
            np.testing.assert_array_equal(gradients[v], tensor.grad, err_msg=f"gradient {v}")
        else:
            assert tensor.grad is None


@pytest.mark.threads
@over_seeds
def test_any_number_of_threads_gives_the_same_bits(seed):
    network, plan = built(seed, np.float32)
    X, y = data(700, np.float32)
    runs = []
    for n_threads in (1, 2, 5):
        params = network._home.flat.copy()
        states = np.zeros((2, params.size), np.float32)
        training = _core.Training(
            plan.core,
            params,
            X,
            y,
            rule="adam",
            states=states,
            batch_size=300,
            seed=seed,
            n_threads=n_threads,
        )
        losses = training.run([0.01])["losses"]
        grad = np.empty_like(params)
        plan.core.loss_gradient(params, X, y, grad=grad, n_threads=n_threads)
        runs.append(
            (
                losses,
                params,
                states,
                grad,
                plan.core.predict(params, X, raw=True, n_threads=n_threads),
            )
        )
    assert not np.array_equal(runs[0][1], network._home.flat)
    for other in runs[1:]:
        for ours, theirs in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@over_seeds
def test_finite_differences(seed):
    network, plan = built(seed)
    report = check_gradients(plan, *data(5))
    assert report.ok, str(report)
    assert [one.name for one in report.tensors] == [*network._home.parameters]


@over_seeds
def test_tangents_are_those_of_the_gradients(seed):
    """u . (J v) = (J^T u) . v, and v . (H w) = w . (H v), for random u, v and w.

    Each side is a sum of some thousand products in float64, each computed through some thirty
    operations from others: within 1e-16 sqrt(1000) 30 = 1e-13 of the size of its terms, of which
    norms, divisions by small spreads, may take three digits more.
    """
    network, plan = built(seed, random=False)
    X, y = data(7)
    flat, rng = network._home.flat, np.random.default_rng(seed)
    u = rng.standard_normal((7, OUTPUTS))
    v, w = rng.standard_normal((2, flat.size))
    dX = rng.standard_normal(X.shape)
    tangent = plan.core.tangent(flat, X, v, dX=dX)
    x = Tensor(X, requires_grad=True)
    (network(x) * u).sum().backward()
    gradient = flat_gradient(network)
    terms = np.linalg.norm(gradient) * np.linalg.norm(v) + np.linalg.norm(x.grad) * np.linalg.norm(
        dX
    )
    assert abs((u * tangent).sum() - gradient @ v - (x.grad * dX).sum()) < 1e-10 * terms
    hw, hv = (plan.core.hessian_product(flat, X, y, along) for along in (w, v))
    terms = np.linalg.norm(hw) * np.linalg.norm(v) + np.linalg.norm(hv) * np.linalg.norm(w)
    assert abs(hw @ v - hv @ w) < 1e-10 * terms


def test_the_networks_have_what_they_are_to_have():
    """Rows of every kind, values and parameters used again, paths that rejoin, others that end."""
    rows, again, shared, dead = set(), 0, 0, 0
    for seed in SEEDS:
        _, plan = built(seed)
        read = [v for node in plan.core.nodes for v in node["inputs"]]
        made = {v for node in plan.core.nodes for v in node["results"]}
        parameters = {v for v, value in enumerate(plan.core.values) if value["offset"] >= 0}
        rows |= {node["name"] for node in plan.core.nodes}
        again += any(read.count(v) > 1 for v in made)
        shared += any(read.count(v) > 1 for v in parameters)
        dead += bool(made - set(read) - set(plan.core.outputs))
    wanted = {"linear", "conv", "attention", "layer_norm", "rms_norm", "concatenate", "dropout"}
    wanted |= {"add", "maximum", "multiply", "sum", "mean", "max", "logsumexp", "softmax"}
    assert rows >= wanted
    assert again == len(SEEDS) and shared > 25 and 10 < dead < 30, (again, shared, dead)
    assert len(MOVES) == 12
