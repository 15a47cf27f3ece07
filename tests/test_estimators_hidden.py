"""`transform`: hidden layers of estimators, held against NumPy and tensors, and in company."""

import pickle

import numpy as np
import pandas as pd
import pytest
from helpers import IRIS, short_training, small, small_network
from looked_at import CSR, DENSE, LABELS, NUMBERS, OTHERS, PADDED, TABLE, on_tensors
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    Tensor,
    nn,
)

pytestmark = short_training

X, Y = IRIS
EPS = np.finfo(np.float64).eps


def mlp(kind=MLPClassifier, sizes=(6, 5), **given):
    return kind(sizes, "tanh", max_iter=3, random_state=0, **given).fit(X, Y)


# ------------------------------------------------------------------------------------- which layer


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_layers_of_a_multilayer_perceptron_are_those_of_numpy(kind):
    model = mlp(kind)
    z1 = X @ model.coefs_[0] + model.intercepts_[0]
    z2 = np.tanh(z1) @ model.coefs_[1] + model.intercepts_[1]
    z3 = np.tanh(z2) @ model.coefs_[2] + model.intercepts_[2]
    for layer, wanted in [
        (None, np.tanh(z2)),
        (-2, np.tanh(z2)),
        ("3", np.tanh(z2)),
        (2, z2),
        (1, np.tanh(z1)),
        (np.int64(0), z1),
        (-1, z3),
    ]:
        found = model.transform(X, layer=layer)
        # Sums of 5 to 7 terms of size 1, two after each other.
        np.testing.assert_allclose(found, wanted, rtol=0, atol=30 * EPS)
    np.testing.assert_array_equal(model.transform(X, layer=-1), model._output(X, raw=True))


PLAIN = {
    name: make
    for name, make in (DENSE | OTHERS).items()
    if name not in ("no hidden layer", "shared", "padded", "several inputs")
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_the_default_is_what_the_last_layer_reads(make):
    model, samples, _ = make()
    x = Tensor(np.asarray(samples))
    with nn.training(False):
        for layer in [*model.module_][:-1]:
            x = layer(x)
    found = model.transform(samples)
    assert found.shape == (len(samples), int(np.prod(x.shape[1:])))
    # Sums of up to some hundred terms.
    np.testing.assert_allclose(found, x.data.reshape(found.shape), rtol=0, atol=500 * EPS)


def test_parts_of_any_network_go_by_their_paths():
    model, samples, _ = OTHERS["several inputs"]()
    towns = model.transform(samples, layer="town")
    np.testing.assert_array_equal(towns, model.module_.town.weight.data[samples["town"]])
    z, _ = on_tensors(model, samples)
    np.testing.assert_array_equal(model.transform(samples, "head"), z.data)
    joined = np.concatenate([towns, samples["sizes"], samples["ages"] ** 2], axis=1)
    parameters = model.module_.parameters()
    wanted = joined @ parameters["hidden.weight"].data + parameters["hidden.bias"].data
    np.testing.assert_allclose(model.transform(samples, 1), wanted, rtol=0, atol=50 * EPS)
    np.testing.assert_allclose(model.transform(samples), np.tanh(wanted), rtol=0, atol=50 * EPS)

    model, samples, _ = OTHERS["padded"]()
    assert model.transform(samples, "read").shape == (24, 6 * 4)  # positions, then units
    assert model.transform(samples).shape == (24, 4)

    model, samples, _ = OTHERS["shared"]()
    w, b = (model.module_.parameters()[f"both.{name}"].data for name in ("weight", "bias"))
    wanted = np.tanh(samples @ w + b) @ w + b  # at its last call
    np.testing.assert_allclose(model.transform(samples, "both"), wanted, rtol=0, atol=50 * EPS)
    wanted = np.tanh(wanted) @ w.T
    np.testing.assert_allclose(model.transform(samples), wanted, rtol=0, atol=50 * EPS)


def test_what_a_matrix_made_of_others_reads_is_hidden():
    class Outwards(nn.Module):
        def __init__(self):
            self.first = nn.Linear(6, bias=False)

        def forward(self, x):
            return (self.first(x).tanh() @ self.first.weight.transpose(1, 0)).sum(
                axis=1, keepdims=True
            )

    model = NetworkRegressor(Outwards(), max_epochs=2, dtype="float64").fit(TABLE, NUMBERS)
    wanted = np.tanh(TABLE @ model.module_.first.weight.data)
    np.testing.assert_allclose(model.transform(TABLE), wanted, rtol=0, atol=50 * EPS)


def test_of_what_is_read_beside_a_mask_the_samples_are_hidden():
    class Summed(nn.Module):
        def __init__(self):
            self.read = nn.LSTM(4)

        def forward(self, x, mask):
            return self.read(x, mask)[:, -1].sum(axis=1, keepdims=True)

    model = NetworkRegressor(Summed(), mask_value=-9.0, max_epochs=1, dtype="float64")
    model.fit(PADDED, NUMBERS)
    parameters = model.module_.parameters()
    wanted = PADDED @ parameters["read.weight_ih_l0"].data + parameters["read.bias_l0"].data
    found = model.transform(PADDED)
    np.testing.assert_allclose(found, wanted.reshape(24, -1), rtol=0, atol=500 * EPS)


def test_what_transform_refuses():
    class Two(nn.Module):
        def __init__(self):
            self.split, self.head = nn.Lambda(lambda x: (x, x)), nn.Linear(3)
            self.same, self.idle = nn.Lambda(lambda x: x), nn.Linear(2)

        def forward(self, x):
            return self.head(self.same(self.split(x)[0]))

    model = NetworkClassifier(Two(), max_epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="network without a hidden layer, wanted one whose last"):
        model.transform(X)
    with pytest.raises(ValueError, match="'split', a part that returns tuple; wanted one with a"):
        model.transform(X, "split")
    with pytest.raises(ValueError, match="'same', which passes X on as it is"):
        model.transform(X, "same")
    with pytest.raises(ValueError, match=r"'idle', wanted the path of a part that runs, of \['"):
        model.transform(X, "idle")
    model = mlp()
    with pytest.raises(ValueError, match="found 5, wanted a place from -5 to 4: module_ has 5"):
        model.transform(X, 5)
    with pytest.raises(TypeError, match=r"layer: found 1.5, wanted the path of a part"):
        model.transform(X, 1.5)
    with pytest.raises(ValueError, match="features"):
        model.transform(X[:, :2])
    with pytest.raises(NotFittedError):
        MLPClassifier().transform(X)
    with pytest.raises(NotFittedError):
        MLPClassifier().get_feature_names_out()
    with pytest.raises(ValueError, match="without a hidden layer"):
        MLPRegressor((), max_iter=1).fit(X, Y).get_feature_names_out()


# ---------------------------------------------------------------------------------- of any samples


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_activations_of_a_sample_are_its_own(kind):
    model = mlp(kind, n_threads=2)
    whole = model.transform(X)
    for i in range(0, 150, 7):
        np.testing.assert_array_equal(model.transform(X[i : i + 1])[0], whole[i])
    assert mlp(n_threads=1).transform(X.astype(np.float32)).dtype == np.float64
    float32 = MLPClassifier(6, max_iter=2).fit(X.astype(np.float32), Y)
    assert float32.transform(X).dtype == np.float32


def test_sparse_samples():
    model = MLPClassifier(6, max_iter=3, random_state=0).fit(CSR, LABELS)
    wanted = np.maximum(CSR @ model.coefs_[0] + model.intercepts_[0], 0)
    for given in (CSR, CSR.toarray()):
        np.testing.assert_allclose(model.transform(given), wanted, rtol=0, atol=30 * EPS)
    assert len(model.get_feature_names_out()) == 6


def test_edited_weights_count_and_pickles_transform():
    model = mlp()
    before = model.transform(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), before)
    model.intercepts_[0] += 1
    assert not np.array_equal(model.transform(X), before)


# -------------------------------------------------------------------------------------- in company


def test_names_and_data_frames():
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = MLPClassifier((6, 5), max_iter=2, random_state=0).set_output(transform="pandas")
    found = model.fit_transform(frame, Y)
    assert [*found.columns] == [f"mlpclassifier{i}" for i in range(5)]
    assert [*model.get_feature_names_out()] == [*found.columns]
    np.testing.assert_array_equal(found, model.transform(frame, layer=3).to_numpy())
    other = model.transform(frame.iloc[7:], layer=1)
    assert [*other.columns] == [*model.get_feature_names_out(layer=1)]
    assert other.shape == (143, 6)
    assert [*other.index] == [*range(7, 150)]
    assert isinstance(clone(model).fit(frame, Y).transform(frame, layer=0), pd.DataFrame)
    with pytest.raises(ValueError, match="input_features"):
        model.get_feature_names_out(list("abce"))
    model.set_output(transform="default")
    assert isinstance(model.transform(frame, layer=1), np.ndarray)
    with config_context(transform_output="pandas"):
        assert model.transform(frame, layer=1).shape == (150, 6)


def test_in_pipelines_and_unions():
    network = MLPClassifier((6,), learning_rate_init=0.02, max_iter=50, random_state=0)
    pipeline = make_pipeline(StandardScaler(), network, LogisticRegression())
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.8
    union = FeatureUnion([("as it is", "passthrough"), ("net", small(max_epochs=2))])
    union.set_output(transform="pandas")
    found = union.fit_transform(pd.DataFrame(X, columns=list("abcd")), Y)
    assert found.shape == (150, 4 + 8)
    assert found.columns[-1] == "net__networkclassifier7"
    columns = ColumnTransformer([("net", clone(network), [0, 1])], remainder="passthrough")
    assert columns.fit(X, Y).transform(X).shape == (150, 6 + 2)


def test_pipelines_can_ask_for_a_layer():
    with config_context(enable_metadata_routing=True):
        network = NetworkClassifier(small_network(), max_epochs=2, random_state=0)
        pipeline = make_pipeline(StandardScaler(), network.set_transform_request(layer=True))
        pipeline.fit(X, Y)
        scaled = pipeline[0].transform(X)
        found = pipeline.transform(X, layer=0)
        np.testing.assert_array_equal(found, pipeline[1].transform(scaled, layer=0))
        assert not np.array_equal(found, pipeline.transform(X))
