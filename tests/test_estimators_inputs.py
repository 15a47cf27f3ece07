"""What the estimators take and give back: kinds of arrays, labels and dtypes, weights, history."""

import ast
import doctest
import inspect
import os
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

import fastbp
from fastbp import MLPClassifier, MLPRegressor, _core
from fastbp.estimators.losses import CLASSIFICATION, REGRESSION
from fastbp.estimators.regressor import r2
from fastbp.nn.initializers import INITIALIZERS
from fastbp.nn.rows import rows
from fastbp.train import threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
BOTH = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def fitted(kind, features=X, y=Y, **given):
    return kind(6, max_iter=5, random_state=0, batch_size=32, **given).fit(features, y)


# ---------------------------------------------------------------------------------------- features


def wide(a):
    """`a` as every second column and row of a larger array."""
    whole = np.zeros((2 * a.shape[0], 2 * a.shape[1]), a.dtype)
    whole[::2, ::2] = a
    return whole[::2, ::2]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


DENSE = {
    "fortran": np.asfortranarray,
    "strided": wide,
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "list": lambda a: a.tolist(),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "object": lambda a: a.astype(object),
}


@BOTH
@pytest.mark.parametrize("layout", DENSE)
def test_every_layout_gives_the_same_bits(kind, layout):
    other = DENSE[layout](X)
    plain, model = fitted(kind), fitted(kind, other)
    assert plain.loss_curve_ == model.loss_curve_
    assert np.array_equal(plain.predict(X), plain.predict(other))


@BOTH
@DTYPES
def test_dense_arrays_reach_the_engine_uncopied(kind, dtype, monkeypatch, tmp_path):
    seen = []
    training, predict = _core.Training, _core.Plan.predict

    def watched(plan, params, features, *args, **kwargs):
        seen.append(features)
        return training(plan, params, features, *args, **kwargs)

    monkeypatch.setattr("fastbp.train.stochastic._core.Training", watched)
    stored = np.memmap(tmp_path / "x", dtype=dtype, mode="w+", shape=X.shape)
    stored[...] = X
    arrays = [f(X.astype(dtype)) for f in (np.asarray, np.asfortranarray, wide, read_only)]
    for features in [*arrays, np.memmap(tmp_path / "x", dtype=dtype, mode="r", shape=X.shape)]:
        model = fitted(kind, features)
        assert np.shares_memory(seen[-1], features)
        assert model.coefs_[0].dtype == dtype
        model.predict(features)
    assert predict is _core.Plan.predict


@BOTH
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.csc_array])
@DTYPES
def test_sparse_features_stay_sparse(kind, form, dtype, monkeypatch):
    features = np.where(np.abs(X) > 0.8, X, 0).astype(dtype)

    def never(*args, **kwargs):
        raise AssertionError("made dense")

    dense = fitted(kind, features)
    with monkeypatch.context() as patch:
        for sparse in (sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.csc_array):
            patch.setattr(sparse, "toarray", never)
        model = fitted(kind, form(features))
        answer = model.predict(form(features))
    # Sums over stored entries alone: the same numbers, without adding zeros.
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(model.loss_curve_, dense.loss_curve_, rtol=tolerance)
    np.testing.assert_allclose(answer, dense.predict(features), rtol=tolerance, atol=tolerance)
    # A model takes either kind, whichever it was fitted to.
    np.testing.assert_allclose(model.predict(features), answer, rtol=tolerance, atol=tolerance)


def test_sparse_features_can_be_held_out():
    features = np.where(np.abs(X) > 0.8, X, 0)
    dense, sparse = (
        fitted(MLPClassifier, f, early_stopping=True) for f in (features, sp.csc_array(features))
    )
    np.testing.assert_allclose(sparse.validation_scores_, dense.validation_scores_, rtol=1e-12)


def test_unsorted_and_repeated_entries():
    data, columns, starts = [1.0, 2.0, 3.0, 4.0], [3, 0, 1, 1], [0, 2, 4]
    messy = sp.csr_matrix((data, columns, starts), shape=(2, 4))
    clean = messy.toarray()
    model = MLPRegressor(6, max_iter=5).fit(np.tile(clean, (3, 1)), np.arange(6.0))
    np.testing.assert_allclose(model.predict(messy), model.predict(clean), rtol=1e-12)
    assert messy.indices.tolist() == columns  # the user's matrix is left alone


@BOTH
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_data_frames(kind, frame):
    names = ["a", "b", "c", "d"]
    table = frame(dict(zip(names, X.T, strict=True)))
    series = (pd.Series if frame is pd.DataFrame else pl.Series)(Y)
    model = fitted(kind, table, series)
    assert model.feature_names_in_.tolist() == names
    assert model.loss_curve_ == fitted(kind).loss_curve_
    assert np.array_equal(model.predict(table), fitted(kind).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table[names[::-1]])
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X)


@BOTH
def test_dtypes(kind):
    single = X.astype(np.float32)
    for features, asked, wanted in [
        (single, None, np.float32),
        (single, "float64", np.float64),
        (X, np.float32, np.float32),
        (X, None, np.float64),
        (X, np.dtype("float64"), np.float64),
        (X.astype(np.float16), None, np.float64),
        (np.round(X).astype(int), None, np.float64),
    ]:
        model = fitted(kind, features, dtype=asked)
        assert {a.dtype for a in model.coefs_ + model.intercepts_} == {np.dtype(wanted)}
        answers = [model.predict(features)] if kind is MLPRegressor else []
        if kind is MLPClassifier:
            answers += [model.predict_proba(features), model.predict_log_proba(features)]
        for other in (single, X):
            answers += [model.predict(other)] if kind is MLPRegressor else []
        assert {a.dtype for a in answers} == {np.dtype(wanted)}
    warm = fitted(kind, single, warm_start=True).fit(X, Y)
    assert warm.coefs_[0].dtype == np.float32


# ------------------------------------------------------------------------------------------ labels


def test_labels_of_any_kind():
    names = np.array(["setosa", "versicolor", "virginica"])
    plain = fitted(MLPClassifier)
    for labels in (names[Y], names[Y].astype(object), pd.Series(names[Y]), pl.Series(names[Y])):
        model = fitted(MLPClassifier, X, labels)
        assert model.classes_.tolist() == names.tolist()
        assert np.array_equal(model.predict(X), names[plain.predict(X)])
    model = fitted(MLPClassifier, X, Y * 10 - 7)
    assert np.array_equal(model.predict(X), plain.predict(X) * 10 - 7)
    two = fitted(MLPClassifier, X, Y > 0)
    assert two.predict(X).dtype == bool
    assert two.n_outputs_ == 1
    one = fitted(MLPClassifier, X, np.full(len(Y), "same"))
    assert one.predict(X).tolist() == ["same"] * len(Y)


def test_a_column_of_labels_is_taken_with_a_warning():
    with pytest.warns(UserWarning, match="column-vector"):
        model = fitted(MLPClassifier, X, Y[:, None])
    assert model.loss_curve_ == fitted(MLPClassifier).loss_curve_


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_multilabel(form, loss):
    features, indicators = make_multilabel_classification(80, 5, n_classes=4, random_state=0)
    model = fitted(MLPClassifier, features, form(indicators), loss=loss)
    answer = model.predict(features)
    assert sp.issparse(answer) == (form is sp.csr_matrix)
    answer = answer.toarray() if sp.issparse(answer) else answer
    assert answer.shape == indicators.shape
    assert answer.dtype == np.int64
    assert set(np.unique(answer)) <= {0, 1}
    assert model.n_outputs_ == 4
    assert model.score(features, indicators) == accuracy_score(indicators, answer)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", CLASSIFICATION)
@DTYPES
def test_classifier_outputs_agree(classes, loss, dtype):
    y = np.minimum(Y, classes - 1)
    model = MLPClassifier(8, loss=loss, learning_rate_init=0.02, random_state=0, dtype=dtype)
    model.fit(X, y)
    assert model.score(X, y) > 0.9
    if rows("loss")[CLASSIFICATION[loss].independent]["link"] == "identity":
        scores = model.decision_function(X)
        assert scores.dtype == dtype
        assert scores.shape == ((150,) if classes == 2 else (150, 3))
        wanted = (scores > 0).astype(int) if classes == 2 else scores.argmax(axis=1)
        assert not hasattr(model, "predict_proba")
        assert not hasattr(model, "predict_log_proba")
        assert model.out_activation_ == "identity"
    else:
        proba = model.predict_proba(X)
        assert proba.dtype == dtype
        assert proba.shape == (150, classes)
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(model.predict_log_proba(X), np.log(proba))
        wanted = proba.argmax(axis=1)
        assert not hasattr(model, "decision_function")
        assert model.out_activation_ == ("logistic" if classes == 2 else "softmax")
    assert np.array_equal(model.predict(X), wanted)


@pytest.mark.parametrize("loss", REGRESSION)
@DTYPES
def test_regression_losses(loss, dtype):
    y = np.exp(0.5 * X[:, 0]) + 0.1 * X[:, 1] ** 2
    model = MLPRegressor(16, loss=loss, random_state=0, learning_rate_init=0.01, dtype=dtype)
    model.fit(X, y)
    assert model.score(X, y) > 0.8
    assert model.predict(X).dtype == dtype
    assert model.out_activation_ == ("exp" if loss == "poisson" else "identity")
    both = fitted(MLPRegressor, X, np.c_[y, y], loss=loss, dtype=dtype)
    assert both.predict(X).shape == (150, 2)


def test_quantiles_are_quantiles():
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(2000, 1))
    y = rng.exponential(size=2000)
    for quantile in (0.2, 0.9):
        model = MLPRegressor(
            8, loss="quantile", loss_params={"quantile": quantile}, random_state=0, batch_size=500
        ).fit(features, y)
        # The share below is a mean of 2000 coin tosses: 0.009 of standard deviation at the most.
        assert np.mean(y < model.predict(features)) == pytest.approx(quantile, abs=0.05)


# ------------------------------------------------------------------------------------------- bits


@BOTH
@DTYPES
def test_a_row_alone_is_predicted_as_in_a_batch(kind, dtype):
    model = kind((50, 20), max_iter=3, random_state=0, dtype=dtype).fit(X, Y)
    answer = model.predict if kind is MLPRegressor else model.predict_proba
    whole = answer(X)
    for i in range(len(X)):
        assert np.array_equal(whole[i], answer(X[i : i + 1])[0])
    order = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(whole[order], answer(np.asfortranarray(X[order])))
    assert np.array_equal(whole[::7], answer(X[::7]))


@BOTH
@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "lbfgs"])
def test_the_number_of_threads_changes_no_bit(kind, solver):
    models = [
        kind((70, 30), max_iter=4, solver=solver, random_state=0, n_threads=n).fit(X, Y)
        for n in (1, 2, 5)
    ]
    for model in models[1:]:
        assert np.array_equal(model._parameters.flat, models[0]._parameters.flat)
        assert model.history_ == models[0].history_
        assert np.array_equal(model.predict(X), models[0].predict(X))


# ---------------------------------------------------------------------------------------- weights


def test_edits_of_the_weights_take_effect():
    model = fitted(MLPRegressor)
    for array in model.coefs_ + model.intercepts_:
        assert np.shares_memory(array, model._parameters.flat)
        assert array.flags.writeable
    before = model.predict(X)
    model.coefs_[1] *= 2  # in place, through the list
    model.intercepts_[1][...] = 3.0
    np.testing.assert_allclose(model.predict(X) - 3.0, 2 * (before - before_bias(model, before)))
    kept = model.coefs_
    model.coefs_ = [np.zeros((4, 6)), np.zeros((6, 1))]
    assert np.array_equal(model.predict(X), np.full(150, 3.0))
    assert model.coefs_ is not kept
    model.coefs_[1] = np.ones((6, 1), dtype=int)  # another dtype is converted
    model.intercepts_ = (np.ones(6), np.zeros(1))
    assert np.array_equal(model.predict(X), np.full(150, 6.0))
    for array in model.coefs_ + list(model.intercepts_):
        assert np.shares_memory(array, model._parameters.flat)


def before_bias(model, before):
    """The last bias that `test_edits_of_the_weights_take_effect` had before its edits."""
    return fitted(MLPRegressor).intercepts_[1][0] + 0 * before


def test_swapped_layers_are_copied_with_care():
    model = MLPRegressor((4, 4), max_iter=1, random_state=0).fit(X, Y)
    first, second = model.coefs_[0].copy(), model.coefs_[1].copy()
    model.coefs_ = [model.coefs_[1], model.coefs_[0], model.coefs_[2]]
    model.predict(X)
    assert np.array_equal(model.coefs_[0], second)
    assert np.array_equal(model.coefs_[1], first)


def test_attributes():
    model = fitted(MLPClassifier, early_stopping=True)
    assert (model.n_layers_, model.n_outputs_, model.n_features_in_) == (3, 3, 4)
    assert model.n_params_ == 4 * 6 + 6 + 6 * 3 + 3 == sum(a.size for a in all_weights(model))
    assert [a.shape for a in model.coefs_] == [(4, 6), (6, 3)]
    assert [a.shape for a in model.intercepts_] == [(6,), (3,)]
    assert model.t_ == 5 * 135
    assert set(model.history_) == {"loss", "learning_rate", "validation_loss", "validation_score"}
    assert all(len(values) == 5 for values in model.history_.values())
    assert model.loss_curve_[-1] == model.loss_


def all_weights(model):
    return model.coefs_ + model.intercepts_


def test_loss_decreases_and_is_logged():
    model = fitted(MLPClassifier, history="step", solver="sgd", learning_rate="invscaling")
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    steps = np.reshape(model.history_["step_loss"], (5, 5))
    sizes = np.array([32, 32, 32, 32, 22])
    np.testing.assert_allclose((steps * sizes).sum(axis=1) / 150, model.loss_curve_, rtol=1e-14)
    rates = 0.001 / (150 * np.arange(5) + 1) ** 0.5
    np.testing.assert_allclose(model.history_["learning_rate"], rates, rtol=1e-15)


def test_epochs_run_in_blocks(monkeypatch):
    blocks = []

    class Watched(_core.Training):
        def run(self, rates, **given):
            blocks.append(len(rates))
            return super().run(rates, **given)

    monkeypatch.setattr("fastbp.train.stochastic._core.Training", Watched)
    given = {"max_iter": 200, "random_state": 0, "tol": 0.0}
    model = MLPClassifier(6, n_iter_no_change=10, **given).fit(X, Y)
    # A steadily falling loss: 11 epochs until it might be time to stop, and again.
    assert blocks == [11] * 18 + [2]
    assert model.n_iter_ == 200
    blocks.clear()
    MLPClassifier(6, n_iter_no_change=np.inf, **given).fit(X, Y)
    assert blocks == [200]


@pytest.mark.parametrize("epochs", [1, 3, 9, 10, 25])
def test_verbose_prints_every_epoch_of_any_number(epochs, capsys):
    MLPRegressor(3, max_iter=epochs, n_iter_no_change=30, verbose=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Iteration {i + 1}" for i in range(epochs)]


@DTYPES
def test_sgd_is_the_update_by_hand(dtype):
    """R9, R60: w - rate * gradient, in the same bits."""
    model = MLPClassifier(7, solver="sgd", momentum=0.0, alpha=0.01, random_state=0, dtype=dtype)
    model.set_params(learning_rate_init=0.25, shuffle=False, batch_size=150)
    problem = model._gradient_problem(X, Y, dtype=dtype)
    gradient = np.empty_like(problem.params)
    loss = problem.plan.loss_gradient(
        problem.params, problem.X, problem.y, alpha=0.01, grad=gradient
    )
    model.partial_fit(X, Y, classes=np.unique(Y))
    rate = gradient.dtype.type(0.25)
    np.testing.assert_array_equal(model._parameters.flat, problem.params - rate * gradient)
    assert model.loss_ == pytest.approx(loss, rel=1e-14)


def test_looking_changes_nothing_and_nothing_accumulates():
    """R120, R121: there is no gradient to be zeroed and no mode to be switched."""
    watched = MLPClassifier(6, random_state=0, batch_size=32)
    alone = clone(watched)
    for _ in range(3):
        watched.partial_fit(X, Y, classes=np.unique(Y))
        first = watched.predict_proba(X)
        watched.inspect(X, Y)
        watched.score(X, Y)
        assert np.array_equal(watched.predict_proba(X), first)
        alone.partial_fit(X, Y, classes=np.unique(Y))
    assert np.array_equal(watched._parameters.flat, alone._parameters.flat)


@DTYPES
@pytest.mark.parametrize("classes", [2, 3])
def test_certain_and_wrong_is_a_finite_loss(dtype, classes):
    """R47, R53: probabilities of 0 and 1, from raw outputs of 1e4 and more."""
    y = np.minimum(Y, classes - 1)
    model = MLPClassifier((), random_state=0, dtype=dtype, alpha=0.0, warm_start=True, max_iter=1)
    model.fit(X, y)
    model.coefs_[0][...] = 0
    model.intercepts_[0][...] = np.array([1e4, -1e4, 0.0])[: model.n_outputs_]
    proba = model.predict_proba(X)
    assert np.isin(proba, (0.0, 1.0)).all()
    np.testing.assert_array_equal(proba.sum(axis=1), 1)
    model.fit(X, y)
    # Each sample of another class than the certain one costs its distance: 1e4, or 2e4 for class 1.
    wanted = 1e4 * np.mean(y == 0) if classes == 2 else np.mean(np.array([0.0, 2e4, 1e4])[y])
    assert model.loss_ == pytest.approx(wanted, rel=1e-6)


def test_adamw_decays_instead_of_penalising():
    # One step from known weights: with alpha, each is smaller by rate * alpha of itself.
    given = {"solver": "adamw", "max_iter": 1, "random_state": 0, "learning_rate_init": 0.1}
    plain = MLPRegressor(3, alpha=0.0, **given)
    start = plain._gradient_problem(X, Y).params
    plain.fit(X, Y)
    decayed = MLPRegressor(3, alpha=0.5, **given).fit(X, Y)
    assert plain.loss_curve_ == decayed.loss_curve_
    difference = plain._parameters.flat - decayed._parameters.flat
    np.testing.assert_allclose(difference, 0.05 * start, rtol=1e-9, atol=1e-15)


def test_early_stopping_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    target, prediction = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    target[:, 2] = 1.0
    weight = rng.uniform(size=30)
    for w in (None, weight):
        assert r2(prediction, target, w) == pytest.approx(
            r2_score(target, prediction, sample_weight=w), rel=1e-12
        )
    assert np.isnan(r2(np.full((30, 3), np.inf), target, None))


def test_inspect_shows_the_pass():
    model = fitted(MLPClassifier, X, Y == 1, alpha=0.0)
    weight = np.linspace(0.5, 2, len(Y))
    first, last = model.inspect(X, Y == 1, weight)
    np.testing.assert_allclose(first["z"], X @ model.coefs_[0] + model.intercepts_[0], rtol=1e-10)
    np.testing.assert_array_equal(first["a"], np.maximum(first["z"], 0))
    np.testing.assert_allclose(last["a"][:, 0], model.predict_proba(X)[:, 1], rtol=1e-10)
    delta = (last["a"][:, 0] - (Y == 1)) * weight / weight.sum()
    np.testing.assert_allclose(last["delta"][:, 0], delta, rtol=1e-9)
    back = last["delta"] @ model.coefs_[1].T * (first["z"] > 0)
    np.testing.assert_allclose(first["delta"], back, rtol=1e-9, atol=1e-18)


# --------------------------------------------------------------------------------- initial weights


@pytest.mark.parametrize("name", INITIALIZERS)
def test_weight_init(name):
    model = MLPRegressor((500, 400), "tanh", weight_init=name, random_state=0)
    problem = model._gradient_problem(X, Y)
    tensors = {t["name"]: t for t in problem.plan.tensors}
    start = tensors["layer1.weight"]["offset"]
    weights = problem.params[start : start + 500 * 400]
    wanted = {"glorot": 2 / 900, "he": 2 / 500, "lecun": 1 / 500}[name.split("_")[0]]
    # The relative error of a standard deviation from 200,000 draws is at most 0.16 %.
    assert weights.std() == pytest.approx(np.sqrt(wanted), rel=0.01)
    assert abs(weights.mean()) < 5 * np.sqrt(wanted / 200_000)
    if name.endswith("uniform"):
        assert np.abs(weights).max() <= np.sqrt(3 * wanted)
    for tensor in problem.plan.tensors[1::2]:
        biases = problem.params[tensor["offset"] : tensor["offset"] + tensor["shape"][0]]
        assert biases.any() == (name == "glorot_uniform")  # scikit-learn draws them


@pytest.mark.parametrize(
    ("name", "activation"),
    [("he_normal", "relu"), ("he_uniform", "relu"), ("lecun_normal", "selu")],
)
def test_variance_is_kept_through_fifty_layers(name, activation):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 256))
    model = MLPRegressor((256,) * 50, activation, weight_init=name, random_state=0, max_iter=1)
    model.set_params(solver="sgd", learning_rate_init=1e-30).fit(features, features[:, 0])
    squares = [np.mean(layer["a"] ** 2) for layer in model.inspect(features, features[:, 0])[:-1]]
    # He keeps the mean square from layer to layer up to a factor 1 + O(1/256) each: a random walk
    # of 50 steps of some 10 %.
    assert 0.2 < squares[-1] / squares[0] < 5


def test_glorot_keeps_the_signal_of_tanh():
    rng = np.random.default_rng(0)
    features = 0.1 * rng.standard_normal((200, 256))
    model = MLPRegressor((256,) * 50, "tanh", weight_init="glorot_normal", random_state=0)
    model.set_params(max_iter=1, solver="sgd", learning_rate_init=1e-30)
    layers = model.fit(features, features[:, 0]).inspect(features, features[:, 0])
    # tanh shrinks its input a little at every layer; with the variance kept, not by orders.
    assert 0.1 < layers[49]["a"].std() / layers[0]["a"].std() < 2


# ------------------------------------------------------------------------------------ other things


def test_threads_are_resolved(monkeypatch):
    assert threads.resolve(7) == 7
    monkeypatch.setattr(threads._core, "max_threads", lambda: 8)
    monkeypatch.setattr(threads, "_usable_cores", lambda: 6)
    assert threads.resolve(None) == 6
    monkeypatch.setattr(threads._core, "max_threads", lambda: 3)
    assert threads.resolve(None) == 3


def test_threads_share_the_cores_among_joblibs_threads(monkeypatch):
    from joblib import Parallel, delayed

    monkeypatch.setattr(threads._core, "max_threads", lambda: 8)
    monkeypatch.setattr(threads, "_usable_cores", lambda: 8)
    for n_jobs, share in ((2, 4), (3, 2), (16, 1)):
        work = Parallel(n_jobs, backend="threading")
        assert set(work(delayed(threads.resolve)(None) for _ in range(2 * n_jobs))) == {share}
    assert threads.resolve(None) == 8


def test_threads_share_the_cores_among_joblibs_processes():
    from joblib import Parallel, cpu_count, delayed, parallel_config

    work = Parallel(2, backend="loky")
    assert work(delayed(threads.resolve)(None) for _ in range(2)) == [max(1, cpu_count() // 2)] * 2
    with parallel_config("loky", inner_max_num_threads=1):
        assert Parallel(2)(delayed(threads.resolve)(None) for _ in range(2)) == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, of fork with threads
def test_a_forked_child_trains_on_one_thread_with_the_same_bits():
    from multiprocessing import get_context

    wanted = fitted(MLPRegressor, n_threads=2)  # the parent has a team, of which the child has none
    with get_context("fork").Pool(1) as pool:
        model = pool.apply_async(fitted, (MLPRegressor,)).get(timeout=60)
        told = [pool.apply_async(warnings_of_resolve).get(timeout=60) for _ in range(2)]
        asked = pool.apply_async(fitted, (MLPRegressor,), {"n_threads": 2})
        with pytest.raises(RuntimeError, match="fork"):
            asked.get(timeout=60)
    assert np.array_equal(model._parameters.flat, wanted._parameters.flat)
    assert told == [[], []]  # since the fit before was told


def warnings_of_resolve():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert threads.resolve(None) == 1
    return [str(warning.message) for warning in caught if warning.category is UserWarning]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, of fork with threads
def test_a_forked_child_is_told_once():
    from multiprocessing import get_context

    for _ in range(2):  # once a process
        with get_context("fork").Pool(1) as pool:
            told = [pool.apply_async(warnings_of_resolve).get(timeout=60) for _ in range(2)]
        (message,), nothing = told
        assert "spawn" in message
        assert "loky" in message
        assert not nothing
    assert not _core.in_forked_child()


def test_threads_obey_limits():
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        assert threads.resolve(None) == 1


def test_model_selection():
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier(8, learning_rate_init=0.02, random_state=0)
    )
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.8
    search = GridSearchCV(MLPRegressor(4, max_iter=5), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2)
    assert search.fit(X, Y).best_params_["alpha"] in (0.1, 1.0)


@BOTH
def test_representations(kind):
    model = kind((3, 4), alpha=0.5)
    assert repr(model) == f"{kind.__name__}(alpha=0.5, hidden_layer_sizes=(3, 4))"
    assert "hidden_layer_sizes" in estimator_html_repr(model)
    assert clone(model).get_params() == model.get_params()
    assert kind().set_params(n_threads=2).n_threads == 2


@BOTH
def test_docstrings_tell_every_parameter_with_its_default(kind):
    doc = inspect.getdoc(kind)
    for name, parameter in inspect.signature(kind).parameters.items():
        line = re.search(rf"^(?:\w+, )?{name}(?:, \w+)? : .*$", doc, re.MULTILINE)
        assert line, name
        names, described = line[0].split(" : ")
        defaults = described.split("default=")[1].split(", ")
        told = defaults[names.split(", ").index(name)]
        assert ast.literal_eval(told) == parameter.default, name
    for name in vars(fitted(kind, pd.DataFrame(X, columns=list("abcd")))):
        if name.endswith("_") and not name.startswith("_"):
            assert re.search(rf"^{name} : ", doc, re.MULTILINE), name
    for row in rows("activation"):
        assert f"'{row}'" in doc
    assert "<shared" not in doc
    assert doctest.DocTestFinder().find(kind)[0].examples


def test_public_names():
    estimators = {"MLPClassifier", "MLPRegressor"}
    assert set(fastbp.__all__) == estimators | {"NonFiniteError", "check_gradients"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", fastbp.__version__)


def test_unaligned_arrays_are_copied():
    records = np.zeros(len(X), dtype=[("tag", "i1"), ("x", X.dtype, (X.shape[1],))])
    records["x"] = X
    assert not records["x"].flags.aligned
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(3, max_iter=2, random_state=0).fit(records["x"], X[:, 0])
        same = MLPRegressor(3, max_iter=2, random_state=0).fit(X, X[:, 0])
    np.testing.assert_array_equal(model.predict(records["x"]), same.predict(X))


@pytest.mark.parametrize(("activation", "dead"), [("relu", 7), ("leaky_relu", 0), ("gelu", 0)])
def test_dead_units(activation, dead):
    # R41: biases far below zero silence units of relu for good; others still learn.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(20, activation=activation, max_iter=1, random_state=0).fit(X, Y)
    model.coefs_[0][:, :7] /= 10
    model.intercepts_[0][:7] = -2
    hidden = model.inspect(X, Y)[0]
    assert np.count_nonzero((hidden["delta"] == 0).all(axis=0)) == dead
