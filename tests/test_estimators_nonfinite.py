"""Numbers that overflow in the course of training: what the error names, and what model is left.

Data and weights that are not finite from the start are refused, in test_estimators_wrong_data.py
and test_estimators_weights.py.
"""

import pickle
import tracemalloc

import numpy as np
import pytest
from helpers import IRIS, over_dtypes, over_estimators, short_training

from fastbp import MLPClassifier, MLPRegressor, NonFiniteError
from fastbp.train import lbfgs

pytestmark = short_training

X, Y = IRIS


@over_estimators
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_number_that_is_not_finite(kind, early_stopping):
    # Weights grow by 1e80 in the first step; the next ones overflow.
    given = {"solver": "sgd", "early_stopping": early_stopping, "random_state": 0}
    model = kind(4, "identity", learning_rate_init=1e80, **given)
    with pytest.raises(NonFiniteError) as raised:
        model.fit(X, Y)
    error = raised.value
    assert error.epoch == model.n_iter_ == len(model.loss_curve_)
    assert error.step >= 0
    assert -1 <= error.layer < 2
    assert str(error.epoch) in str(error)
    for array in model.coefs_ + model.intercepts_:
        assert np.isfinite(array).all()
    model.predict(X)
    assert pickle.loads(pickle.dumps(error)).epoch == error.epoch


def test_the_starting_weights_are_left_if_the_first_epoch_fails():
    model = MLPRegressor(4, "identity", solver="sgd", learning_rate_init=1e300, random_state=0)
    start = model._gradient_problem(X, Y).params
    with pytest.raises(NonFiniteError) as raised:
        model.set_params(batch_size=10).fit(X, Y)
    assert raised.value.epoch == 0
    assert np.array_equal(model._views.flat, start)
    assert np.isnan(model.loss_)
    assert model.loss_curve_ == []


def test_the_epochs_before_are_kept_with_their_losses():
    # A linear model whose error grows fivefold a step: some 200 steps to 1e154, where squares end.
    given = {"solver": "sgd", "momentum": 0.0, "batch_size": 40, "random_state": 0}
    given |= {"learning_rate_init": 0.9, "n_iter_no_change": 200}
    model = MLPRegressor((), max_iter=200, **given)
    with pytest.raises(NonFiniteError) as raised:
        model.fit(1.5 * X, Y)
    epochs = raised.value.epoch
    assert epochs > 20
    whole = MLPRegressor((), max_iter=epochs, **given)
    whole.fit(1.5 * X, Y)
    assert model.loss_curve_ == whole.loss_curve_
    assert np.array_equal(model._views.flat, whole._views.flat)
    assert model.t_ == whole.t_
    # It can go on, at a milder rate, with an optimiser that starts anew.
    model.set_params(warm_start=True, learning_rate_init=1e-5, max_iter=2).fit(1.5 * X, Y)
    assert len(model.loss_curve_) == epochs + 2


def test_lbfgs_with_a_loss_that_is_not_finite():
    model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0)
    with pytest.raises(NonFiniteError, match="L-BFGS"):
        model.fit(1e200 * X, 1e200 * Y)
    assert np.isfinite(model._views.flat).all()
    model.predict(X)


@pytest.mark.parametrize(("weight", "layer"), [(1e3, 0), (1.0, 1), (1e-9, -1)])
def test_the_layer_at_fault_is_found_by_any_sample(weight, layer, monkeypatch):
    monkeypatch.setattr(lbfgs, "_BLOCK", 7)
    model = MLPRegressor((2,), "identity", solver="lbfgs", random_state=0)
    features = np.zeros((50, 1))
    features[30] = 1e307
    problem = model._gradient_problem(features, np.ones(50))
    problem.params[...] = [weight, weight, 0, 0, 20, 20, 0]
    assert lbfgs._culprit(problem) == layer


def test_looking_for_the_layer_at_fault_takes_little_memory():
    features = np.ones((10000, 4))
    features[-1] = 1e308
    model = MLPRegressor((50, 50), solver="lbfgs", random_state=0)
    tracemalloc.start()
    try:
        with pytest.raises(NonFiniteError):
            model.fit(features, np.ones(10000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # z, a and delta of all layers for all samples at once would be 24 MB, those of a block 2.5.
    assert peak < 8e6


@over_dtypes
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
