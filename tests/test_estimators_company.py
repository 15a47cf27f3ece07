"""Estimators inside scikit-learn's own: each comes to what is done by hand, bit for bit."""

import copy

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (it makes the next import)
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((150, 4))
LABELS = np.where(X[:, 0] > 0.5, "high", np.where(X[:, 0] < -0.5, "low", "middle"))
Y = X[:, 0] - 0.5 * X[:, 1] ** 2


def small(kind):
    """An estimator that is trained in a few milliseconds."""
    epochs = "max_iter" if kind in (MLPClassifier, MLPRegressor) else "max_epochs"
    return kind(random_state=0, learning_rate_init=0.01, **{epochs: 15})


classifiers = pytest.fixture(params=[MLPClassifier, NetworkClassifier])(
    lambda request: small(request.param)
)
regressors = pytest.fixture(params=[MLPRegressor, NetworkRegressor])(
    lambda request: small(request.param)
)


def same(one, other):
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


# ---------------------------------------------------------------------------------------- searches


@pytest.mark.parametrize("classifier", [MLPClassifier, NetworkClassifier])
def test_a_search_over_a_pipeline_of_columns(classifier):
    frame = pd.DataFrame(X, columns=list("abcd")).assign(colour=RNG.choice(["red", "blue"], 150))
    numbers = ColumnTransformer(
        [("scale", StandardScaler(), list("abcd")), ("words", OneHotEncoder(), ["colour"])]
    )
    whole = Pipeline([("columns", numbers), ("net", small(classifier))])
    search = GridSearchCV(whole, {"net__alpha": [0.0, 1e-3, 1.0]}, cv=3).fit(frame, LABELS)
    scores = search.cv_results_["mean_test_score"]
    assert scores.argmax() == search.best_index_
    assert scores.max() > np.mean(LABELS == "middle")  # of always the most frequent class
    by_hand = clone(whole).set_params(**search.best_params_).fit(frame, LABELS)
    same(search.predict_proba(frame), by_hand.predict_proba(frame))


def test_halving_over_epochs():
    model = MLPRegressor(random_state=0, learning_rate_init=0.01)
    search = HalvingRandomSearchCV(
        model,
        {"alpha": [0.0, 1e-4, 1e-2, 1.0], "hidden_layer_sizes": [(8,), (16, 8)]},
        n_candidates=4,
        resource="max_iter",
        min_resources=5,
        max_resources=20,
        factor=2,
        cv=3,
        random_state=0,
    ).fit(X, Y)
    assert search.n_resources_ == [5, 10, 20]
    assert search.n_candidates_ == [4, 2, 1]
    assert search.best_estimator_.n_iter_ == 20
    by_hand = clone(model).set_params(**search.best_params_).fit(X, Y)
    same(search.predict(X), by_hand.predict(X))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_search_has_the_bits_of_one_job_in_several(classifiers, backend):
    search = GridSearchCV(classifiers, {"alpha": [0.0, 1.0]}, cv=2, scoring="neg_log_loss")
    alone = search.fit(X, LABELS).cv_results_
    with parallel_config(backend=backend, n_jobs=2):
        together = clone(search).fit(X, LABELS).cv_results_
    for key in ("split0_test_score", "split1_test_score"):
        same(together[key], alone[key])


def test_predictions_of_folds(classifiers):
    folds = StratifiedKFold(3)
    found = cross_val_predict(classifiers, X, LABELS, cv=folds, method="predict_proba")
    for train, test in folds.split(X, LABELS):
        by_hand = clone(classifiers).fit(X[train], LABELS[train])
        same(found[test], by_hand.predict_proba(X[test]))


# --------------------------------------------------------------------------------------- ensembles


def test_calibration_by_folds(classifiers):
    whole = CalibratedClassifierCV(classifiers, cv=2).fit(X, LABELS)
    found = whole.predict_proba(X)
    same(found, np.mean([one.predict_proba(X) for one in whole.calibrated_classifiers_], axis=0))
    # Rows sum to 1: three numbers, each to half a unit of the last place of at most 1.
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=0, atol=4 * np.finfo(float).eps)
    assert np.mean(whole.predict(X) == LABELS) > np.mean(LABELS == "middle")


def test_bagging(regressors):
    bag = BaggingRegressor(regressors, n_estimators=3, max_features=3, random_state=0).fit(X, Y)
    parts = zip(bag.estimators_, bag.estimators_features_, strict=True)
    total = sum(one.predict(X[:, features]).astype(np.float64) for one, features in parts)
    same(bag.predict(X), total / 3)
    assert bag.score(X, Y) > 0.0


def test_stacking(classifiers):
    models = [("net", classifiers), ("line", LogisticRegression())]
    stack = StackingClassifier(models, final_estimator=LogisticRegression(), cv=3).fit(X, LABELS)
    net, line = (clone(model).fit(X, LABELS) for _, model in models)
    by_hand = np.hstack([net.predict_proba(X), line.predict_proba(X)])
    same(stack.transform(X), by_hand)
    same(stack.predict(X), stack.classes_[stack.final_estimator_.predict(by_hand)])


def test_a_transformed_target(regressors):
    positive = np.exp(Y)
    whole = TransformedTargetRegressor(regressors, func=np.log, inverse_func=np.exp)
    found = whole.fit(X, positive).predict(X)
    same(found, np.exp(clone(regressors).fit(X, np.log(positive)).predict(X)))


def test_hidden_features_beside_others():
    net = MLPClassifier(6, random_state=0, max_iter=15)
    union = FeatureUnion([("scaled", StandardScaler()), ("hidden", net)]).fit(X, LABELS)
    by_hand = [StandardScaler().fit_transform(X), clone(net).fit(X, LABELS).transform(X)]
    same(union.transform(X), np.hstack(by_hand))
    assert len(union.get_feature_names_out()) == 4 + 6
    whole = make_pipeline(union, LogisticRegression()).fit(X, LABELS)
    assert whole.score(X, LABELS) > np.mean(LABELS == "middle")


# -------------------------------------------------------------------------------------- inspection


def test_importances(regressors):
    model = clone(regressors).fit(X, Y)
    found = permutation_importance(model, X, Y, n_repeats=5, random_state=0)
    assert found.importances_mean.argmax() == 0  # Y is of columns 0 and, less, 1
    assert found.importances_mean[0] > 5 * abs(found.importances_mean[2:]).max()


def test_partial_dependence(regressors):
    model = clone(regressors).fit(X, Y)
    display = PartialDependenceDisplay.from_estimator(model, X, [0], grid_resolution=5)
    grid, averages = (display.pd_results[0][key] for key in ("grid_values", "average"))
    for value, average in zip(grid[0], averages[0], strict=True):
        at = X.copy()
        at[:, 0] = value
        # A mean of 150 numbers of float32 in another order: 150 roundings at most.
        expected = model.predict(at)
        bound = 150 * np.finfo(np.float32).eps * np.abs(expected).max()
        assert average == pytest.approx(expected.mean(), rel=0, abs=bound)


# ------------------------------------------------------------------------------------------ copies


def test_a_deep_copy_goes_its_own_way(classifiers):
    model = clone(classifiers).partial_fit(X, LABELS, classes=np.unique(LABELS))
    before = model.predict_proba(X)
    other = copy.deepcopy(model)
    same(other.predict_proba(X), before)
    other.partial_fit(X, LABELS)
    same(model.predict_proba(X), before)
    same(model.partial_fit(X, LABELS).predict_proba(X), other.predict_proba(X))
