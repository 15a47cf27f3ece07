"""Weights of classes: what they come to, and what is refused."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_iris

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor, diagnose

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
over_classifiers = pytest.mark.parametrize("kind", [MLPClassifier, NetworkClassifier])

X, Y = load_iris(return_X_y=True)
X, Y = X[:120], np.array(list("abc"))[Y[:120]]  # 50, 50 and 20 samples


def fitted(kind, y=Y, weight=None, **given):
    limit = "max_iter" if kind is MLPClassifier else "max_epochs"
    return kind(**{limit: 5}, random_state=0, **given).fit(X, y, sample_weight=weight)


def same(one, other):
    np.testing.assert_array_equal(one._flat(), other._flat())
    assert one.loss_curve_ == other.loss_curve_


@over_classifiers
def test_a_dict_is_weights_of_samples(kind):
    weight = np.where(Y == "a", 3.0, 1.0)
    same(fitted(kind, class_weight={"a": 3.0}), fitted(kind, weight=weight))
    own = np.random.default_rng(0).uniform(0.5, 1, len(Y))
    both = fitted(kind, class_weight={"a": 3.0}, weight=own)
    same(both, fitted(kind, weight=own * weight))
    assert not np.array_equal(both._flat(), fitted(kind)._flat())


@over_classifiers
def test_balanced_classes_weigh_the_same_in_what_is_looked_at(kind):
    model = fitted(kind, class_weight="balanced")
    some = np.r_[:50, 60:70, 100:110]
    shares = {"a": 70 / (3 * 50), "b": 70 / (3 * 10), "c": 70 / (3 * 10)}
    weighed = diagnose(model, X[some], Y[some])
    model.set_params(class_weight=shares)
    for a, b in zip(weighed.weights, diagnose(model, X[some], Y[some]).weights, strict=True):
        assert a.gradient == pytest.approx(b.gradient, rel=1e-12)  # weights are rounded otherwise


@over_classifiers
def test_balanced_classes_weigh_the_same(kind):
    shares = {"a": 120 / (3 * 50), "b": 120 / (3 * 50), "c": 120 / (3 * 20)}
    same(fitted(kind, class_weight="balanced"), fitted(kind, class_weight=shares))


@over_classifiers
@pytest.mark.parametrize("sparse", [False, True])
def test_labels_weigh_by_column(kind, sparse):
    y = np.column_stack([Y == "a", Y != "c"]).astype(int)
    weight = np.where(Y == "a", 4.0, 1.0)
    weighed = fitted(kind, sp.csr_array(y) if sparse else y, class_weight={0: 4.0})
    same(weighed, fitted(kind, y, weight=weight))


@over_classifiers
def test_partial_fit(kind):
    model = kind(random_state=0, class_weight={"a": 3.0})
    other = kind(random_state=0)
    for part in (slice(0, 60), slice(60, 120)):
        model.partial_fit(X[part], Y[part], classes=list("abc"))
        weight = np.where(Y[part] == "a", 3.0, 1.0)
        other.partial_fit(X[part], Y[part], weight, classes=list("abc"))
    same(model, other)
    with pytest.raises(ValueError, match="'balanced' cannot be had of partial_fit"):
        kind(class_weight="balanced").partial_fit(X, Y, classes=list("abc"))


@over_classifiers
def test_what_is_refused(kind):
    with pytest.raises(ValueError, match=r"class_weight: found weights of \['d'\]"):
        fitted(kind, class_weight={"d": 2.0})
    for wrong in (-2.0, None, "2", [1.0], np.nan, np.inf):
        with pytest.raises(
            ValueError, match=r"class_weight\['a'\]: found .*, wanted a number >= 0"
        ):
            fitted(kind, class_weight={"a": wrong})
    with pytest.raises(ValueError, match="must not be zero throughout"):
        fitted(kind, class_weight=dict.fromkeys("abc", 0.0))


@pytest.mark.parametrize("kind", [MLPRegressor, NetworkRegressor])
def test_regressors_have_no_classes(kind):
    assert "class_weight" not in kind().get_params()
    assert not hasattr(kind(), "class_weight")
    with pytest.raises(TypeError, match="class_weight"):
        kind(class_weight="balanced")
    assert kind(loss="huber").loss == "huber"
    assert kind().loss == "squared_error"
