"""Fitted estimators of many kinds for tests that look into them, and what tensors say of them.

No test is here. The witness shares rows with what is tested, but neither plans nor graphs.
"""

import numpy as np
import scipy.sparse

from fastbp import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    Tensor,
    nn,
    ops,
)
from fastbp.ops.running import call

RNG = np.random.default_rng(0)
N = 24
TABLE = RNG.standard_normal((N, 5))
SERIES = RNG.standard_normal((N, 6, 3))
IMAGES = RNG.standard_normal((N, 6, 6, 2))
PADDED = np.where(np.arange(6)[:, None] < RNG.integers(2, 7, (N, 1, 1)), SERIES, -9.0)
LABELS, TWO = RNG.integers(0, 3, N), RNG.integers(0, 2, N)
NUMBERS, PAIRS = RNG.standard_normal(N), RNG.standard_normal((N, 2))
SEVERAL = {"town": RNG.integers(0, 4, N), "sizes": TABLE, "ages": SERIES[:, 0]}


class Tied(nn.Module):
    """A layer used twice, then its transpose: parameters shared, and a matrix made of another."""

    def __init__(self):
        self.both, self.last = nn.Linear(5), nn.Linear(1)

    def forward(self, x):
        h = ops.tanh(self.both(ops.tanh(self.both(x))))
        return self.last(h @ self.both.weight.transpose(1, 0))


class Shop(nn.Module):
    """Three inputs, of which one is looked up."""

    def __init__(self):
        self.town, self.hidden, self.head = nn.Embedding(4, 2), nn.Linear(4), nn.Linear(1)

    def forward(self, town, sizes, ages):
        joined = ops.concatenate([self.town(town), sizes, ages * ages], axis=1)
        return self.head(ops.tanh(self.hidden(joined)))


class Padded(nn.Module):
    """A layer over time that is told what is padded."""

    def __init__(self):
        self.read, self.head = nn.LSTM(4), nn.Linear(1)

    def forward(self, x, mask):
        return self.head(self.read(x, mask)[:, -1])


def _mlp(kind, y, *sizes, X=TABLE, **given):
    given = {"activation": "tanh", "max_iter": 3, "learning_rate_init": 0.02} | given
    return kind(sizes, random_state=0, **given).fit(X, y), X, y


def _network(kind, module, X, y, **given):
    given = {"max_epochs": 3, "learning_rate_init": 0.02, "dtype": "float64"} | given
    return kind(module, random_state=0, **given).fit(X, y), X, y


def _stack(*layers, out=3):
    return nn.Sequential(*layers, nn.Linear(out))


def _frozen():
    return _stack(nn.Linear(4), nn.Tanh(), nn.Linear(4), nn.Tanh()).freeze("0.weight", "2.bias")


# Networks of which all trained parameters are dense layers of samples without further axes.
DENSE = {
    "one hidden layer": lambda: _mlp(MLPClassifier, LABELS, 6),
    "two classes": lambda: _mlp(MLPClassifier, TWO, 6, 4, activation="gelu"),
    "no hidden layer": lambda: _mlp(MLPRegressor, NUMBERS),
    "two outputs": lambda: _mlp(MLPRegressor, PAIRS, 6, 4, loss="huber"),
    "poisson": lambda: _mlp(MLPRegressor, np.abs(NUMBERS), 6, loss="poisson"),
    "past layers": lambda: _mlp(MLPClassifier, LABELS, 6, 6, dropout=0.3, residual=True),
    "frozen": lambda: _network(NetworkClassifier, _frozen(), TABLE, LABELS),
    "dropout": lambda: _network(
        NetworkClassifier, _stack(nn.Linear(6), nn.Dropout(0.5), nn.SiLU()), TABLE, LABELS
    ),
    "no bias": lambda: _network(
        NetworkRegressor, _stack(nn.Linear(6, bias=False), nn.Tanh(), out=1), TABLE, NUMBERS
    ),
}

OTHERS = {
    "shared": lambda: _network(NetworkRegressor, Tied(), TABLE, NUMBERS),
    "normalised": lambda: _network(
        NetworkClassifier, _stack(nn.Linear(6), nn.LayerNorm(), nn.Tanh()), TABLE, LABELS
    ),
    "normalised by an estimator": lambda: _mlp(MLPClassifier, LABELS, 6, 5, layer_norm=True),
    "by batch": lambda: _network(
        NetworkClassifier, _stack(nn.Linear(6), nn.BatchNorm1d(), nn.Tanh()), TABLE, LABELS
    ),
    "images": lambda: _network(
        NetworkClassifier,
        _stack(nn.Conv2d(3, 3), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten()),
        IMAGES,
        LABELS,
    ),
    "series": lambda: _network(
        NetworkRegressor,
        _stack(nn.Linear(4), nn.TransformerBlock(2), nn.Flatten(), out=2),
        SERIES,
        PAIRS,
    ),
    "positions": lambda: _network(
        NetworkClassifier, _stack(nn.Linear(4), nn.Tanh(), nn.Flatten()), SERIES, LABELS
    ),
    "padded": lambda: _network(NetworkRegressor, Padded(), PADDED, NUMBERS, mask_value=-9.0),
    "several inputs": lambda: _network(NetworkRegressor, Shop(), SEVERAL, NUMBERS),
    "in parts that run again": lambda: _network(
        NetworkClassifier,
        _stack(nn.Checkpoint(nn.Sequential(nn.Linear(6), nn.BatchNorm1d(), nn.Tanh()))),
        TABLE,
        LABELS,
    ),
}

CSR = scipy.sparse.random(N, 5, 0.4, "csr", random_state=1)


def on_tensors(model, X):
    """The raw output as a tensor, as in predict, and the inputs of numbers, as leaves."""
    given = model._network.named(X)
    given = given if isinstance(given, dict) else {"": given}
    leaves = {
        name: Tensor(one, requires_grad=True) if one.dtype.kind == "f" else one
        for name, one in ((name, np.asarray(one)) for name, one in given.items())
    }
    if "mask" in leaves:
        leaves["mask"] = given["mask"].astype(np.float64)
    with nn.training(False):
        z = model.module_(leaves[""]) if "" in leaves else model.module_(**leaves)
    return z, {name: one for name, one in leaves.items() if isinstance(one, Tensor)}


def loss_of_one(model, X, y, i):
    """The loss of sample i alone, without the penalty, as a tensor of parameters."""
    one = {k: v[i : i + 1] for k, v in X.items()} if isinstance(X, dict) else X[i : i + 1]
    z, _ = on_tensors(model, one)
    row, attributes = model._network.loss
    target = model._targets(np.asarray(y[i : i + 1]), z.dtype, fresh=False, complete=False).values
    return call(row, (z, target), tuple(attributes.items())).sum()
