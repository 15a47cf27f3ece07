"""Estimators of any network: what they train, what they are given, and scikit-learn's contract."""

import ast
import inspect
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from helpers import IRIS, flat, short_training, small, small_network
from sklearn.base import clone
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
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


# ---------------------------------------------------------------------------------- scikit-learn's


@parametrize_with_checks(
    [
        NetworkClassifier(),
        NetworkRegressor(),
        # Each iteration of L-BFGS magnifies the rounding by which weights differ from repetition,
        # which is to be below 1e-7 in each hidden unit that `transform` shows.
        NetworkClassifier(optimizer="lbfgs", alpha=1.0, max_epochs=20),
        NetworkRegressor(clip_norm=1.0, memory_limit=10**8, decay_factors={"*.bias": 0.0}),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@over_kinds
def test_representations(kind):
    model = kind(small_network(), alpha=0.5)
    assert repr(model).startswith(f"{kind.__name__}(alpha=0.5,")
    assert "Sequential" in estimator_html_repr(model)
    copied = clone(model)
    assert copied.network is not model.network
    assert copied.get_params()["network__2__p"] == 0.1
    assert model.set_params(network__0__out_features=5).network[0].out_features == 5
    assert copied.network[0].out_features == 8


def test_model_selection():
    pipeline = make_pipeline(
        StandardScaler(),
        NetworkClassifier(small_network(), learning_rate_init=0.02, random_state=0),
    )
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.8
    grid = {"network__0__out_features": [2, 6], "network__1": [nn.ReLU(), nn.SiLU()]}
    search = GridSearchCV(NetworkClassifier(small_network(), max_epochs=5), grid, cv=2, n_jobs=2)
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
    given = small_network(3 if kind is NetworkClassifier else 1)
    model = kind(given, max_epochs=2).fit(X, Y)
    assert given._home is None
    assert model.network is given
    assert model.module_ is not given
    first = flat(model).copy()
    model.fit(X, Y)  # anew
    assert not np.array_equal(first, flat(model))


def test_fine_tuning_starts_from_the_values_of_the_given_network():
    given = small_network().build(4, seed=9).freeze("0")
    before = given._home.flat.copy()
    model = NetworkClassifier(given, max_epochs=3).fit(X, Y)
    np.testing.assert_array_equal(given._home.flat, before)
    np.testing.assert_array_equal(model.module_[0].weight.data, given[0].weight.data)
    assert not np.array_equal(model.module_[3].weight.data, given[3].weight.data)
    assert flat(model).dtype == np.float32  # that of the network, though X has float64
    assert flat(NetworkClassifier(given, dtype="float64").fit(X, Y)).dtype == np.float64


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


def test_fields_of_a_structured_array_are_inputs_that_can_be_split():
    rng = np.random.default_rng(0)
    given = {"words": rng.integers(0, 5, (200, 3)), "numbers": rng.integers(0, 3, (200, 2))}
    y = given["numbers"].sum(axis=1) + np.array([3.0, 1, -1, 0, 2])[given["words"]].sum(axis=1)
    # A byte before them, so that no field is aligned.
    table = np.zeros(200, [("words", "i8", 3), ("flag", "i1"), ("numbers", "f8", 2)])
    for name, one in given.items():
        table[name] = one
    table = table[["numbers", "words"]]
    given["numbers"] = given["numbers"].astype(float)
    model = NetworkRegressor(
        Looking(), max_epochs=60, learning_rate_init=0.05, alpha=0.0, random_state=0
    )
    whole = clone(model).fit(table, y)
    np.testing.assert_array_equal(flat(whole), flat(clone(model).fit(given, y)))
    np.testing.assert_array_equal(whole.predict(table), whole.predict(given))
    assert not hasattr(whole, "n_features_in_")
    # By hand what the splitter does.
    scores = []
    for train, test in KFold(3).split(y):
        parts = [{name: one[rows] for name, one in given.items()} for rows in (train, test)]
        scores.append(clone(model).fit(parts[0], y[train]).score(parts[1], y[test]))
    np.testing.assert_array_equal(cross_val_score(model, table, y, cv=KFold(3)), scores)
    grid = {"learning_rate_init": [1e-4, 0.05], "network": [Looking()]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2).fit(table, y)
    assert search.best_params_["learning_rate_init"] == 0.05
    assert search.score(table, y) > 0.9
    X_train, X_test, y_train, y_test = train_test_split(table, y, random_state=0)
    assert clone(model).fit(X_train, y_train).score(X_test, y_test) > 0.9
    with pytest.raises(ValueError, match=r"X: found a dict with \['words'\], wanted"):
        whole.predict(table[["words"]])
    table["numbers"][3] = np.nan
    with pytest.raises(ValueError, match=r"X\['numbers'\] contains NaN"):
        whole.predict(table)


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
    several = NetworkClassifier(small_network(), max_epochs=2).fit(X, labels)
    assert several.predict(X).shape == several.predict_proba(X).shape == (150, 3)
    words = np.array(["a", "b", "c"])[Y]
    model = small(max_epochs=60, learning_rate_init=0.02).fit(X, words)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.score(X, words) > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))
    hinge = NetworkClassifier(small_network(1), loss="hinge", max_epochs=2).fit(X, Y == 0)
    assert hinge.decision_function(X).shape == (150,)
    assert not hasattr(hinge, "predict_proba")
    two = NetworkRegressor(small_network(2), loss="huber", loss_params={"delta": 0.5}, max_epochs=2)
    assert two.fit(X, np.c_[Y, Y]).predict(X).shape == (150, 2)
    predict = model.predictor()
    np.testing.assert_array_equal(predict(X[:5]), model.predict(X[:5]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predict))(X), model.predict(X))


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
    "precision": ["float16", None],
    "verbose": [-1],
    "n_threads": [0],
    "dtype": ["float16"],
    "history": ["batch"],
    "validation_cv": [3],
    "scoring": ["right"],
    "max_seconds": [0],
    "calibration": ["sigmoid"],
    "standardize": ["yes"],
    "allow_nan": [None],
    "categorical_features": ["object"],
    "class_weight": ["even"],
}


def test_every_parameter_has_a_rule():
    assert set(BAD) == set(NetworkClassifier().get_params())
    assert set(BAD) - {"class_weight", "calibration"} == set(NetworkRegressor().get_params())
    told = {"network", "loss", "loss_params", "optimizer", "optimizer_params"}
    told |= {"rate_factors", "decay_factors"}
    assert set(BAD) - told <= set(OPTIONS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in (NetworkClassifier, NetworkRegressor)
        for name in kind().get_params()
    ],
)
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
        (NetworkClassifier(small_network(2)), ["network", "(2,)", "(3,)"]),
        (NetworkRegressor(small_network(3)), ["network", "(3,)", "(1,)"]),
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
    model = NetworkRegressor(small_network(1), max_epochs=1, warm_start=True).fit(X, Y)
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
