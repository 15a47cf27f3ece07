"""Bad parameters and arrays, numbers not finite, interruptions: what is said, what is left."""

import os
import pickle
import signal
import threading
import tracemalloc
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from fastbp import MLPClassifier, MLPRegressor, NonFiniteError, _core
from fastbp._core import blas
from fastbp.estimators import fitting, locking, preparation, regressor
from fastbp.estimators.options import OPTIONS
from fastbp.train import lbfgs, stochastic

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
BOTH = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])

# ------------------------------------------------------------------------------------- parameters

BAD = {
    "hidden_layer_sizes": [
        *(0, (5, 0), -1, 2.5, (3.0,), "10", None, (10**18,)),
        # Without an order, used up by the first look, or of a wrong shape or dtype.
        *({3, 4}, {3: 4}, (n for n in (3, 4)), np.array(5), np.array([[3]]), np.array([3.0])),
    ],
    "activation": ["rel", None, 3],
    "solver": ["newton", None],
    "alpha": [-1e-9, np.inf, np.nan, "1", None],
    "batch_size": [0, 2.5, "all", None],
    "learning_rate": ["exponential", 0.1],
    "learning_rate_init": [0, -1, np.nan],
    "power_t": [-0.5],
    "max_iter": [0, 2.5, np.inf],
    "shuffle": [1, "yes"],
    "random_state": [-1, 2**32, 0.5, "seed"],
    "tol": [-1e-4, np.nan],
    "verbose": [-1, "loud"],
    "warm_start": [2],
    "momentum": [-0.1, 1.1],
    "nesterovs_momentum": [None],
    "early_stopping": ["auto"],
    "validation_fraction": [-0.1, 1.0],
    "beta_1": [1.0, -0.1],
    "beta_2": [1.0, -0.1],
    "epsilon": [0.0],
    "n_iter_no_change": [0, 1.5],
    "max_fun": [0],
    "loss": ["mse", None, 3, ["log_loss"]],
    "loss_params": [{"sigma": 1.0}, 3],
    "activation_params": [{"slope": 1.0}, "slope"],
    "weight_init": ["zeros", None],
    "n_threads": [0, -1, 2.5],
    "dtype": ["float16", "int", 3],
    "history": ["batch", None],
}


def test_every_parameter_is_tested():
    assert set(BAD) == set(MLPClassifier().get_params()) == set(MLPRegressor().get_params())
    assert set(OPTIONS) | {"loss", "loss_params", "activation_params"} == set(BAD)


@BOTH
@pytest.mark.parametrize("name", BAD)
def test_a_wrong_parameter_is_named_with_what_was_found(kind, name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=name) as raised:
            kind(**{name: value}).fit(X, Y)
        if not isinstance(value, dict):
            assert repr(value) in str(raised.value)


def test_layer_sizes_of_any_sequence():
    wanted = MLPRegressor((3, 4), max_iter=1, random_state=0).fit(X, Y).coefs_
    for sizes in ([3, 4], range(3, 5), np.array([3, 4])):
        model = MLPRegressor(sizes, max_iter=1, random_state=0).fit(X, Y)
        assert all(np.array_equal(a, b) for a, b in zip(model.coefs_, wanted, strict=True))
        clone(model).fit(X, Y)


def test_a_network_beyond_any_memory_is_refused_before_weights_are_drawn(monkeypatch):
    def none(*_):
        raise AssertionError("drawn before the network was found to be possible")

    monkeypatch.setattr(fitting, "draw", none)
    monkeypatch.setattr(preparation, "draw", none)
    model = MLPRegressor((2**31 - 1,) * 4)
    with pytest.raises(ValueError, match="found"):
        model.fit(X, Y)
    with pytest.raises(ValueError, match="found"):
        model._gradient_problem(X, Y)


@pytest.mark.parametrize("nesterovs", [False, True])
def test_momentum_may_be_one_as_in_scikit_learn(nesterovs):
    model = MLPRegressor(3, solver="sgd", momentum=1, nesterovs_momentum=nesterovs, max_iter=3)
    assert np.isfinite(model.fit(X, Y).loss_)


@BOTH
def test_what_scikit_learn_refuses_is_refused(kind):
    from sklearn import neural_network

    theirs = getattr(neural_network, kind.__name__)
    for name in set(theirs().get_params()) - {"loss"}:
        for value in (
            -1,
            0,
            1,
            2.5,
            "auto",
            "relu",
            None,
            True,
            np.nan,
            np.inf,
            (3,),
            (2, 0),
            2**40,
        ):
            refused = False
            try:
                theirs(**{name: value})._validate_params()
            except InvalidParameterError:
                refused = True
            # Its check takes any sequence for layer sizes, which then fail in fit, and bools for
            # ints.
            if refused:
                with pytest.raises(ValueError, match=name):
                    kind(**{name: value}).fit(X, Y)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (MLPClassifier(loss="squared_error"), ["'log_loss'", "MLPRegressor"]),
        (MLPClassifier(loss="poisson"), ["'log_loss'", "MLPRegressor"]),
        (MLPClassifier(loss="softmax_cross_entropy"), ["'log_loss'"]),
        (MLPRegressor(loss="log_loss"), ["'squared_error'", "MLPClassifier"]),
        (MLPRegressor(loss="hinge"), ["'squared_error'", "MLPClassifier"]),
        (MLPRegressor(loss="sigmoid_cross_entropy"), ["MLPClassifier"]),
    ],
)
def test_a_loss_of_another_task_names_the_right_ones(model, words):
    with pytest.raises(ValueError, match="loss") as raised:
        model.fit(X, Y)
    for word in words:
        assert word in str(raised.value)


def test_a_target_of_another_task():
    with pytest.raises(ValueError, match="continuous"):
        MLPClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="numbers were wanted"):
        MLPRegressor().fit(X, np.array(["a", "b"])[Y % 2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss": "huber", "loss_params": {"delta": 0.0}}, ["delta", "(0, inf)", "0.0"]),
        ({"loss": "huber", "loss_params": {"quantile": 0.5}}, ["quantile", "delta"]),
        ({"loss": "quantile", "loss_params": {"quantile": 1.0}}, ["quantile", "(0, 1)"]),
        ({"loss_params": {"delta": 1.0}}, ["delta", "squared_error"]),
        ({"activation": "elu", "activation_params": {"alpha": np.nan}}, ["alpha", "elu", "nan"]),
        ({"activation_params": {"alpha": 1.0}}, ["alpha", "relu"]),
        ({"activation": "silu", "activation_params": {"beta": "1"}}, ["beta", "silu"]),
    ],
)
def test_numbers_of_rows(given, words):
    with pytest.raises(ValueError, match="_params") as raised:
        MLPRegressor(**given).fit(X, Y)
    for word in words:
        assert word in str(raised.value)


def test_numbers_of_rows_act():
    def curve(**given):
        return MLPRegressor(5, max_iter=3, random_state=0, **given).fit(X, Y).loss_curve_

    assert curve(loss="huber") == curve(loss="huber", loss_params={"delta": 1.0})
    assert curve(loss="huber") != curve(loss="huber", loss_params={"delta": 0.1})
    leaky = {"activation": "leaky_relu"}
    assert curve(**leaky) == curve(**leaky, activation_params={"slope": 0.01})
    assert curve(**leaky) != curve(**leaky, activation_params={"slope": 0.5})


# ------------------------------------------------------------------------------------------ arrays


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(kind, value):
    bad = X.copy()
    bad[3, 1] = value
    with pytest.raises(ValueError, match="X contains"):
        kind().fit(bad, Y)
    fitted = kind(3, max_iter=1).fit(X, Y)
    with pytest.raises(ValueError, match="X contains"):
        fitted.predict(bad)
    weight = np.ones(len(Y))
    weight[5] = value
    with pytest.raises(ValueError, match="sample_weight contains"):
        kind().fit(X, Y, weight)
    with pytest.raises(ValueError, match=r"y contains|type: continuous"):
        kind().fit(X, np.where(np.arange(len(Y)) == 7, value, Y))


@BOTH
def test_what_overflows_float32_is_refused(kind):
    big = X.copy()
    big[0, 0] = 1e300
    with pytest.raises(ValueError, match="X contains infinity or a value too large"):
        kind(dtype="float32").fit(big, Y)
    with pytest.raises(ValueError, match="sample_weight contains infinity"):
        kind(dtype="float32").fit(X, Y, np.full(len(Y), 1e300))
    with pytest.raises(ValueError, match="y has a value too large"):
        MLPRegressor(dtype="float32").fit(X, Y * 1e300)


@BOTH
@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.ones(149), "149"),
        (np.ones((150, 1)), r"\(150, 1\)"),
        (-np.ones(150), "negative"),
        (np.zeros(150), "zero"),
        (np.r_[np.ones(149), -1e-9], r"sample_weight\[149\]"),
        (0, "zero"),
        (-1.0, "negative"),
        (1e307, "finite sum"),
    ],
)
def test_sample_weights(kind, weight, words):
    with pytest.raises(ValueError, match="sample_weight") as raised:
        kind().fit(X, Y, weight)
    with pytest.raises(ValueError, match=words):
        raise raised.value


def test_a_number_weighs_all_alike():
    one, two = (MLPRegressor(3, max_iter=5, random_state=0, alpha=0.0) for _ in range(2))
    assert one.fit(X, Y, 1.0).loss_ == two.fit(X, Y).loss_


def test_shapes():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MLPRegressor().fit(X, Y[:-1])
    with pytest.raises(ValueError, match="2D array"):
        MLPRegressor().fit(X[:, 0], Y)
    with pytest.raises(ValueError, match="0 sample"):
        MLPRegressor().fit(X[:0], Y[:0])
    fitted = MLPRegressor(3, max_iter=1).fit(X, Y)
    with pytest.raises(ValueError, match="4 features"):
        fitted.predict(X[:, :3])
    with pytest.raises(ValueError, match="0 sample"):
        fitted.predict(X[:0])
    with pytest.raises(NotFittedError):
        MLPRegressor().predict(X)


def test_negative_counts():
    with pytest.raises(ValueError, match=r"poisson.*0 or more.*y\[100\] is -2"):
        MLPRegressor(loss="poisson").fit(X, -Y * (Y == 2))


def test_classes():
    model = MLPClassifier(3, max_iter=1)
    with pytest.raises(ValueError, match="classes must be given"):
        model.partial_fit(X, Y)
    model.partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, Y + 1)
    with pytest.raises(ValueError, match="classes"):
        model.set_params(warm_start=True).fit(X, np.minimum(Y, 1))
    with pytest.raises(ValueError, match="indicator"):
        MLPClassifier().fit(X, np.c_[Y, Y])
    with pytest.raises(ValueError, match="shape"):
        model.partial_fit(X, np.eye(3, dtype=int)[Y])


def test_what_cannot_be_continued():
    model = MLPRegressor(3, max_iter=1, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        clone_of(model, hidden_layer_sizes=4).fit(X, Y)
    with pytest.raises(ValueError, match="layers"):
        model.fit(X, np.c_[Y, Y])
    with pytest.raises(ValueError, match="features"):
        model.fit(X[:, :2], Y)
    with pytest.raises(ValueError, match="dtype='float32'"):
        clone_of(model, dtype="float32").fit(X, Y)
    with pytest.raises(ValueError, match="early_stopping"):
        model.set_params(early_stopping=True).partial_fit(X, Y)


def clone_of(fitted, **changes):
    """A fitted copy with other parameters."""
    return pickle.loads(pickle.dumps(fitted)).set_params(**changes)


def test_partial_fit_needs_an_update_rule():
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")
    with pytest.raises(AttributeError):
        MLPRegressor(solver="lbfgs").partial_fit(X, Y)


def test_early_stopping_needs_enough_samples():
    with pytest.raises(ValueError, match="validation_fraction"):
        MLPRegressor(early_stopping=True).fit(X[:5], Y[:5])
    for share in (0, 0.0, 0.999):
        with pytest.raises(ValueError, match=rf"^validation_fraction={share} sets"):
            MLPRegressor(early_stopping=True, validation_fraction=share).fit(X, Y)
    with pytest.raises(ValueError, match=r"^validation_fraction=0\.1 cannot"):
        MLPClassifier(early_stopping=True).fit(X, np.arange(len(Y)) == 3)
    weight = np.zeros(len(Y))
    weight[0] = 1.0
    with pytest.raises(ValueError, match="held out"):
        MLPRegressor(early_stopping=True, random_state=0).fit(X, Y, weight)


@BOTH
def test_wrong_weights_are_named(kind):
    model = kind(3, max_iter=1).fit(X, Y)
    right = [c.copy() for c in model.coefs_]
    model.coefs_[1] = np.zeros((4, 4))
    with pytest.raises(ValueError, match=r"coefs_\[1\] has shape \(4, 4\)"):
        model.predict(X)
    model.coefs_ = right[:1]
    with pytest.raises(ValueError, match="coefs_ has 1 arrays"):
        model.predict(X)
    model.coefs_ = 5
    with pytest.raises(ValueError, match="coefs_ is 5; this model wants a list of 2"):
        model.predict(X)
    model.coefs_ = ["abc", right[1]]
    with pytest.raises(ValueError, match=r"coefs_\[0\] is 'abc'; .*\(4, 3\)"):
        model.predict(X)
    model.coefs_ = [right[0], [[1.0], [2.0, 3.0]]]
    with pytest.raises(ValueError, match=r"coefs_\[1\] is \[\[1.0\], \[2.0, 3.0\]\]"):
        model.predict(X)
    model.coefs_ = right
    model.intercepts_ = [np.zeros(3), np.zeros(7)]
    with pytest.raises(ValueError, match=r"intercepts_\[1\] has shape \(7,\)"):
        pickle.dumps(model)
    with pytest.raises(ValueError, match=r"intercepts_\[1\]"):
        model.set_params(warm_start=True).fit(X, Y)


@BOTH
def test_a_failed_call_leaves_the_model(kind):
    model = kind(3, max_iter=2).fit(X, Y)
    before = model.predict(X)
    for bad in (X[:, :2], X[:, :3]):
        with pytest.raises(ValueError, match="sample_weight"):
            model.fit(bad, Y, -np.ones(len(Y)))
    np.testing.assert_array_equal(model.predict(X), before)
    unfitted = kind()
    with pytest.raises(ValueError, match="sample_weight"):
        unfitted.fit(X, Y, -1)
    assert not hasattr(unfitted, "n_features_in_")


# --------------------------------------------------------------------------- what is worth a
# warning


def test_sorted_classes_without_shuffling():
    with pytest.warns(UserWarning, match="sorted by class") as caught:
        MLPClassifier(3, max_iter=1, shuffle=False, batch_size=50).fit(X, Y)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="sorted by class"):
        MLPClassifier(3, max_iter=1, shuffle=False, batch_size=50).fit(X, -Y)
    quiet = [
        (MLPClassifier(3, max_iter=1, shuffle=False, batch_size=150), Y),  # one batch holds all
        (MLPClassifier(3, max_iter=1, shuffle=True, batch_size=50), Y),
        (MLPClassifier(3, max_iter=1, shuffle=False, batch_size=50), np.arange(150) % 3),
        (MLPClassifier(3, max_iter=1, shuffle=False, batch_size=50), np.ones(150)),
    ]
    for model, y in quiet:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", category=ConvergenceWarning)
            model.fit(X, y)


def test_a_batch_larger_than_the_data():
    with pytest.warns(UserWarning, match="batch_size=500") as caught:
        model = MLPRegressor(3, max_iter=1, batch_size=500, history="step").fit(X, Y)
    assert caught[0].filename == __file__
    assert len(model.history_["step_loss"]) == 1


# ------------------------------------------------------------------------------- numbers not finite


@BOTH
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
    assert np.array_equal(model._parameters.flat, start)
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
    assert np.array_equal(model._parameters.flat, whole._parameters.flat)
    assert model.t_ == whole.t_
    # It can go on, at a milder rate, with an optimiser that starts anew.
    model.set_params(warm_start=True, learning_rate_init=1e-5, max_iter=2).fit(1.5 * X, Y)
    assert len(model.loss_curve_) == epochs + 2


def test_lbfgs_with_a_loss_that_is_not_finite():
    model = MLPRegressor(4, "identity", solver="lbfgs", random_state=0)
    with pytest.raises(NonFiniteError, match="L-BFGS"):
        model.fit(1e200 * X, 1e200 * Y)
    assert np.isfinite(model._parameters.flat).all()
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


# ------------------------------------------------------------------------------------- interruption


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


ENDLESS = {"max_iter": 10**6, "max_fun": 10**7, "n_iter_no_change": np.inf, "random_state": 0}
LONG = np.random.default_rng(0).standard_normal((3000, 40))
LONG_Y = LONG[:, 0] * LONG[:, 1]
ALARM = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM on this system")


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
        assert np.array_equal(model._parameters.flat, whole._parameters.flat)
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
    weights = model._parameters.flat.copy()
    with ended_by_a_signal(0.2):
        model.partial_fit(features, y)
    assert np.array_equal(model._parameters.flat, weights)
    assert (model.n_iter_, model.t_, len(model.loss_curve_)) == (0, 3000, 1)
    model.partial_fit(LONG, LONG_Y)
    assert (model.n_iter_, model.t_, len(model.loss_curve_)) == (1, 6000, 2)


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


def test_steps_are_kept_only_where_asked_for(monkeypatch):
    given = []

    class Spy(_core.Training):
        def run(self, rates, *, step_losses=None, **rest):
            given.append(step_losses)
            return super().run(rates, step_losses=step_losses, **rest)

    monkeypatch.setattr(stochastic._core, "Training", Spy)
    MLPRegressor(3, max_iter=2).fit(X, Y)
    assert given == [None]
    model = MLPRegressor(3, max_iter=2, batch_size=50, history="step").fit(X, Y)
    assert given[-1].size == len(model.history_["step_loss"]) == 6


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send Ctrl-C to itself alone")
@pytest.mark.parametrize("given", [{}, {"early_stopping": True}, {"solver": "lbfgs", "tol": 0.0}])
def test_ctrl_c_leaves_a_model_of_whole_epochs(given):
    inputs = np.random.default_rng(0).standard_normal((3000, 40))
    y = inputs[:, 0] * inputs[:, 1]
    model = MLPRegressor((60, 60), max_iter=10**6, max_fun=10**7, random_state=0, **given)
    model.set_params(n_iter_no_change=10**6, warm_start=True)
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(inputs, y)
    finally:
        timer.join()
    assert model.n_iter_ == len(model.history_["loss"]) > 0
    assert model.loss_ == model.history_["loss"][-1]
    if not given:
        n = model.n_iter_
        whole = MLPRegressor((60, 60), max_iter=n, n_iter_no_change=n, random_state=0)
        whole.fit(inputs, y)
        assert np.array_equal(model._parameters.flat, whole._parameters.flat)
        assert model._training_state.vectors is None  # the optimiser starts anew
        model.set_params(max_iter=1).fit(inputs, y)
        assert len(model.loss_curve_) == n + 1


# ------------------------------------------------------------------------------------------ threads


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
    assert not locking._in_training
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, of fork with threads
def test_a_child_forked_while_another_thread_trains_is_free():
    model = MLPRegressor(3, max_iter=1, warm_start=True, n_threads=1).fit(X, Y)
    before = [lib["num_threads"] for lib in blas._controller().info()]
    entered, leave = threading.Event(), threading.Event()

    def work():
        with (
            locking.exclusively(model),
            blas.one_blas_thread(True),
            locking.swapping,
            locking._guard,
            blas._lock,
        ):
            entered.set()
            leave.wait(30)

    worker = threading.Thread(target=work)
    worker.start()
    entered.wait(30)
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            signal.alarm(20)  # instead of a deadlock
            restored = [lib["num_threads"] for lib in blas._controller().info()] == before
            model.fit(X, Y)
            code = 0 if restored and not blas._in_flight and not locking._in_training else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    leave.set()
    worker.join()
    assert status == 0
    assert [lib["num_threads"] for lib in blas._controller().info()] == before


@pytest.mark.threads
def test_a_second_training_call_meanwhile_is_an_error():
    inputs = np.random.default_rng(0).standard_normal((2000, 20))
    y = inputs[:, 0]
    model = MLPRegressor((50,), max_iter=10**6, n_iter_no_change=np.inf, random_state=0)
    model.partial_fit(inputs, y)
    stop = threading.Event()

    class Endless:
        """Features whose check keeps `fit` waiting."""

        shape = inputs.shape

        def __len__(self):
            return len(inputs)

        def __array__(self, dtype=None, copy=None):
            stop.wait(10)
            return inputs

    thread = threading.Thread(target=model.partial_fit, args=(Endless(), y))
    thread.start()
    try:
        for call in (model.fit, model.partial_fit):
            with pytest.raises(RuntimeError, match="being trained by another thread"):
                call(inputs, y)
        model.predict(inputs)
        clone(model).set_params(max_iter=1).fit(inputs, y)
    finally:
        stop.set()
        thread.join()
    model.partial_fit(inputs, y)


@pytest.mark.threads
def test_predict_from_many_threads():
    model = MLPClassifier((30, 30), max_iter=3, random_state=0).fit(X, Y)
    wanted = model.predict_proba(X)
    wrong = []

    def work(i):
        for _ in range(50):
            part = slice(i, None, 3)
            if not np.array_equal(model.predict_proba(X[part]), wanted[part]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_edited_weights_that_are_not_finite_are_named():
    model = MLPRegressor(3, max_iter=2, warm_start=True, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, Y)
    model.intercepts_[1][0] = np.nan
    with pytest.raises(ValueError, match=r"^intercepts_\[1\] holds infinite or NaN"):
        model.fit(X, Y)


DATES = np.full(len(Y), "2020-01-01", "M8[D]")


@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])
def test_dates_are_no_numbers(Estimator):
    # A conversion would train on counts of days or nanoseconds, and on -9.2e18 for NaT.
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    wide = np.repeat(DATES[:, None], X.shape[1], axis=1)
    wide[0] = "NaT"
    labels = Y.mean() < Y if Estimator is MLPClassifier else Y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Estimator(3, max_iter=1, random_state=0).fit(X, labels)
    for dates in (
        wide,
        wide - wide,
        pandas.DataFrame(wide),
        polars.DataFrame(wide.astype("M8[ms]")),
    ):
        with pytest.raises(TypeError, match=r"^X holds dates or durations"):
            Estimator(3, max_iter=1).fit(dates, labels)
        with pytest.raises(TypeError, match=r"^X holds dates or durations"):
            model.predict(dates)


def test_targets_of_regression_are_numbers():
    for wrong, error, message in (
        (DATES, TypeError, "^y holds dates or durations"),
        (np.full(len(Y), "1.5"), ValueError, "^y holds values of dtype <U3"),
    ):
        with pytest.raises(error, match=message):
            MLPRegressor(3, max_iter=1).fit(X, wrong)


def test_a_corrupt_sparse_matrix_is_refused_before_anyone_walks_over_it():
    for place in (10**6, -7):
        bad = scipy.sparse.csr_matrix(np.where(np.abs(X) > 0.7, X, 0))
        bad.indptr[5] = place
        bad.has_sorted_indices = False
        with pytest.raises(ValueError, match=r"indptr|index"):
            MLPRegressor(3, max_iter=1).fit(bad, Y)
