"""What `fastbp.fit` can be asked beyond plain steps: L-BFGS, steps of several batches, a limit of
memory, clipping, and rates and decays by the names of parameters."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from fastbp import NonFiniteError, compile, fit, nn, optim
from fastbp.train.limits import fitting


def test_lbfgs_finds_the_least_squares_of_a_linear_network():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4))
    y = X @ rng.standard_normal((4, 2)) + rng.standard_normal((60, 2))
    network = nn.Sequential(nn.Linear(2)).build(4, dtype=np.float64)
    result = fit(network, "squared_error", X, y, optimizer="lbfgs", max_epochs=200, tol=1e-9)
    wide = np.hstack([X, np.ones((60, 1))])
    best, *_ = np.linalg.lstsq(wide, y, rcond=None)
    found = np.vstack([one.data for one in network.parameters().values()])
    # SciPy also ends where an iteration lowers the loss, about 1, by less than 2.2e-9 of it. What
    # is left to fall is then hardly ten times that, and half the curvature, at least 0.3, times
    # the distance squared.
    np.testing.assert_allclose(found, best, rtol=0, atol=np.sqrt(2 * 2.2e-8 / 0.3))
    assert result.n_epochs == len(result.history["loss"]) < 200
    assert result.history["loss"] == sorted(result.history["loss"], reverse=True)


def test_lbfgs_on_a_graph_with_two_losses_and_a_frozen_part():
    class Two(nn.Module):
        def __init__(self):
            self.body, self.head = nn.Linear(6), nn.Linear(1)

        def forward(self, x):
            h = self.body(x).tanh()
            return {"h": h, "y": self.head(h)}

    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3))
    y = {"h": rng.uniform(-0.5, 0.5, (50, 6)), "y": X[:, :1]}
    network = Two().build(3, dtype=np.float64)
    network.freeze("head.bias")
    losses = {"h": ("squared_error", 0.1), "y": "squared_error"}
    with pytest.warns(ConvergenceWarning, match="not converged after 100 iterations"):
        result = fit(network, losses, X, y, optimizer="lbfgs", max_epochs=100, alpha=0.01)
    assert result.history["loss"][-1] < 0.5 * result.history["loss"][0]
    assert (network.parameters()["head.bias"].data == 0).all()
    grad = np.empty_like(network._home.flat)
    plan = result.plan
    plan.core.loss_gradient(
        network._home.flat, plan.samples(X), plan.targets(y), alpha=0.01, grad=grad
    )
    # It has ended where no component was above tol, or no step was found any more.
    assert np.abs(grad).max() < 1e-3


@pytest.mark.parametrize(
    "given",
    [
        {"schedule": optim.Constant(0.1)},
        {"batch_size": 10},
        {"early_stopping": True},
        {"optimizer_params": {"momentum": 0.5}},
    ],
    ids=lambda given: next(iter(given)),
)
def test_lbfgs_refuses_what_belongs_to_steps(given):
    X = np.ones((5, 2), np.float32)
    with pytest.raises(ValueError, match=f"{next(iter(given))}: found .* beside optimizer='lbfgs'"):
        fit(nn.Linear(1), "squared_error", X, X[:, :1], optimizer="lbfgs", **given)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d()], ids=["masks", "batch"])
def test_lbfgs_refuses_a_loss_that_varies(layer):
    X = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    network = nn.Sequential(layer, nn.Linear(1))
    with pytest.raises(ValueError, match="found 'lbfgs' for a network with"):
        fit(network, "squared_error", X, X[:, :1], optimizer="lbfgs")


def deep(seed=1):
    layers = [layer for _ in range(6) for layer in (nn.Linear(48), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(2)).build(8, seed=seed)


def samples(n=2048):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 8)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(np.int32)


def test_a_step_of_several_batches_has_the_bits_of_one():
    X, y = samples()
    given = {"learning_rate_init": 0.01, "max_epochs": 2, "history": "step", "clip_norm": 0.5}
    whole, parts = deep(), deep()
    one = fit(whole, "softmax_cross_entropy", X, y, batch_size=1024, **given)
    many = fit(parts, "softmax_cross_entropy", X, y, batch_size=256, accumulate=4, **given)
    np.testing.assert_array_equal(whole._home.flat, parts._home.flat)
    np.testing.assert_array_equal(
        one.history["step_gradient_norm"], many.history["step_gradient_norm"]
    )
    assert one.n_steps == many.n_steps == 4


def test_a_limit_of_memory_has_the_bits_of_none():
    X, y = samples()
    given = {"optimizer": "momentum", "max_epochs": 2, "n_threads": 1}
    free, held = deep(), deep()
    plan = compile(free, "softmax_cross_entropy")
    needed = {
        times: plan.memory(2048 // times, accumulate=times, optimizer="momentum", n_samples=2048)[
            "total"
        ]
        for times in (1, 2, 4, 8)
    }
    assert needed[8] < 0.5 * needed[1]
    fit(free, "softmax_cross_entropy", X, y, batch_size=2048, **given)
    limit = needed[4]
    fit(held, "softmax_cross_entropy", X, y, batch_size=2048, memory_limit=limit, **given)
    np.testing.assert_array_equal(free._home.flat, held._home.flat)
    # Less than that takes checkpoints beside batches of 256.
    with pytest.raises(
        ValueError, match=r"memory_limit: found 1000 bytes, wanted at least .* in 8 batches"
    ):
        fit(held, "softmax_cross_entropy", X, y, batch_size=2048, memory_limit=1000, **given)


@pytest.mark.parametrize(
    ("limit", "found"), [(1024, (1024, 1)), (1023, (512, 2)), (512, (512, 2)), (300, (256, 4))]
)
def test_batches_are_as_large_as_the_limit_lets_them(limit, found):
    assert fitting(limit, 1024, 1, lambda size, times: size) == (*found, found[0])
    # A step that is already made of several batches is cut further, never joined.
    assert fitting(512, 512, 2, lambda size, times: size) == (512, 2, 512)
    assert fitting(511, 512, 2, lambda size, times: size) == (256, 4, 256)
    # None is small enough; none may be smaller.
    assert fitting(100, 1024, 1, lambda size, times: size) == (256, 4, 256)
    assert fitting(100, 1024, 1, lambda size, times: size, may_cut=False) == (1024, 1, 1024)


def test_gradients_are_clipped_and_their_norms_noted():
    X, y = samples(200)
    network = deep()
    result = fit(
        network,
        "softmax_cross_entropy",
        X,
        y,
        optimizer="sgd",
        learning_rate_init=1.0,
        max_epochs=1,
        clip_norm=1e-3,
        history="step",
    )
    (norm,) = result.history["step_gradient_norm"]
    assert result.history["gradient_norm"] == [norm]
    moved = np.linalg.norm(network._home.flat - deep()._home.flat)
    # The step is as long as the clipped gradient, but for roundings of 12,000 weights near 0.1.
    assert norm > 1e-2 and moved == pytest.approx(1e-3, rel=1e-3)
    with pytest.raises(ValueError, match="clip_norm"):
        fit(network, "softmax_cross_entropy", X, y, clip_norm=1.0, clip_value=1.0)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_recurrent_network_remembers_where_its_gradients_are_clipped(clip_norm):
    """R23: a sign is to be remembered over 30 steps of noise, at a rate at which steps leap."""
    rng = np.random.default_rng(0)
    X = np.zeros((1000, 30, 2), np.float32)
    X[:, :, 0] = 0.3 * rng.standard_normal((1000, 30))
    y = X[:, 0, 1:] = rng.choice(np.float32([-1, 1]), (1000, 1))
    layer = nn.RNN(32, output="last", recurrent_init="orthogonal")
    network = nn.Sequential(layer, nn.Linear(1)).build(X, seed=0)
    given = {"optimizer": "sgd", "learning_rate_init": 0.3, "batch_size": 50, "max_epochs": 15}
    if clip_norm is None:
        with pytest.raises(NonFiniteError):
            fit(network, "squared_error", X, y, **given)
    else:
        losses = fit(network, "squared_error", X, y, clip_norm=clip_norm, **given).history["loss"]
        assert losses[-1] < 0.01  # of 0.5 for who has forgotten


def test_lamb_learns_from_a_few_steps_of_all_samples():
    """R63: at one rate for all layers, where gradient descent does not, whatever its rate is."""
    X, y = load_digits(return_X_y=True)

    def loss(optimizer, rate):
        layers = [layer for _ in range(3) for layer in (nn.Linear(64), nn.ReLU())]
        network = nn.Sequential(*layers, nn.Linear(10)).build(64, seed=0)
        steps = {"batch_size": len(X), "max_epochs": 40, "learning_rate_init": rate}
        result = fit(
            network, "softmax_cross_entropy", X / 16, y, optimizer=optimizer, tol=0, **steps
        )
        return result.history["loss"][-1]

    descent = [loss("sgd", rate) for rate in (0.01, 0.03, 0.1, 0.3, 1.0)]
    assert loss("lamb", 0.03) < 0.05 < 0.3 < min(descent)


def test_groups_have_rates_and_decays_of_their_own():
    X, y = samples(200)
    given = {"optimizer": "sgd", "max_epochs": 1, "batch_size": 200}
    start, plain, grouped = deep()._home.flat, deep(), deep()
    fit(plain, "softmax_cross_entropy", X, y, **given)
    factors = {"*": 0.5, "0": 0.0, "2.bias": 2.0}
    fit(grouped, "softmax_cross_entropy", X, y, rate_factors=factors, **given)
    for name, one in grouped.parameters().items():
        factor = 0.0 if name.startswith("0.") else 2.0 if name == "2.bias" else 0.5
        first = deep().parameters()[name].data
        step = plain.parameters()[name].data - first
        # A rounding of the rate times the factor, and one of the sum.
        np.testing.assert_allclose(one.data - first, factor * step, rtol=1e-6, atol=2e-8)
    assert not np.array_equal(start, plain._home.flat)
    decayed, spared = deep(), deep()
    fit(decayed, "softmax_cross_entropy", X, y, alpha=10.0, **given)
    fit(spared, "softmax_cross_entropy", X, y, alpha=10.0, decay_factors={"*": 0.0}, **given)
    np.testing.assert_array_equal(spared._home.flat, plain._home.flat)
    assert np.abs(decayed._home.flat - plain._home.flat).max() > 0
    for wrong, words in (
        ({"7.*": 1.0}, r"rate_factors: found '7.\*', wanted a part or a parameter"),
        ({"0": -1.0}, r"rate_factors\['0'\]: found -1.0, wanted a number"),
        ({3: 1.0}, "rate_factors: found 3 for a name, wanted a str"),
        ([1.0], "rate_factors: found .1.0., wanted a dict"),
    ):
        with pytest.raises(ValueError, match=words):
            fit(grouped, "softmax_cross_entropy", X, y, rate_factors=wrong, **given)
