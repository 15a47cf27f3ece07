"""Bad parameters and arrays, numbers not finite, interruptions: what is said, what is left."""

import os
import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from fastbp import MLPClassifier, MLPRegressor, NonFiniteError
from fastbp.estimators.options import OPTIONS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
BOTH = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])

# ------------------------------------------------------------------------------------- parameters

BAD = {
    "hidden_layer_sizes": [0, (5, 0), -1, 2.5, (3.0,), "10", None],
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
    with pytest.raises(ValueError, match="convert"):
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


# ------------------------------------------------------------------------------------- interruption


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
