"""The gradient check of modules: whole networks by the names of their parameters."""

import numpy as np
import pytest

import fastbp
from fastbp import check_gradients, nn, ops
from fastbp.nn import checked

RNG = np.random.default_rng(5)
X, CLASSES = RNG.normal(size=(20, 6)), RNG.integers(0, 3, 20)


class Block(nn.Module):
    """Attention with what has no gradient anywhere, and what has none at its starting values."""

    def forward(self, x):
        normal = ops.layer_norm(
            x + self.parameter("shift", (1,), 0.5), self.parameter("gain", (4,), 1.0)
        )
        keys = normal + self.parameter("keys", (4,), 0.0)
        mixed = ops.attention(normal, keys, normal)
        return x + mixed @ self.parameter("closed", (4, 4), 0.0)


class Two(nn.Module):
    """Two inputs, one of them of integers, two outputs; a table used twice."""

    def forward(self, x, words):
        table = self.parameter("table", (7, 3), "he_normal")
        sentence = ops.embedding(words, table).sum(axis=1)
        scores = sentence * ops.embedding(words, table)[:, 1] + nn.Lambda(ops.tanh)(x)
        return {"word": scores, "size": scores.mean(axis=1, keepdims=True)}


def blocks(dtype=np.float32):
    return nn.Sequential(
        nn.Linear(12),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Lambda(lambda x: x.reshape(-1, 3, 4)),
        Block(),
        nn.Lambda(lambda x: x.mean(axis=1)),
        nn.Linear(3),
    ).build(6, seed=4, dtype=dtype)


def plan(network):
    return fastbp.compile(network, "softmax_cross_entropy")


def found(report):
    return [one.name for one in report.tensors]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_passes_by_the_names_of_its_parameters(dtype):
    network = blocks(dtype)
    before = network._home.flat.copy()
    report = check_gradients(plan(network), X, CLASSES, sample_weight=RNG.uniform(0.5, 2, 20))
    assert report.ok, str(report)
    assert found(report) == [*network.parameters()]
    assert report.n_params == network._home.flat.size
    rescaled = [one.name for one in report.tensors if one.rescaled]
    # Closed, the block lets no gradient through; a shift before a norm or of all keys has none.
    assert rescaled == ["4.shift", "4.gain", "4.keys"]
    assert "checked at other values" in str(report)
    np.testing.assert_array_equal(network._home.flat, before)
    assert network._home.flat.dtype == dtype


def test_several_inputs_and_losses():
    network = Two().build({"x": 3, "words": np.zeros((1, 5), int)})
    both = fastbp.compile(network, {"word": "softmax_cross_entropy", "size": ("huber", 0.3)})
    inputs = {"words": RNG.integers(0, 7, (9, 5)), "x": RNG.normal(size=(9, 3))}
    targets = {"size": RNG.normal(size=(9, 1)), "word": RNG.integers(0, 3, 9)}
    report = check_gradients(both, inputs, targets)
    assert report.ok, str(report)
    assert found(report) == ["table"]


class Reader(nn.Module):
    """A causal transformer on words, with a loss at each position and its table as its head."""

    def __init__(self):
        self.table, self.position = nn.Embedding(7, 4), nn.LearntEncoding()
        self.blocks = [nn.TransformerBlock(2, causal=True, dropout=0.1) for _ in range(2)]
        self.norm = nn.LayerNorm()

    def forward(self, words):
        x = self.position(self.table(words))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.table.weight.transpose(1, 0)


def test_a_transformer_from_end_to_end():
    """R29."""
    words = RNG.integers(0, 7, (8, 5))
    network = Reader().build(words)
    report = check_gradients(plan(network), words, np.roll(words, -1, axis=1))
    assert report.ok, str(report)
    assert found(report) == [*network.parameters()]


def test_what_is_frozen_is_left_out():
    network = blocks().freeze("0", "4.gain")
    report = check_gradients(plan(network), X, CLASSES)
    assert report.ok, str(report)
    names = ["4.shift", "4.keys", "4.closed", "6.weight", "6.bias"]
    assert found(report) == names
    assert report.n_params == sum(network.parameters()[name].size for name in names)
    # And of a sample along random directions, too.
    large = nn.Sequential(nn.Linear(60), nn.Tanh(), nn.Linear(60), nn.Tanh(), nn.Linear(3))
    report = check_gradients(plan(large.build(6).freeze("0")), X, CLASSES)
    assert report.ok and report.directions.error < 1e-6, str(report)
    assert found(report) == ["2.weight", "2.bias", "4.weight", "4.bias"]


def test_masks_are_part_of_the_loss():
    """Of 40 units few are left for two samples, and the others have no gradient."""
    network = nn.Sequential(nn.Linear(40), nn.Dropout(0.9), nn.Linear(3)).build(6)
    problem = plan(network)._gradient_problem(X[:2], CLASSES[:2], None)
    grad = np.empty(problem[0].n_params)
    problem[0].loss_gradient(problem[1], problem[2], problem[3], grad=grad)
    assert 0 < np.count_nonzero(grad[240:280]) < 20
    report = check_gradients(plan(network), X, CLASSES)
    assert report.ok, str(report)


# ---- planted mistakes ----

MISTAKES = {
    "a sign": lambda g: np.negative(g, out=g),
    "a factor": lambda g: np.multiply(g, 1 + 1e-5, out=g),
    "forgotten": lambda g: g.fill(0.0),
    "one element": lambda g: np.add.at(g, 0, 1e-5),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", ["0.weight", "4.gain", "4.closed", "6.bias"])
def test_a_planted_mistake_is_caught_and_named(monkeypatch, mistake, name):
    report = spoilt(monkeypatch, name, MISTAKES[mistake])
    assert [one.name for one in report.failures] == [name]


def test_something_where_nothing_should_be_is_caught(monkeypatch):
    """1e-8 of the largest gradient, far below the tolerance, but far above rounding."""
    report = spoilt(monkeypatch, "4.keys", lambda g: np.add.at(g, 0, 1e-8))
    assert [one.name for one in report.failures] == ["4.keys"]


def spoilt(monkeypatch, name, mistake):
    right = checked.Training.loss_gradient

    def wrong(self, params, X, y, *, grad=None, **options):
        loss = right(self, params, X, y, grad=grad, **options)
        if grad is not None:
            (one,) = (one for one in self.tensors if one["name"] == name)
            mistake(grad[one["offset"] : one["offset"] + int(np.prod(one["shape"]))])
        return loss

    monkeypatch.setattr(checked.Training, "loss_gradient", wrong)
    return check_gradients(plan(blocks()), X, CLASSES)


def test_misuse_is_named():
    network = blocks()
    with pytest.raises(TypeError, match=r"is a Sequential, wanted .* compile\(\) makes"):
        check_gradients(network, X, CLASSES)
    with pytest.raises(ValueError, match="a plan without a loss, wanted that of compile"):
        check_gradients(fastbp.compile(network), X, CLASSES)
    with pytest.raises(TypeError, match="params and alpha come from the Plan"):
        check_gradients(plan(network), X, CLASSES, params=np.zeros(3))
