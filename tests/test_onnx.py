"""`to_onnx`: onnxruntime gives what the estimators give, in float32."""

import os
import sys

import numpy as np
import pytest
import scipy.sparse

from fastbp import (
    Function,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    nn,
    ops,
)
from fastbp.estimators.exporting.rows import CONVERTERS
from fastbp.nn.rows import rows
from fastbp.nn.runs import Tracing

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' has it")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'test' has it")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
N = 40
TABLE = rng.standard_normal((N, 6)).astype(np.float32)
SERIES = rng.standard_normal((N, 7, 4)).astype(np.float32)
PADDED = SERIES.copy()
PADDED[:20, 4:] = -9.0
PADDED[5] = -9.0
HOLES = PADDED.copy()
HOLES[20:30, 2] = -9.0
IMAGES = rng.standard_normal((N, 8, 6, 4)).astype(np.float32)
TOKENS = rng.integers(0, 9, (N, 7))
CLASSES = np.arange(N) % 3
VALUES = TABLE.sum(axis=1)
SHOP = {"town": rng.integers(-5, 5, N), "sizes": TABLE[:, :3]}


def session(model):
    made = model.to_onnx()
    onnx.checker.check_model(made, full_check=True)
    return onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def run(model, X):
    """The outputs of onnxruntime by name."""
    inputs = X if isinstance(X, dict) else {"X": X}
    runs = session(model)
    assert [one.name for one in runs.get_inputs()] == [*inputs]
    names = [one.name for one in runs.get_outputs()]
    whole = dict(zip(names, runs.run(None, inputs), strict=True))
    one = runs.run(None, {name: given[:1] for name, given in inputs.items()})
    for name, found in zip(names, one, strict=True):
        assert found.shape == (1, *whole[name].shape[1:])
    return whole


# Sums of some tens of products in float32 by another order: each rounds by 6e-8 of what is summed,
# and a few layers follow each other. Ten times less than what users are promised.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def agree(model, X):
    found = run(model, X)
    if isinstance(model, (MLPRegressor, NetworkRegressor)):
        wanted = np.asarray(model.predict(X), np.float64)
        assert [*found] == ["variable"] and found["variable"].dtype == np.float32
        scale = np.abs(wanted).max()
        assert np.allclose(found["variable"], wanted.reshape(len(wanted), -1), 1e-5, 1e-5 * scale)
        return
    told = "probabilities" if hasattr(model, "predict_proba") else "scores"
    assert [*found] == ["label", told]
    wanted = model.predict_proba(X) if told == "probabilities" else model.decision_function(X)
    assert found[told].shape == wanted.shape
    assert np.allclose(found[told], wanted, **CLOSE)
    labels = model.predict(X)
    labels = labels.toarray() if scipy.sparse.issparse(labels) else labels
    assert found["label"].shape == labels.shape
    near = np.ones(len(labels), bool)  # where rounding could not decide
    if wanted.ndim == 2 and wanted.shape[1] > 1:
        near = np.abs(np.sort(wanted, axis=1)[:, -1] - np.sort(wanted, axis=1)[:, -2]) > 1e-4
    assert near.sum() > N / 2 and (found["label"][near] == labels[near]).all()


WORDS = np.array(["red", "green", "blue"])[CLASSES]


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (WORDS, str),
        (WORDS.astype(object), str),
        (CLASSES - 1, np.int64),
        (CLASSES * 2.0, np.float32),
        (CLASSES > 0, np.bool_),
        (np.array(["no", "yes"])[CLASSES // 2], str),
        (np.full(N, 7), np.int64),
        ((TABLE[:, :4] > 0).astype(int), np.int64),
    ],
    ids=["words", "objects", "integers", "floats", "bools", "two", "one", "labels"],
)
@pytest.mark.parametrize("loss", ["log_loss", "hinge", "focal"])
@pytest.mark.parametrize("kind_of", [MLPClassifier, NetworkClassifier])
def test_labels_and_probabilities(kind_of, loss, y, kind):
    if kind_of is MLPClassifier:
        model = kind_of((9,), max_iter=20, learning_rate_init=0.02, random_state=0, loss=loss)
    else:
        model = kind_of(max_epochs=20, learning_rate_init=0.02, random_state=0, loss=loss)
    model.fit(TABLE, y)
    agree(model, TABLE)
    label = run(model, TABLE)["label"]
    assert isinstance(label.flat[0], str) if kind is str else label.dtype == np.dtype(kind)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [*rows("activation")])
def test_activations(activation, dtype):
    params = {"slope": 0.2} if activation == "leaky_relu" else None
    params = {"alpha": 1.3} if activation == "elu" else params
    params = {"beta": 0.7} if activation == "silu" else params
    agree(
        MLPRegressor(
            (8, 5),
            activation,
            activation_params=params,
            max_iter=5,
            random_state=0,
            dtype=dtype,
            learning_rate_init=0.01,
        ).fit(TABLE, TABLE[:, :2]),
        TABLE,
    )


def test_architectures():
    model = MLPRegressor((6, 6, 4), ["tanh", "relu", "gelu"], dropout=0.1, max_iter=5)
    model.set_params(residual=True, layer_norm=True, random_state=0).fit(TABLE, VALUES)
    agree(model, TABLE)
    agree(model.set_params(layer_norm=False, batch_norm=True).fit(TABLE, VALUES), TABLE)


def test_links():
    model = MLPRegressor((5,), loss="poisson", max_iter=5, random_state=0)
    agree(model.fit(TABLE, abs(VALUES)), TABLE)


def test_sparse_samples_come_dense():
    model = MLPClassifier((5,), max_iter=5, random_state=0).fit(
        scipy.sparse.csr_array(TABLE), scipy.sparse.csr_array((TABLE[:, :2] > 0).astype(int))
    )
    agree(model, TABLE)


class Masked(nn.Module):
    def __init__(self, layer):
        self.layer, self.head = layer, nn.Linear(2)

    def forward(self, x, mask):
        return self.head(ops.reshape(self.layer(x, mask=mask), (x.shape[0], -1)))


class Shop(nn.Module):
    def __init__(self):
        self.town, self.head = nn.Embedding(5, 2), nn.Linear(2)

    def forward(self, town, sizes):
        return self.head(ops.concatenate([self.town(town), sizes], axis=1))


class Crossed(nn.Module):
    """Keys and values from elsewhere, of another length."""

    def __init__(self, causal):
        self.causal = causal
        self.attend, self.head = nn.MultiheadAttention(2, causal=causal), nn.Linear(2)

    def forward(self, x, mask=None):
        seen = None if mask is None else mask[:, 2:]
        y = self.attend(x, x[:, 2:], x[:, 2:], mask=seen)
        return self.head(ops.reshape(y, (x.shape[0], -1)))


class Text(nn.Module):
    def __init__(self):
        self.words, self.head = nn.Embedding(9, 4), Masked(nn.GRU(3))

    def forward(self, tokens, mask):
        return self.head(self.words(tokens), mask)


def then(*layers):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2))


def of(function):
    return then(nn.Lambda(function))


def mixed(x):  # (n, 7, 4)
    y = ops.transpose(x[:, ::-2, 1:], (0, 2, 1))
    z = ops.pad(y, (0, 1, 0), (0, 0, 2), 0.5)
    z = ops.concatenate([z, z * 2.0], axis=-1)
    return ops.broadcast(ops.sum(z, axis=1, keepdims=True), (x.shape[0], 3, z.shape[2]))


def taken(x):
    return ops.take(x, np.array([0, 3, -1]), axis=1)


class Along(nn.Module):
    """An element for each of the places that a sample lists."""

    def forward(self, x, places):
        return ops.take_along(x, places, axis=1) * self.parameter("scale", (2,), 1.5)


def compared(x):
    a, b = x[:, :3], x[:, 3:6]
    made = [a < b, a <= b, a > b, a >= b, ops.equal(ops.sign(a), ops.sign(b))]
    made += [ops.not_equal(ops.sign(a), ops.sign(b)), ops.where(a > 0, a, b)]
    made += [ops.maximum(a, b), ops.minimum(a, b), a / (1.0 + b * b), a - b]
    return ops.stack(made, axis=1)


def functions(x):
    positive = ops.absolute(x) + 0.1
    made = [ops.exp(x), ops.expm1(x), ops.log(positive), ops.log1p(positive), ops.erf(x), -x]
    made += [x**2, ops.sqrt(positive), ops.reciprocal(positive), positive**1.5]
    made += [ops.clip(x, -0.5, 0.7), ops.softmax(x, axis=1), ops.log_softmax(x, axis=-2)]
    made += [ops.square(x)]
    return ops.concatenate(made, axis=1)


def reduced(x):
    made = [ops.mean(x, axis=1), ops.max(x, axis=-2), ops.min(x, axis=1)]
    return ops.concatenate([*made, ops.logsumexp(x, axis=1), ops.sum(x, axis=1)], axis=1)


class Low(nn.Module):
    """What parameters alone make: a product of low rank, its columns normalised."""

    def forward(self, x):
        a = self.parameter("a", (6, 2), "he_normal")
        b = self.parameter("b", (3, 2), "he_normal")
        w = ops.matmul(a, ops.transpose(b, (1, 0)))
        w = w / ops.sqrt(ops.sum(ops.square(w), axis=0, keepdims=True) + 0.1)
        return ops.matmul(x, w)


def products(x):  # (n, 7, 4)
    return ops.matmul(x, ops.transpose(x, (0, 2, 1)))


NETWORKS = {
    "Conv2d": (
        then(
            nn.Conv2d(6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
            nn.BatchNorm2d(),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=1, padding=1),
            nn.AvgPool2d(2),
        ),
        IMAGES,
    ),
    "same": (then(nn.Conv2d(3, 3, padding="same", bias=False), nn.GlobalMaxPool()), IMAGES),
    "Conv1d": (
        then(
            nn.Conv1d(6, 3),
            nn.GroupNorm(3),
            nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=False),
            nn.AvgPool1d(2, padding=1),
        ),
        SERIES,
    ),
    "norms": (
        then(nn.LayerNorm(), nn.RMSNorm(), nn.BatchNorm1d(), nn.LayerNorm(bias=False)),
        SERIES,
    ),
    "dropout": (then(nn.Dropout(0.3), nn.AlphaDropout(0.2), nn.Residual(nn.Linear(4))), SERIES),
    "tokens": (
        then(
            *(nn.Embedding(9, 8, padding_idx=0), nn.SinusoidalEncoding(), nn.LearntEncoding()),
            *(nn.TransformerBlock(2, causal=True), nn.TransformerBlock(4, norm_first=False)),
        ),
        TOKENS,
    ),
    "GlobalAvgPool": (nn.Sequential(nn.GlobalAvgPool(), nn.Checkpoint(nn.Linear(2))), IMAGES),
    "mixed": (of(mixed), SERIES),
    "taken": (of(taken), SERIES),
    "compared": (of(compared), TABLE),
    "functions": (of(functions), SERIES),
    "reduced": (of(reduced), SERIES),
    "products": (of(products), SERIES),
    "low rank": (then(Low()), TABLE),
    "crossed": (Crossed(False), SERIES),
    "crossed causally": (Crossed(True), SERIES),
    "inputs": (Shop(), SHOP),
    "along": (Along(), {"x": TABLE, "places": rng.integers(-6, 6, (N, 2))}),
    **{
        f"{layer.__name__} {options}": (then(layer(5, **options)), SERIES)
        for layer in (nn.RNN, nn.GRU, nn.LSTM)
        for options in ({}, {"bidirectional": True, "num_layers": 2, "bias": False})
    },
    "relu": (then(nn.RNN(5, nonlinearity="relu", output="last")), SERIES),
}
MASKED = {
    **{
        layer.__name__: Masked(layer(5, bidirectional=True, bias=layer is not nn.GRU))
        for layer in (nn.RNN, nn.GRU, nn.LSTM)
    },
    "GRU, bias": Masked(nn.GRU(5, output="last")),
    "attention": Masked(nn.MultiheadAttention(2)),
    "causal": Masked(nn.TransformerBlock(2, causal=True)),
    "crossed": Crossed(True),
}


def trained(network, X, **options):
    model = NetworkRegressor(
        network, max_epochs=3, learning_rate_init=0.01, random_state=0, **options
    )
    return model.fit(X, TABLE[:, :2])


@pytest.mark.parametrize("name", [*NETWORKS])
def test_networks(name):
    network, X = NETWORKS[name]
    agree(trained(network, X), X)


@pytest.mark.parametrize("name", [*MASKED])
@pytest.mark.parametrize("X", [PADDED, HOLES], ids=["padded", "holes"])
def test_masks(name, X):
    agree(trained(MASKED[name], X, mask_value=-9.0), X)


def test_masks_of_tokens():
    agree(trained(Text(), TOKENS, mask_value=0), TOKENS)


def test_every_row_is_written():
    """Or named as one that is not; those that are written are met in the networks above."""
    known = {name for kind in ("op", "function", "activation") for name in rows(kind)}
    assert known - set(CONVERTERS) == {"moments"}
    met = set(rows("activation"))  # above, each by itself
    for network, X in [*NETWORKS.values(), *((one, PADDED) for one in MASKED.values())]:
        if network in MASKED.values():
            X = {"x": X, "mask": X[..., 0]}
        built = network.build(X)
        run = Tracing(built, np.dtype(np.float32), building=False)
        run.trace(built._built().inputs)
        met |= {name for name, _, _ in run.graph.nodes}
    assert set(CONVERTERS) - met == {"linear_csr"}  # which comes dense


HOLED = np.where(rng.random(TABLE.shape) < 0.1, np.nan, 3 * TABLE + 1).astype(np.float32)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", [MLPClassifier, NetworkRegressor])
def test_columns_scales_and_temperatures(kind, standardize):
    y = CLASSES if kind is MLPClassifier else 50 + 9 * TABLE[:, :2]
    model = kind(random_state=0, allow_nan=True, standardize=standardize)
    if kind is MLPClassifier:
        model.set_params(calibration="temperature", early_stopping=True)
    agree(model.fit(HOLED, y), HOLED)
    assert getattr(model, "temperature_", 2.0) != 1.0


def test_columns_of_categories_are_named():
    X = np.array([["a", 1.0], ["b", 2.0]] * 20, object)
    model = MLPRegressor(max_iter=1, categorical_features=[0], random_state=0).fit(X, VALUES)
    with pytest.raises(ValueError, match="categorical_features"):
        model.to_onnx()


class Rounded(Function, check=False):
    @staticmethod
    def forward(ctx, x):
        return np.round(x)

    @staticmethod
    def backward(ctx, dy):
        return dy


class Rounding(nn.Module):
    def forward(self, x):
        return Rounded.apply(x)


def test_what_has_no_form_in_onnx_is_named():
    model = trained(nn.Sequential(nn.Linear(3), Rounding(), nn.Linear(2)), TABLE)
    with pytest.raises(ValueError, match=r"module_\.1: found 'Rounded', which has no form in ONNX"):
        model.to_onnx()


def test_without_onnx_the_extra_is_named(monkeypatch):
    model = trained(nn.Linear(2), TABLE)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"fastbp\[onnx\]"):
        model.to_onnx()


def test_the_file_is_the_model(tmp_path):
    model = trained(nn.Linear(2), TABLE)
    made = model.to_onnx(tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == ["model.onnx"]
    assert onnx.load(tmp_path / "model.onnx") == made
    assert made.producer_name == "fastbp" and made.opset_import[0].version == 18


def test_weights_beyond_float32_are_refused():
    model = MLPRegressor((3,), max_iter=1, random_state=0).fit(TABLE.astype(np.float64), VALUES)
    model.coefs_[0][0, 0] = 1e300
    with pytest.raises(ValueError, match="not finite in float32"):
        model.to_onnx()
