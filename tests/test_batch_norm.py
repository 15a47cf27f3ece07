"""Batch normalisation as a layer: moments of batches, running ones, and what leaves them alone."""

import numpy as np
import pytest
from helpers import over_dtypes

import fastbp
from fastbp import nn, no_grad

EPS = np.finfo(np.float64).eps


def moments(layer):
    return layer.parameters()["running_moments"].data.copy()


def test_running_moments_are_those_of_pytorch():
    """r = (1 - momentum) r + momentum v, with the mean and the unbiased variance of each batch."""
    layer = nn.BatchNorm1d(momentum=0.3).build((5, 4), dtype=np.float64)
    np.testing.assert_array_equal(moments(layer), [[0.0] * 4, [1.0] * 4])
    rng = np.random.default_rng(0)
    mean, variance = np.zeros(4), np.ones(4)
    for _ in range(3):
        x = 2 + 3 * rng.standard_normal((6, 5, 4))
        y = layer(x).data
        expected = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
        # Sums of 30 terms near 5, in both forms.
        np.testing.assert_allclose(y, expected, rtol=0, atol=200 * EPS)
        mean = 0.7 * mean + 0.3 * x.mean((0, 1))
        variance = 0.7 * variance + 0.3 * x.reshape(-1, 4).var(0, ddof=1)
        np.testing.assert_allclose(moments(layer), [mean, variance], rtol=100 * EPS)
    with no_grad():
        y = layer(x).data
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=0, atol=200 * EPS)


@over_dtypes
@pytest.mark.parametrize("shape", [(4,), (3, 4), (3, 2, 4)])
def test_training_in_c_follows_as_tensors_do(dtype, shape):
    """One batch in its own order, so that even sums over it are formed alike."""
    norm = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, *shape)).astype(dtype), rng.standard_normal((20, 2))
    made = []
    for _ in range(2):
        layers = nn.Linear(4), norm(momentum=0.2), nn.ReLU(), nn.Flatten(), nn.Linear(2)
        made.append(nn.Sequential(*layers).build(shape, seed=1, dtype=dtype))
    planned, eager = made
    fastbp.fit(planned, "squared_error", X, y, batch_size=20, max_epochs=1, shuffle=False)
    eager(X)
    name = "1.running_moments"
    found, expected = (one.parameters()[name].data for one in (planned, eager))
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, np.repeat([[0.0], [1.0]], 4, axis=1))


def test_predictions_move_nothing_and_depend_on_their_sample_alone():
    layer = nn.BatchNorm1d().build(3)
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    layer(x)
    before = moments(layer)
    with no_grad():
        together = layer(x).data
        np.testing.assert_array_equal(layer(x[2:3].copy()).data, together[2:3])
    with nn.training(False):
        layer(x).sum().backward()
    np.testing.assert_array_equal(moments(layer), before)


def test_one_row_has_no_unbiased_variance_and_moves_nothing():
    layer = nn.BatchNorm1d().build(3)
    assert (layer(np.ones((1, 3), np.float32)).data == 0).all()
    np.testing.assert_array_equal(moments(layer), [[0.0] * 3, [1.0] * 3])


@pytest.mark.parametrize("frozen", ["1", "1.running_moments"])
def test_frozen_moments_stay_and_are_taken_in_training(frozen):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    layers = nn.Linear(4), nn.BatchNorm1d(), nn.Linear(2)
    network = nn.Sequential(*layers).build(4, seed=1, dtype=np.float64)
    network.parameters()["1.running_moments"].data = [[0.5] * 4, [2.0] * 4]
    network.freeze(frozen)
    recorded = network(X)
    with no_grad():
        np.testing.assert_array_equal(recorded.data, network(X).data)
    nn.SquaredError()(recorded, y).backward()
    plan = fastbp.compile(network, "squared_error")
    grad = np.empty_like(network._home.flat)
    plan.core.loss_gradient(network._home.flat, X, y, grad=grad)
    found = [
        np.zeros(one.size) if one.grad is None else one.grad.ravel()
        for one in network._home.parameters.values()
    ]
    np.testing.assert_array_equal(np.concatenate(found), grad)
    before = {name: one.data.copy() for name, one in network.parameters().items()}
    fastbp.fit(network, "squared_error", X, y, max_epochs=2)
    for name, one in network.parameters().items():
        assert np.array_equal(one.data, before[name]) == (not one.trainable)


def test_a_checkpointed_part_moves_its_moments_once():
    x = np.random.default_rng(0).standard_normal((5, 3))
    plain = nn.BatchNorm1d().build(3, dtype=np.float64)
    saving = nn.Checkpoint(nn.Sequential(nn.BatchNorm1d())).build(3, dtype=np.float64)
    plain(x).sum().backward()
    saving(x).sum().backward()
    found = saving.parameters()["module.0.running_moments"].data
    np.testing.assert_array_equal(found, moments(plain))


def test_errors():
    with pytest.raises(ValueError, match=r"BatchNorm1d: found an input of shape \(n, 3, 4, 5\), w"):
        nn.BatchNorm1d().build((3, 4, 5))
    with pytest.raises(ValueError, match=r"BatchNorm2d: found an input of shape \(n, 3\), wanted"):
        nn.BatchNorm2d().build((3,))
    with pytest.raises(ValueError, match=r"BatchNorm1d: momentum: found 1\.5, wanted"):
        nn.BatchNorm1d(momentum=1.5).build((3,))
    with pytest.raises(ValueError, match="epsilon of normalize: found 0, wanted"):
        nn.BatchNorm1d(eps=0).build((3,))
