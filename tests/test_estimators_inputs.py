"""What the estimators take: kinds of arrays and frames, dtypes, sample weights, labels.

What they refuse is in test_estimators_wrong_data.py.
"""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from helpers import IRIS, LAYOUTS, fitted, over_dtypes, over_estimators, short_training

from fastbp import MLPClassifier, MLPRegressor, _core

pytestmark = short_training

X, Y = IRIS


# ----------------------------------------------------------------------------------------- features


DENSE = {
    **LAYOUTS,
    "list": lambda a: a.tolist(),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "object": lambda a: a.astype(object),
}


@over_estimators
@pytest.mark.parametrize("layout", DENSE)
def test_every_layout_gives_the_same_bits(kind, layout):
    other = DENSE[layout](X)
    plain, model = fitted(kind), fitted(kind, other)
    assert plain.loss_curve_ == model.loss_curve_
    assert np.array_equal(plain.predict(X), plain.predict(other))


@over_estimators
@over_dtypes
def test_dense_arrays_reach_the_engine_uncopied(kind, dtype, monkeypatch, tmp_path):
    seen = []
    training = _core.Training

    def watched(plan, params, features, *args, **kwargs):
        seen.append(features)
        return training(plan, params, features, *args, **kwargs)

    monkeypatch.setattr("fastbp.train.stochastic._core.Training", watched)
    stored = np.memmap(tmp_path / "x", dtype=dtype, mode="w+", shape=X.shape)
    stored[...] = X
    arrays = [f(X.astype(dtype)) for f in (np.asarray, *LAYOUTS.values())]
    for features in [*arrays, np.memmap(tmp_path / "x", dtype=dtype, mode="r", shape=X.shape)]:
        model = fitted(kind, features)
        assert np.shares_memory(seen[-1], features)
        assert model.coefs_[0].dtype == dtype
        model.predict(features)


def test_unaligned_arrays_are_copied():
    records = np.zeros(len(X), dtype=[("tag", "i1"), ("x", X.dtype, (X.shape[1],))])
    records["x"] = X
    assert not records["x"].flags.aligned
    model = MLPRegressor(3, max_iter=2, random_state=0).fit(records["x"], X[:, 0])
    same = MLPRegressor(3, max_iter=2, random_state=0).fit(X, X[:, 0])
    np.testing.assert_array_equal(model.predict(records["x"]), same.predict(X))


@over_estimators
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.csc_array])
@over_dtypes
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
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
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


@over_estimators
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


@over_estimators
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


# ----------------------------------------------------------------------------------- sample weights


def test_a_number_weighs_all_alike():
    one, two = (MLPRegressor(3, max_iter=5, random_state=0, alpha=0.0) for _ in range(2))
    assert one.fit(X, Y, 1.0).loss_ == two.fit(X, Y).loss_


# ------------------------------------------------------------------------------------------- labels


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
