"""Estimators of any network: what they train, what they are given, and scikit-learn's contract."""

import ast
import copy
import inspect
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from helpers import IRIS, short_training
from sklearn.base import clone
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    _core,
    fit,
    nn,
    ops,
    optim,
)
from fastbp.estimators.networks import dense
from fastbp.nn.rows import rows
from fastbp.train.options import OPTIONS
from fastbp.train.state import TrainingState

pytestmark = short_training

X, Y = IRIS
KINDS = [NetworkClassifier, NetworkRegressor]
over_kinds = pytest.mark.parametrize("kind", KINDS)


def network(n_outputs=3, *, p=0.1):
    return nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Dropout(p), nn.Linear(n_outputs))


def small(**given):
    return NetworkClassifier(network(), **{"batch_size": 16, "random_state": 5} | given)


def flat(model):
    return model.module_._home.settle()


def assert_same(a, b):
    np.testing.assert_array_equal(flat(a), flat(b))
    assert a.history_ == b.history_
    for name in ("t_", "loss_", "best_loss_", "validation_scores_", "best_validation_score_"):
        assert getattr(a, name) == getattr(b, name)


# ---------------------------------------------------------------------------------- scikit-learn's


@parametrize_with_checks(
    [
        NetworkClassifier(),
        NetworkRegressor(),
        NetworkClassifier(optimizer="lbfgs", alpha=1.0),
        NetworkRegressor(clip_norm=1.0, memory_limit=10**8, decay_factors={"*.bias": 0.0}),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@over_kinds
def test_representations(kind):
    model = kind(network(), alpha=0.5)
    assert repr(model).startswith(f"{kind.__name__}(alpha=0.5,")
    assert "Sequential" in estimator_html_repr(model)
    copied = clone(model)
    assert copied.network is not model.network
    assert copied.get_params()["network__2__p"] == 0.1
    assert model.set_params(network__0__out_features=5).network[0].out_features == 5
    assert copied.network[0].out_features == 8


def test_model_selection():
    pipeline = make_pipeline(
        StandardScaler(), NetworkClassifier(network(), learning_rate_init=0.02, random_state=0)
    )
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.8
    grid = {"network__0__out_features": [2, 6], "network__1": [nn.ReLU(), nn.SiLU()]}
    search = GridSearchCV(NetworkClassifier(network(), max_epochs=5), grid, cv=2, n_jobs=2)
    best = search.fit(X, Y).best_estimator_
    assert best.module_[0].weight.shape == (4, search.best_params_["network__0__out_features"])


@over_kinds
def test_docstrings_tell_every_parameter_with_its_default(kind):
    doc = inspect.getdoc(kind)
    for name, parameter in inspect.signature(kind).parameters.items():
        line = re.search(rf"^{name} : .*default=(.*)$", doc, re.MULTILINE)
        assert line, name
        assert ast.literal_eval(line[1]) == parameter.default, name
    frame = pd.DataFrame(X, columns=list("abcd"))
    for name in vars(kind(max_epochs=1).fit(frame, Y)):
        if name.endswith("_") and not name.startswith("_"):
            assert re.search(rf"^{name} : ", doc, re.MULTILINE), name
    for row in rows("rule"):
        assert f"'{row}'" in doc
    assert not re.search(r"<\w+>|<shared|max_iter|max_fun|solver", doc)


# ------------------------------------------------------------------------------------- the network


@over_kinds
def test_the_given_network_stays_as_it_is(kind):
    given = network(3 if kind is NetworkClassifier else 1)
    model = kind(given, max_epochs=2).fit(X, Y)
    assert given._home is None
    assert model.network is given
    assert model.module_ is not given
    first = flat(model).copy()
    model.fit(X, Y)  # anew
    assert not np.array_equal(first, flat(model))


def test_fine_tuning_starts_from_the_values_of_the_given_network():
    given = network().build(4, seed=9).freeze("0")
    before = given._home.flat.copy()
    model = NetworkClassifier(given, max_epochs=3).fit(X, Y)
    np.testing.assert_array_equal(given._home.flat, before)
    np.testing.assert_array_equal(model.module_[0].weight.data, given[0].weight.data)
    assert not np.array_equal(model.module_[3].weight.data, given[3].weight.data)
    assert flat(model).dtype == np.float32  # that of the network, though X has float64
    assert flat(NetworkClassifier(given, dtype="float64").fit(X, Y)).dtype == np.float64


def test_training_is_that_of_fit():
    model = small(max_epochs=4, schedule=optim.InverseScaling(0.1), dtype="float32").fit(X, Y)
    module = network().build(4, seed=5)
    result = fit(
        module,
        "softmax_cross_entropy",
        X.astype(np.float32),
        Y,
        schedule=optim.InverseScaling(0.1),
        alpha=0.0001,
        batch_size=16,
        max_epochs=4,
    )
    np.testing.assert_array_equal(flat(model), module._home.flat)
    assert model.loss_curve_ == result.history["loss"]


TECHNIQUES = {
    "clipped": {"clip_norm": 0.1},
    "clipped elements": {"clip_value": 0.01, "optimizer": "sgd"},
    "groups": {"rate_factors": {"*": 0.5, "0": 0.0}, "decay_factors": {"*.bias": 3.0, "3": 0.0}},
    "several batches": {"accumulate": 3, "history": "step"},
    "decay": {"optimizer": "adamw", "decay_factors": {"0": 0.0}},
}


@pytest.mark.parametrize("given", TECHNIQUES.values(), ids=TECHNIQUES)
def test_techniques_are_those_of_fit(given):
    given = {"alpha": 0.3, "learning_rate_init": 0.05} | given
    model = small(max_epochs=3, dtype="float32", **given).fit(X, Y)
    module = network().build(4, seed=5)
    given = {"batch_size": 16, "max_epochs": 3} | given
    result = fit(module, "softmax_cross_entropy", X.astype(np.float32), Y, **given)
    np.testing.assert_array_equal(flat(model), module._home.flat)
    assert model.history_ == result.history
    plain = {"alpha": 0.3, "learning_rate_init": 0.05, "optimizer": given.get("optimizer", "adam")}
    without = small(max_epochs=3, dtype="float32", **plain).fit(X, Y)
    assert not np.array_equal(flat(model), flat(without))


def test_a_limit_of_memory_is_kept_with_the_bits_of_none(monkeypatch):
    cut = []

    class Spy(_core.Training):
        def __init__(self, *data, **given):
            cut.append((given["batch_size"], given["accumulate"]))

    monkeypatch.setattr("fastbp.train.stochastic._core.Training", Spy)
    rng = np.random.default_rng(0)
    many, y = rng.standard_normal((1024, 4)).astype(np.float32), rng.integers(0, 3, 1024)
    given = {"batch_size": 1024, "max_epochs": 2, "n_threads": 1}
    free = small(**given).fit(many, y)
    # Of twice 512 samples: the plan says what is taken, the data not counted.
    total = free._network.compiled.memory(512, accumulate=2, optimizer="adam", n_samples=1024)
    limit = total["total"]
    held = small(memory_limit=limit, **given).fit(many, y)
    np.testing.assert_array_equal(flat(free), flat(held))
    assert cut == [(1024, 1), (512, 2)]
    with pytest.raises(ValueError, match=r"memory_limit: found 1000 bytes, wanted at least"):
        small(memory_limit=1000, **given).fit(many, y)


def test_lbfgs_is_that_of_fit():
    def quiet(n_outputs=3):
        return nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(n_outputs))

    model = NetworkClassifier(quiet(), optimizer="lbfgs", tol=1e-3, random_state=5).fit(X, Y)
    module = quiet().build(4, seed=5, dtype=np.float64)
    result = fit(
        module,
        "softmax_cross_entropy",
        X,
        Y,
        optimizer="lbfgs",
        alpha=0.0001,
        tol=1e-3,
        max_epochs=200,
    )
    np.testing.assert_array_equal(flat(model), module._home.flat)
    assert model.history_ == result.history == {"loss": model.history_["loss"]}
    assert model.n_iter_ == result.n_epochs < 200
    assert model.score(X, Y) > 0.95
    for name in ("loss_curve_", "best_loss_", "validation_scores_", "partial_fit"):
        assert not hasattr(model, name)
    before = pickle.loads(pickle.dumps(model))
    model.set_params(warm_start=True).fit(X, Y)
    assert model.loss_ <= before.loss_ and model.n_iter_ < before.n_iter_
    # What it cannot do leaves the model as it was.
    history = model.history_
    model.module_ = network().build(4, dtype=np.float64)
    with pytest.raises(ValueError, match="found 'lbfgs' for a network with 'dropout'"):
        model.fit(X, Y)
    assert model.history_ is history
    for name, value in {"batch_size": 16, "early_stopping": True, "clip_norm": 1.0}.items():
        with pytest.raises(ValueError, match=f"{name}: found {value} beside optimizer='lbfgs'"):
            NetworkClassifier(quiet(), optimizer="lbfgs", **{name: value}).fit(X, Y)


def test_without_arguments_it_is_a_multilayer_perceptron():
    # The same network trains to the same weights, whichever estimator it is in.
    model = NetworkClassifier(max_epochs=3, random_state=0, batch_size=32).fit(X, Y)
    assert [one.shape for one in model.module_.parameters().values()] == [
        (4, 100),
        (100,),
        (100, 3),
        (3,),
    ]
    values = dense(4, 3).build(4, seed=0, dtype=np.float64).parameters()
    twin = MLPClassifier(100, max_iter=3, random_state=0, batch_size=32, warm_start=True)
    twin.fit(X, Y)
    for i, (weight, bias) in enumerate(zip(twin.coefs_, twin.intercepts_, strict=True)):
        weight[...] = values[f"{2 * i}.weight"].data
        bias[...] = values[f"{2 * i}.bias"].data
    twin._training_state = TrainingState(0)  # as if these had been drawn
    twin.fit(X, Y)
    np.testing.assert_array_equal(flat(model), twin._views.flat)
    assert model.loss_curve_ == twin.loss_curve_


def test_a_function_is_told_the_sizes():
    told = []

    def made(sizes, n_outputs):
        told.append((sizes, n_outputs))
        return nn.Sequential(nn.Lambda(lambda x: x.reshape(-1, 4)), nn.Linear(n_outputs))

    NetworkClassifier(made, max_epochs=1).fit(X, Y)
    NetworkClassifier(made, max_epochs=1).fit(X.reshape(-1, 2, 2), Y == 0)
    NetworkRegressor(made, max_epochs=1).fit(X, np.c_[Y, Y])
    assert told == [(4, 3), ((2, 2), 1), (4, 2)]


# --------------------------------------------------------------------------------------------- data


def test_samples_of_several_axes():
    digits, y = load_digits(return_X_y=True)
    images = (digits / 16).reshape(-1, 8, 8).astype(np.float32)
    halves = nn.Sequential(nn.Lambda(lambda x: x.reshape(-1, 64)), nn.Linear(10))
    model = NetworkClassifier(halves, learning_rate_init=0.01, max_epochs=30, random_state=0)
    model.fit(images, y)
    assert model.score(images, y) > 0.9
    assert model.n_features_in_ == 8
    rows_alone = np.concatenate([model.predict_proba(images[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(rows_alone, model.predict_proba(images)[:20])
    with pytest.raises(ValueError, match="X"):
        model.predict(images[:, :, :7])
    with pytest.raises(ValueError, match="7 features"):
        model.predict(images[:, :7])


class Sum(nn.Module):
    """A linear layer on the sum over the positions that count."""

    def forward(self, x, mask=None):
        kept = x if mask is None else x * mask.reshape(-1, mask.shape[1], 1)
        w = self.parameter("w", (x.shape[2], 1), "he_normal")
        return ops.linear(kept.sum(axis=1), w)


def test_a_padded_x_has_a_mask():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((120, 6, 2))
    lengths = rng.integers(2, 7, 120)
    padding = np.arange(6) >= lengths[:, None]
    series[0, 0, 1] = -9.0  # one value alone is no padding
    y = np.where(padding[..., None], 0, series).sum(axis=(1, 2))
    series[padding] = -9.0
    given = {"max_epochs": 400, "learning_rate_init": 0.05, "random_state": 0}
    model = NetworkRegressor(Sum(), mask_value=-9.0, **given)
    assert model.fit(series, y).score(series, y) > 0.999
    w = model.module_.w.data[:, 0]
    expected = np.where(padding[..., None], 0, series).sum(axis=1) @ w
    # Sums of a dozen float64 numbers near 10.
    np.testing.assert_allclose(model.predict(series), expected, atol=1e-12)
    assert NetworkRegressor(Sum(), **given).fit(series, y).score(series, y) < 0.9
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(series), model.predict(series))
    with pytest.raises(ValueError, match=r"mask_value=0.0: found a Linear .*\(x\)"):
        NetworkRegressor(nn.Linear(1), mask_value=0.0).fit(X, Y)
    with pytest.raises(ValueError, match=r"mask_value=0.0: found X as csr"):
        NetworkRegressor(Sum(), mask_value=0.0).fit(scipy.sparse.csr_matrix(X), Y)


class Looking(nn.Module):
    """A row of a table for each word, summed, beside numbers."""

    def forward(self, words, numbers):
        table = self.parameter("table", (5, 2), 0.0)
        return ops.embedding(words, table).sum(axis=(1, 2)).reshape(-1, 1) + numbers.sum(
            axis=1, keepdims=True
        )


def test_a_dict_of_inputs_some_of_them_looked_up():
    rng = np.random.default_rng(0)
    given = {"words": rng.integers(0, 5, (200, 3)), "numbers": rng.integers(0, 3, (200, 2))}
    y = given["numbers"].sum(axis=1) + np.array([3.0, 1, -1, 0, 2])[given["words"]].sum(axis=1)
    model = NetworkRegressor(
        Looking(), max_epochs=300, learning_rate_init=0.05, alpha=0.0, random_state=0
    )
    assert model.fit(given, y).score(given, y) > 0.999
    assert flat(model).dtype == np.float32
    assert not hasattr(model, "n_features_in_")
    assert model.module_.table.data.sum(axis=1).round().tolist() == [3, 1, -1, 0, 2]
    few = {name: one[:7] for name, one in given.items()}
    swapped = dict(reversed(few.items()))
    np.testing.assert_array_equal(model.predict(swapped), model.predict(few))
    with pytest.raises(ValueError, match="'numbers'"):
        model.predict({"words": given["words"]})
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit({**given, "words": given["words"][:9]}, y)
    with pytest.raises(ValueError, match=r"X\['numbers'\] contains NaN"):
        model.fit({**given, "numbers": given["numbers"] * np.nan}, y)
    with pytest.raises(ValueError, match=r"X\['words'\] holds values of dtype <U"):
        model.fit({**given, "words": given["words"].astype(str)}, y)
    held = clone(model).set_params(early_stopping=True, max_epochs=4)
    held.fit(given, y, sample_weight=np.where(y > 0, 2.0, 1.0))
    assert len(held.validation_scores_) == 4
    assert max(held.validation_scores_) == held.best_validation_score_
    array = NetworkRegressor(max_epochs=1).fit(X, Y)
    assert array.n_features_in_ == 4
    array.set_params(network=Looking()).fit(given, y)
    assert not hasattr(array, "n_features_in_")


def test_sparse_and_dense_samples_are_the_same():
    few = np.where(X > 0.5, X, 0)
    model = small(max_epochs=5).fit(scipy.sparse.csr_matrix(few), Y)
    proba = model.predict_proba(few)
    # The network is compiled for either form; a sparse row's sums skip its zeros.
    np.testing.assert_allclose(model.predict_proba(scipy.sparse.csc_matrix(few)), proba, rtol=1e-12)
    twin = small(max_epochs=5).fit(few, Y)
    np.testing.assert_allclose(proba, twin.predict_proba(few), rtol=1e-9)
    single = small(max_epochs=2, dtype="float32").fit(scipy.sparse.csr_matrix(few), Y)
    assert single.predict_proba(scipy.sparse.csr_matrix(few)).dtype == np.float32


def test_what_is_to_be_learnt():
    _, labels = make_multilabel_classification(150, n_classes=3, random_state=0)
    several = NetworkClassifier(network(), max_epochs=2).fit(X, labels)
    assert several.predict(X).shape == several.predict_proba(X).shape == (150, 3)
    words = np.array(["a", "b", "c"])[Y]
    model = small(max_epochs=60, learning_rate_init=0.02).fit(X, words)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.score(X, words) > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))
    hinge = NetworkClassifier(network(1), loss="hinge", max_epochs=2).fit(X, Y == 0)
    assert hinge.decision_function(X).shape == (150,)
    assert not hasattr(hinge, "predict_proba")
    two = NetworkRegressor(network(2), loss="huber", loss_params={"delta": 0.5}, max_epochs=2)
    assert two.fit(X, np.c_[Y, Y]).predict(X).shape == (150, 2)
    predict = model.predictor()
    np.testing.assert_array_equal(predict(X[:5]), model.predict(X[:5]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predict))(X), model.predict(X))


# --------------------------------------------------------------------------------- training goes on

CASES = {
    "rule": {"optimizer": "momentum", "optimizer_params": {"momentum": 0.5}},
    "schedule": {"schedule": optim.InverseScaling(0.1), "n_threads": 2},
    "plateau": {"schedule": optim.ReduceOnPlateau(0.5, patience=0)},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.5},
    "score": {"early_stopping": True, "schedule": optim.ReduceOnPlateau(0.5, "max", patience=0)},
    "float32": {"dtype": "float32", "optimizer": "lion", "history": "step"},
    "groups": {"rate_factors": {"0": 0.3}, "decay_factors": {"*": 2.0}, "clip_norm": 0.5},
    "several batches": {"accumulate": 2, "optimizer": "nadam"},
}


@pytest.mark.parametrize("given", CASES.values(), ids=CASES)
def test_three_epochs_and_three_more_equal_six(given):
    given = {"warm_start": True} | given
    whole, halves = small(max_epochs=6, **given), small(max_epochs=3, **given)
    whole.fit(X, Y)
    halves = pickle.loads(pickle.dumps(halves.fit(X, Y))).fit(X, Y)
    assert_same(halves, whole)
    assert (halves.n_iter_, whole.n_iter_) == (3, 6)
    assert_same(small(max_epochs=6, **given | {"warm_start": False}).fit(X, Y), whole)
    for model in (halves, whole):
        model.set_params(max_epochs=2).fit(X, Y)
    assert_same(halves, whole)


def test_a_plateau_follows_what_is_held_out():
    model = small(max_epochs=12, **CASES["score"]).fit(X, Y)
    expected = CASES["score"]["schedule"].rates(model.history_["validation_score"])[:-1]
    assert model.history_["learning_rate"] == expected.tolist()
    assert expected[-1] < expected[0]


def test_partial_fit_keeps_the_state_and_equals_fit():
    whole, parts = small(max_epochs=4).fit(X, Y), small()
    for i in range(4):
        parts.partial_fit(X, Y, classes=np.unique(Y))
        if i == 1:
            parts = pickle.loads(pickle.dumps(parts))
    assert_same(parts, whole)
    assert parts.n_iter_ == 1


def test_pickles_are_small_and_share_nothing(tmp_path):
    model = NetworkClassifier(max_epochs=2, warm_start=True).fit(X, Y)
    n_bytes = flat(model).nbytes
    assert 3 * n_bytes < len(pickle.dumps(model)) < 3 * n_bytes + 6000
    model.set_params(warm_start=False).fit(X, Y)
    assert n_bytes < len(pickle.dumps(model)) < n_bytes + 6000
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
        twin.module_[0].weight.data[0, 0] += 1
        assert not np.array_equal(twin.predict_proba(X), model.predict_proba(X))
    model.set_params(warm_start=True)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not flat(mapped).flags.writeable
    np.testing.assert_array_equal(mapped.predict_proba(X), model.predict_proba(X))
    assert_same(mapped.fit(X, Y), model.fit(X, Y))


def test_the_module_may_be_edited_and_frozen():
    model = small(max_epochs=2, warm_start=True).fit(X, Y)
    before = model.predict_proba(X)
    model.module_[0].weight.data = np.zeros((4, 8))
    assert not np.array_equal(model.predict_proba(X), before)
    assert np.ptp(model.predict_proba(X), axis=0).max() == 0  # nothing of X is left
    loss = nn.SoftmaxCrossEntropy()(model.module_(X), Y)
    model.partial_fit(X, Y)
    with pytest.raises(RuntimeError, match="changed"):  # the weights since then
        loss.backward()
    model.module_[0].weight.data = np.zeros((4, 8))
    model.module_.freeze("0")
    model.fit(X, Y)
    assert not model.module_[0].weight.data.any()
    model.module_.parameters()["3.bias"].data[0] = np.nan
    with pytest.raises(ValueError, match=r"module_: parameter '3.bias' holds infinite or NaN"):
        model.fit(X, Y)


# ------------------------------------------------------------------------------------------- errors

BAD = {
    "network": ["dense", 3],
    "loss": ["mse", None],
    "loss_params": [{"sigma": 1.0}],
    "optimizer": ["newton", None],
    "optimizer_params": [{"beta": 0.5}, {"beta_1": 2.0}, 3],
    "learning_rate_init": [0.0, np.nan],
    "schedule": [0.1, "constant"],
    "alpha": [-1.0],
    "rate_factors": [{"hidden": 2.0}, {"*": -1.0}, 0.5],
    "decay_factors": [{"hidden": 2.0}, {"*": np.nan}, [1.0]],
    "clip_norm": [0.0, np.inf, "1"],
    "clip_value": [0.0, -1],
    "batch_size": [0, "all"],
    "accumulate": [0, 1.5],
    "memory_limit": [0, 1e6],
    "max_epochs": [0, 2.5],
    "shuffle": [1],
    "random_state": [-1],
    "tol": [-1.0],
    "n_iter_no_change": [0],
    "early_stopping": ["yes"],
    "validation_fraction": [1.0],
    "warm_start": [2],
    "mask_value": ["nan", np.nan],
    "verbose": [-1],
    "n_threads": [0],
    "dtype": ["float16"],
    "history": ["batch"],
}


def test_every_parameter_has_a_rule():
    assert set(BAD) == set(NetworkClassifier().get_params()) == set(NetworkRegressor().get_params())
    told = {"network", "loss", "loss_params", "optimizer", "optimizer_params", "schedule"}
    told |= {"rate_factors", "decay_factors"}
    assert set(BAD) - told <= set(OPTIONS)


@over_kinds
@pytest.mark.parametrize("name", BAD)
def test_a_wrong_parameter_is_named_with_what_was_found(kind, name):
    for value in BAD[name]:
        with pytest.raises((ValueError, TypeError), match=name) as raised:
            kind(**{name: value}).fit(X, Y)
        if not isinstance(value, dict):
            assert repr(value) in str(raised.value)


class Pair(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(1)

    def forward(self, x):
        return {"one": self.layer(x), "two": self.layer(x)}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (NetworkClassifier(network(2)), ["network", "(2,)", "(3,)"]),
        (NetworkRegressor(network(3)), ["network", "(3,)", "(1,)"]),
        (
            NetworkClassifier(nn.Sequential(nn.Linear(2), nn.Lambda(lambda z: z.sum(axis=1)))),
            ["network", "(n,)", "(n, 1)"],
        ),
        (NetworkRegressor(Pair()), ["loss", "'one', 'two'"]),
        (NetworkRegressor(lambda *_: None), ["network", "NoneType", "Module"]),
        (NetworkClassifier(clip_norm=1.0, clip_value=1.0), ["clip_norm", "clip_value"]),
        (NetworkClassifier(accumulate=2), ["accumulate", "found 2", "1 batches"]),
        (NetworkClassifier(loss="huber"), ["NetworkClassifier", "'huber'", "MLPRegressor"]),
        (
            NetworkRegressor(schedule=optim.ReduceOnPlateau(1.0, mode="max")),
            ["schedule", "early_stopping"],
        ),
    ],
    ids=lambda value: "" if isinstance(value, list) else type(value).__name__,
)
def test_what_does_not_fit(model, words):
    with pytest.raises((ValueError, TypeError)) as raised:
        model.fit(X, Y)
    for word in words:
        assert word in str(raised.value)
    assert not hasattr(model, "n_features_in_")
    assert not hasattr(model, "module_")


def test_what_cannot_go_on():
    model = NetworkRegressor(network(1), max_epochs=1, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match=r"found an output of shape \(1,\)"):
        model.fit(X, np.c_[Y, Y])
    with pytest.raises(ValueError, match="3 features"):
        model.fit(X[:, :3], Y)
    with pytest.raises(ValueError, match="dtype='float32'"):
        model.set_params(dtype="float32").fit(X, Y)
    with pytest.raises(ValueError, match="early_stopping"):
        model.set_params(early_stopping=True).partial_fit(X, Y)
    with pytest.warns(UserWarning, match="max_epochs=1 epochs"):
        MLPRegressor(3, max_iter=1).fit(X, Y)
        NetworkRegressor(max_epochs=1).fit(X, Y)
