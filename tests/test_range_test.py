"""The range test: what it suggests trains, and what it leaves alone."""

import signal
from contextlib import suppress

import matplotlib as mpl
import numpy as np
import pytest

import fastbp
from fastbp import Function, _core, find_learning_rate, nn

mpl.use("Agg")


def problem(n=600):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 4)).astype(np.float32)
    return X, (np.sin(X[:, :1]) * X[:, 1:2]).astype(np.float32)


def network(X):
    return nn.Sequential(nn.Linear(32), nn.Tanh(), nn.Linear(1)).build(X, seed=1)


def loss_after(rate, X, y, rule="adam"):
    module = network(X)
    plan, flat = fastbp.compile(module, "squared_error").core, module._home.flat
    n_states = {row["name"]: row for row in _core.table() if row["kind"] == "rule"}[rule][
        "n_states"
    ]
    training = _core.Training(
        plan,
        flat,
        X,
        y,
        rule=rule,
        states=np.zeros((n_states, len(flat)), np.float32),
        batch_size=32,
    )
    return training.run(np.full((5, 1), rate))["losses"][-1]


@pytest.mark.parametrize("rule", ["adam", "momentum", "sgd"])
def test_the_suggestion_trains_better_than_rates_far_from_it(rule):
    X, y = problem()
    found = find_learning_rate(network(X), "squared_error", X, y, optimizer=rule, high=30.0)
    good = loss_after(found.suggestion, X, y, rule)
    assert good < 0.9 * loss_after(found.suggestion / 100, X, y, rule)
    with suppress(fastbp.NonFiniteError):  # such a rate may be past the end
        assert good < loss_after(found.suggestion * 3000, X, y, rule)


def test_the_network_is_left_as_it_is():
    X, y = problem()
    module = network(X)
    before = module._home.flat.copy()
    one = find_learning_rate(module, "squared_error", X, y, seed=3)
    other = find_learning_rate(module, "squared_error", X, y, seed=3, n_threads=2)
    np.testing.assert_array_equal(module._home.flat, before)
    np.testing.assert_array_equal(one.losses, other.losses)
    assert one.suggestion == other.suggestion


def test_it_ends_where_the_loss_has_grown_or_is_no_number():
    X, y = problem()
    full = find_learning_rate(network(X), "squared_error", X, y, high=1e-2)
    assert len(full.losses) == 100 and full.rates[-1] == pytest.approx(1e-2)
    grown = find_learning_rate(network(X), "squared_error", X, y, optimizer="sgd", high=1e12)
    assert 20 < len(grown.losses) < 100 and np.isfinite(grown.losses).all()
    assert len(grown.rates) == len(grown.losses) == len(grown.smoothed)
    # The loss of the first step is that of the network as it is, on the first batch alone.
    assert grown.losses[0] == full.losses[0]


def test_more_steps_than_an_epoch_has():
    X, y = problem(70)
    found = find_learning_rate(network(X), "squared_error", X, y, n_steps=50, batch_size=32)
    assert len(found.losses) <= 50
    np.testing.assert_allclose(found.rates[1:] / found.rates[:-1], 1e6 ** (1 / 49))


def test_errors():
    X, y = problem(50)
    module = network(X)
    for options, words in (
        ({"optimizer": "fast"}, "optimizer: found 'fast', wanted one of"),
        ({"low": 0.0}, "low, high: found 0.0 and 1.0"),
        ({"low": 1.0, "high": 0.1}, "wanted 0 < low < high"),
        ({"n_steps": 5}, "n_steps: found 5, wanted at least 20"),
        ({"low": 1e12, "high": 1e15, "optimizer": "sgd"}, "low: found a loss that soon grows"),
    ):
        with pytest.raises(ValueError, match=words):
            find_learning_rate(module, "squared_error", X, y, **options)


def test_picture():
    X, y = problem()
    found = find_learning_rate(network(X), "squared_error", X, y)
    ax = found.plot()
    ax.figure.canvas.draw()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "loss")
    assert ax.get_xscale() == "log"
    drawn = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    np.testing.assert_array_equal(drawn["of each batch"], found.losses)
    low, high = ax.get_ylim()
    assert low < found.smoothed.min() and found.smoothed[0] < high
    np.testing.assert_array_equal(drawn["smoothed"], found.smoothed)
    assert found.plot(ax) is ax
    mpl.pyplot.close(ax.figure)


def test_ctrl_c_ends_it():
    class Interrupting(Function, check=False):
        calls = 0

        @staticmethod
        def forward(ctx, x):
            Interrupting.calls += 1
            if Interrupting.calls == 20:
                signal.raise_signal(signal.SIGINT)
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            return dy

    X = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
    network = nn.Sequential(nn.Linear(4), nn.Lambda(lambda x: Interrupting.apply(x)), nn.Linear(1))
    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(network.build(5), "squared_error", X, X[:, :1])
