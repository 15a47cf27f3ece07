"""Training cut short by Ctrl-C or by a signal's exception: whole epochs are left, or nothing."""

import os
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import IRIS, short_training
from sklearn.exceptions import NotFittedError

from fastbp import MLPRegressor
from fastbp._core import blas
from fastbp.estimators import regressor
from fastbp.nn import locking

pytestmark = short_training

X, Y = IRIS
LONG = np.random.default_rng(0).standard_normal((3000, 40))
LONG_Y = LONG[:, 0] * LONG[:, 1]
ENDLESS = {"max_iter": 10**6, "max_fun": 10**7, "n_iter_no_change": np.inf, "random_state": 0}
ALARM = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM on this system")


# ------------------------------------------------------------------------- an exception of a signal


class Ended(Exception):
    """What a handler of a signal raises."""


@contextmanager
def ended_by_a_signal(seconds):
    """Raise `Ended` after `seconds`, from a signal's handler, out of what is run within."""

    def handler(*_):
        raise Ended

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with pytest.raises(Ended):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@ALARM
@pytest.mark.parametrize(
    "given", [{}, {"early_stopping": True}, {"history": "step"}, {"solver": "lbfgs", "tol": 0.0}]
)
def test_an_exception_of_a_signal_leaves_a_warm_started_model_consistent(given):
    model = MLPRegressor((60, 60), warm_start=True, random_state=0, **given)
    model.set_params(max_iter=2).fit(LONG, LONG_Y)
    started = 0 if "solver" in given else 2
    with ended_by_a_signal(0.7):
        model.set_params(**ENDLESS).fit(LONG, LONG_Y)
    made = model.n_iter_ + started
    assert model.n_iter_ > 0
    assert len(model.history_["loss"]) == made
    assert model.loss_ == model.history_["loss"][-1]
    if "solver" in given:
        problem = model._gradient_problem(LONG, LONG_Y)
        loss = problem.plan.loss_gradient(
            problem.params, problem.X, problem.y, alpha=problem.alpha, n_threads=1
        )
        assert model.loss_ == loss
        return
    n_samples = 2700 if "early_stopping" in given else 3000
    assert model.t_ == made * n_samples
    assert len(model.loss_curve_) == len(model.history_["learning_rate"]) == made
    assert len(model.history_.get("step_loss", [])) in (0, 15 * made)
    assert model._training_state.vectors is None  # the optimiser starts anew
    if "early_stopping" in given:
        assert len(model.validation_scores_) == made
        assert model.best_validation_score_ == np.nanmax(model.validation_scores_)
    else:
        assert model.best_loss_ == min(model.loss_curve_)
        whole = MLPRegressor((60, 60), **ENDLESS).set_params(max_iter=made).fit(LONG, LONG_Y)
        assert np.array_equal(model._views.flat, whole._views.flat)
        assert model.loss_curve_ == whole.loss_curve_
    model.set_params(max_iter=1).fit(LONG, LONG_Y)
    assert len(model.loss_curve_) == made + 1


@ALARM
@pytest.mark.parametrize("given", [{}, {"early_stopping": True}, {"solver": "lbfgs", "tol": 0.0}])
def test_an_exception_of_a_signal_leaves_a_fresh_fit_undone(given):
    model = MLPRegressor((60, 60), **ENDLESS, **given)
    with ended_by_a_signal(0.3):
        model.fit(LONG, LONG_Y)
    with pytest.raises(NotFittedError):
        model.predict(LONG)
    assert not hasattr(model, "n_features_in_")
    model.set_params(max_iter=2).fit(X, Y)
    before = {k: v for k, v in vars(model).items() if k.endswith("_")}
    outputs = model.predict(X)
    with ended_by_a_signal(0.3):
        model.set_params(max_iter=10**6).fit(LONG, LONG_Y)
    assert {k: v for k, v in vars(model).items() if k.endswith("_")} == before
    assert np.array_equal(model.predict(X), outputs)


@ALARM
def test_an_exception_of_a_signal_leaves_partial_fit_consistent():
    features, y = np.tile(LONG, (20, 1)), np.tile(LONG_Y, 20)
    model = MLPRegressor((400, 400), n_threads=1, random_state=0).partial_fit(LONG, LONG_Y)
    weights = model._views.flat.copy()
    with ended_by_a_signal(0.2):
        model.partial_fit(features, y)
    assert np.array_equal(model._views.flat, weights)
    assert (model.n_iter_, model.t_, len(model.loss_curve_)) == (0, 3000, 1)
    model.partial_fit(LONG, LONG_Y)
    assert (model.n_iter_, model.t_, len(model.loss_curve_)) == (1, 6000, 2)


# ------------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send Ctrl-C to itself alone")
@pytest.mark.parametrize("given", [{}, {"early_stopping": True}, {"solver": "lbfgs", "tol": 0.0}])
def test_ctrl_c_leaves_a_model_of_whole_epochs(given):
    model = MLPRegressor((60, 60), warm_start=True, **ENDLESS, **given)
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(LONG, LONG_Y)
    finally:
        timer.join()
    assert model.n_iter_ == len(model.history_["loss"]) > 0
    assert model.loss_ == model.history_["loss"][-1]
    if not given:
        n = model.n_iter_
        whole = MLPRegressor((60, 60), max_iter=n, n_iter_no_change=n, random_state=0)
        whole.fit(LONG, LONG_Y)
        assert np.array_equal(model._views.flat, whole._views.flat)
        assert model._training_state.vectors is None  # the optimiser starts anew
        model.set_params(max_iter=1).fit(LONG, LONG_Y)
        assert len(model.loss_curve_) == n + 1


def test_ctrl_c_while_an_epoch_is_scored_leaves_its_score_nan(monkeypatch):
    calls = []

    def interrupted(*_):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setattr(regressor, "r2", interrupted)
    model = MLPRegressor(3, early_stopping=True, random_state=0)
    with pytest.warns(UserWarning, match="after 3 whole epochs") as caught:
        model.fit(X, Y)
    assert caught[0].filename == __file__
    assert model.n_iter_ == len(model.loss_curve_) == 3
    np.testing.assert_array_equal(model.validation_scores_, [0.5, 0.5, np.nan])
    assert model.best_validation_score_ == 0.5


class Interrupting:
    """A lock whose first release is met by Ctrl-C."""

    def __init__(self):
        self.lock, self.met = threading.Lock(), False

    def __enter__(self):
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()
        if not self.met:
            self.met = True
            raise KeyboardInterrupt


def test_ctrl_c_right_after_an_estimator_is_held_lets_it_go(monkeypatch):
    model = MLPRegressor(3, max_iter=1)
    monkeypatch.setattr(locking, "_guard", Interrupting())
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert not locking._held
    model.fit(X, Y)


def test_ctrl_c_right_after_blas_is_limited_lifts_the_limit(monkeypatch):
    def counts():
        return [lib["num_threads"] for lib in blas._controller().info()]

    before = counts()
    monkeypatch.setattr(blas, "_lock", Interrupting())
    with pytest.raises(KeyboardInterrupt), blas.one_blas_thread(True):
        pass
    assert not blas._in_flight
    assert blas._limiter is None
    assert counts() == before
