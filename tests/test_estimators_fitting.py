"""What `fit` does in an epoch, by hand, and what it records: attributes, history, `inspect`."""

import numpy as np
import pytest
from helpers import IRIS, fitted, over_dtypes, short_training
from sklearn.base import clone
from sklearn.metrics import r2_score

from fastbp import MLPClassifier, MLPRegressor, _core
from fastbp.estimators.regressor import r2

pytestmark = short_training

X, Y = IRIS


# ------------------------------------------------------------------------------------------ by hand


@over_dtypes
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
    np.testing.assert_array_equal(model._views.flat, problem.params - rate * gradient)
    assert model.loss_ == pytest.approx(loss, rel=1e-14)


def test_adamw_decays_instead_of_penalising():
    # One step from known weights: with alpha, each is smaller by rate * alpha of itself.
    given = {"solver": "adamw", "max_iter": 1, "random_state": 0, "learning_rate_init": 0.1}
    plain = MLPRegressor(3, alpha=0.0, **given)
    start = plain._gradient_problem(X, Y).params
    plain.fit(X, Y)
    decayed = MLPRegressor(3, alpha=0.5, **given).fit(X, Y)
    assert plain.loss_curve_ == decayed.loss_curve_
    difference = plain._views.flat - decayed._views.flat
    np.testing.assert_allclose(difference, 0.05 * start, rtol=1e-9, atol=1e-15)


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
    assert np.array_equal(watched._views.flat, alone._views.flat)


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


# --------------------------------------------------------------------------------- what is recorded


def test_attributes():
    model = fitted(MLPClassifier, early_stopping=True)
    assert (model.n_layers_, model.n_outputs_, model.n_features_in_) == (3, 3, 4)
    weights = model.coefs_ + model.intercepts_
    assert model.n_params_ == 4 * 6 + 6 + 6 * 3 + 3 == sum(a.size for a in weights)
    assert [a.shape for a in model.coefs_] == [(4, 6), (6, 3)]
    assert [a.shape for a in model.intercepts_] == [(6,), (3,)]
    assert model.t_ == 5 * 135
    told = {"loss", "learning_rate", "gradient_norm", "seconds"}
    assert set(model.history_) == told | {"validation_loss", "validation_score"}
    assert {len(values) for values in model.history_.values()} == {model.n_iter_}
    assert (model.history_["gradient_norm"] > 0).all()
    assert (model.history_["seconds"] > 0).all()
    assert all(len(values) == 5 for values in model.history_.values())
    assert model.loss_curve_[-1] == model.loss_


def test_loss_decreases_and_is_logged():
    model = fitted(MLPClassifier, history="step", solver="sgd", learning_rate="invscaling")
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    steps = np.reshape(model.history_["step_loss"], (5, 5))
    sizes = np.array([32, 32, 32, 32, 22])
    np.testing.assert_allclose((steps * sizes).sum(axis=1) / 150, model.loss_curve_, rtol=1e-14)
    rates = 0.001 / (150 * np.arange(5) + 1) ** 0.5
    np.testing.assert_allclose(model.history_["learning_rate"], rates, rtol=1e-15)


def test_steps_are_kept_only_where_asked_for(monkeypatch):
    given = []

    class Spy(_core.Training):
        def run(self, rates, *, step_losses=None, **rest):
            given.append(step_losses)
            return super().run(rates, step_losses=step_losses, **rest)

    monkeypatch.setattr("fastbp.train.stochastic._core.Training", Spy)
    MLPRegressor(3, max_iter=2).fit(X, Y)
    assert given == [None]
    model = MLPRegressor(3, max_iter=2, batch_size=50, history="step").fit(X, Y)
    assert given[-1].size == len(model.history_["step_loss"]) == 6


@pytest.mark.parametrize("epochs", [1, 3, 9, 10, 25])
def test_verbose_prints_every_epoch_of_any_number(epochs, capsys):
    MLPRegressor(3, max_iter=epochs, n_iter_no_change=30, verbose=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Iteration {i + 1}" for i in range(epochs)]


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
