"""What the estimators predict, with every loss: labels, probabilities, scores, quantiles."""

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import IRIS, fitted, over_dtypes, over_estimators, short_training
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import accuracy_score

from fastbp import MLPClassifier, MLPRegressor
from fastbp.estimators.losses import CLASSIFICATION, REGRESSION
from fastbp.nn.rows import rows

pytestmark = short_training

X, Y = IRIS


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", CLASSIFICATION)
@over_dtypes
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
        # A binary model's first column is 1 - p, right to some eps of 1 and not of itself.
        logarithms = model.predict_log_proba(X)
        np.testing.assert_allclose(np.exp(logarithms), proba, rtol=0, atol=20 * np.finfo(dtype).eps)
        wanted = proba.argmax(axis=1)
        assert not hasattr(model, "decision_function")
        assert model.out_activation_ == ("logistic" if classes == 2 else "softmax")
    assert np.array_equal(model.predict(X), wanted)


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


@pytest.mark.parametrize("loss", REGRESSION)
@over_dtypes
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


@over_estimators
@over_dtypes
def test_a_row_alone_is_predicted_as_in_a_batch(kind, dtype):
    model = kind((50, 20), max_iter=3, random_state=0, dtype=dtype).fit(X, Y)
    answer = model.predict if kind is MLPRegressor else model.predict_proba
    whole = answer(X)
    for i in range(len(X)):
        assert np.array_equal(whole[i], answer(X[i : i + 1])[0])
    order = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(whole[order], answer(np.asfortranarray(X[order])))
    assert np.array_equal(whole[::7], answer(X[::7]))
