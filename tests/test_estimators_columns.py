"""Data as it comes: columns of categories, with holes and on wild scales, and targets on such."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
CLASSIFIERS, REGRESSORS = [MLPClassifier, NetworkClassifier], [MLPRegressor, NetworkRegressor]
over_classifiers = pytest.mark.parametrize("kind", CLASSIFIERS)
over_regressors = pytest.mark.parametrize("kind", REGRESSORS)
RAW = {"standardize": True, "allow_nan": True, "categorical_features": "from_dtype"}


def made(kind, n_epochs=40, **given):
    limit = "max_iter" if issubclass(kind, (MLPClassifier, MLPRegressor)) else "max_epochs"
    return kind(**{limit: n_epochs, "random_state": 0, "learning_rate_init": 0.01, **given})


def people(n=300, seed=0):
    """A frame with numbers, holes, words, categories and truth values; and who is to be told."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "income": rng.lognormal(10, 1, n),
            "town": rng.choice(np.array(["Rome", "Oslo", "Lima", None]), n),
            "kind": pd.Categorical(rng.choice(list("ab"), n)),
            "member": rng.random(n) < 0.5,
        }
    )
    y = ((frame["town"] == "Rome") | frame["age"].gt(60)).to_numpy()
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    return frame, y


def in_polars(frame):
    lists = {name: frame[name].astype(object) for name in frame}
    return pl.DataFrame({k: v.where(v.notna(), None).tolist() for k, v in lists.items()})


@over_classifiers
def test_a_raw_frame(kind):
    frame, y = people()
    model = made(kind, **RAW).fit(frame, y)
    assert model.score(frame, y) > 0.95
    assert model.feature_names_in_.tolist() == [*frame]
    assert model.n_features_in_ == 5
    # Two numbers, one hole; four towns, None among them, two kinds, two truth values.
    assert next(iter(model.module_.parameters().values())).data.shape[0] == 2 + 1 + 4 + 2 + 2
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    each = [model.predict_proba(frame.iloc[i : i + 1])[0] for i in range(5)]
    np.testing.assert_array_equal(each, model.predict_proba(frame)[:5])
    assert cross_val_score(clone(model), frame, y, cv=3).min() > 0.8


@over_classifiers
def test_polars_is_as_pandas(kind):
    frame, y = people()
    other = in_polars(frame)
    np.testing.assert_array_equal(
        made(kind, **RAW).fit(other, y).predict_proba(other),
        made(kind, **RAW).fit(frame, y).predict_proba(frame),
    )


@over_classifiers
def test_columns_are_told_by_names_indices_or_a_mask(kind):
    frame, y = people()
    expected = made(kind, **RAW).fit(frame, y)._flat()
    for told in (["town", "kind", "member"], [2, 3, 4], [False, False, True, True, True]):
        model = made(kind, **{**RAW, "categorical_features": told}).fit(frame, y)
        np.testing.assert_array_equal(model._flat(), expected)
    objects = frame.to_numpy(dtype=object)
    model = made(kind, **{**RAW, "categorical_features": [2, 3, 4]}).fit(objects, y)
    np.testing.assert_array_equal(model._flat(), expected)


@over_classifiers
def test_an_unknown_category_is_none_of_the_known(kind):
    frame, y = people()
    model = made(kind, **RAW).fit(frame, y)
    strange = frame.iloc[:3].assign(town="Paris")
    assert np.isfinite(model.predict_proba(strange)).all()
    made_of = model._columns.numbers(frame.iloc[:3])
    changed = model._columns.numbers(strange)
    assert (made_of[:, 3:7].sum(axis=1) == 1).all()
    assert not changed[:, 3:7].any()
    others = [0, 1, 2, 7, 8, 9, 10]
    np.testing.assert_array_equal(made_of[:, others], changed[:, others])


@over_classifiers
def test_holes_are_filled_with_the_mean_and_told(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    y = rng.random(200) < 0.5
    X[y & (rng.random(200) < 0.9), 1] = np.nan  # that it is missing says what to tell
    model = made(kind, allow_nan=True).fit(X, y)
    assert model.score(X, y) > 0.9
    filled = model._columns.numbers(X)
    mean = np.nanmean(X[:, 1])  # of 200 terms of about 1, in any order
    np.testing.assert_allclose(filled[np.isnan(X[:, 1]), 1], mean, atol=200 * np.finfo(float).eps)
    np.testing.assert_array_equal(filled[:, 3], np.isnan(X[:, 1]))
    # A hole where `fit` saw none is filled too.
    assert np.isfinite(model.predict_proba([[np.nan, 0.0, 1.0]])).all()


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_scaled_columns_are_those_of_the_scaler(kind):
    X, y = load_diabetes(return_X_y=True, scaled=False)
    y = y > 150 if kind in CLASSIFIERS else y
    chosen = (
        {"standardize": True} if kind in CLASSIFIERS else {"standardize": True, "loss": "poisson"}
    )
    plain = {k: v for k, v in chosen.items() if k != "standardize"}
    scaled = StandardScaler().fit_transform(X)
    one, other = made(kind, 10, **chosen).fit(X, y), made(kind, 10, **plain).fit(scaled, y)
    np.testing.assert_array_equal(one._flat(), other._flat())
    np.testing.assert_array_equal(one.predict(X), other.predict(scaled))


@over_regressors
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_scaled_targets_are_those_of_a_transformer(kind, n_outputs):
    X, y = load_diabetes(return_X_y=True)
    y = y if n_outputs == 1 else np.column_stack([1e4 * y + 1e6, y])
    scaled = StandardScaler().fit_transform(X)
    model = made(kind, standardize=True).fit(X, y)
    both = y.reshape(len(y), -1)
    # A sum of n terms is off by n roundings at most, relative to the sum of their sizes.
    roundings = 2 * len(y) * np.finfo(float).eps
    np.testing.assert_allclose(model._scale.mean, both.mean(axis=0), rtol=roundings)
    np.testing.assert_allclose(model._scale.spread, both.std(axis=0), rtol=roundings)
    wanted = ((both - model._scale.mean) / model._scale.spread).reshape(y.shape)
    plain = made(kind).fit(scaled, wanted)
    undone = plain.predict(scaled).reshape(both.shape) * model._scale.spread + model._scale.mean
    np.testing.assert_array_equal(model.predict(X), undone.reshape(y.shape))
    assert model.score(X, y) > 0.5


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_a_predictor_takes_features_as_they_are_alone(kind):
    X = np.arange(20.0).reshape(10, 2) % 7
    model = made(kind, 2, standardize=True).fit(X, (X[:, 0] > 3).astype(int))
    with pytest.raises(ValueError, match="wanted one of features as they are"):
        model.predictor()


@over_regressors
def test_scores_and_continuation_are_of_targets_as_they_are(kind):
    X, y = load_diabetes(return_X_y=True)
    model = made(kind, 5, standardize=True, warm_start=True)
    model.fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[300:], y[300:]), rel=1e-9)
    errors = clone(model).set_params(scoring="neg_mean_absolute_error")
    errors.fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert -100 < errors.validation_scores_[-1] < -10
    whole = made(kind, 10, standardize=True).fit(X[:300], y[:300])
    model.fit(X[:300], y[:300])
    np.testing.assert_array_equal(model.predict(X), whole.predict(X))


@over_regressors
def test_partial_fit_goes_by_what_it_saw_first(kind):
    X, y = load_diabetes(return_X_y=True)
    model = kind(standardize=True, random_state=0).partial_fit(X[:200], y[:200])
    before = model._scale
    model.partial_fit(X[200:] * 9, y[200:] * 9)
    assert model._scale is before
    np.testing.assert_allclose(before.mean, y[:200].mean(), rtol=200 * np.finfo(float).eps)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "X holds values of dtype|X cannot be read"),
        ({"standardize": True}, "Columns of words want categorical_features"),
        ({"categorical_features": "from_dtype"}, r"columns \['age'\]; allow_nan=True fills"),
        ({"categorical_features": ["town", "x"]}, r"found \['x'\], wanted columns of"),
        ({"categorical_features": [7]}, r"found \[7\], wanted 0 to 4"),
        ({"categorical_features": [True]}, "found a mask of 1, wanted 5"),
    ],
)
@over_classifiers
def test_what_is_refused(kind, given, words):
    frame, y = people()
    with pytest.raises(ValueError, match=words):
        made(kind, **given).fit(frame, y)


@over_classifiers
def test_a_fit_that_fails_leaves_the_model_as_it_was(kind):
    frame, y = people()
    model = made(kind, **RAW).fit(frame, y)
    before = model.predict_proba(frame)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(frame[["income"]] * np.inf, y)
    np.testing.assert_array_equal(model.predict_proba(frame), before)
    with pytest.raises(ValueError, match="X is sparse"):
        model.fit(sp.csr_array(np.ones((300, 2))), y)
    with pytest.raises(TypeError, match="dates"):
        model.fit(frame.assign(age=pd.Timestamp("2026-11-22")), y)
    again = model.set_params(standardize=False, allow_nan=False, categorical_features=None)
    again.fit(frame[["income"]] / 1e4, y)
    assert not hasattr(again, "_columns")
    assert again.predict(frame[["income"]] / 1e4).shape == (300,)


@parametrize_with_checks(
    [
        kind(**{limit: 100, "learning_rate_init": 0.01}, **given)
        for kind, limit in (
            (MLPClassifier, "max_iter"),
            (MLPRegressor, "max_iter"),
            (NetworkClassifier, "max_epochs"),
            (NetworkRegressor, "max_epochs"),
        )
        for given in ({"standardize": True}, RAW)
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
