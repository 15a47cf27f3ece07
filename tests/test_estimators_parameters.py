"""Parameters of the estimators: which values are refused, in what words, and which act."""

import numpy as np
import pytest
from helpers import IRIS, over_estimators, short_training
from sklearn import neural_network
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from fastbp import MLPClassifier, MLPRegressor
from fastbp.nn import module
from fastbp.train.options import OPTIONS

pytestmark = short_training

X, Y = IRIS

BAD = {
    "hidden_layer_sizes": [
        *(0, (5, 0), -1, 2.5, (3.0,), "10", None, (10**18,)),
        # Without an order, used up by the first look, or of a wrong shape or dtype.
        *({3, 4}, {3: 4}, (n for n in (3, 4)), np.array(5), np.array([[3]]), np.array([3.0])),
    ],
    "activation": ["rel", None, 3, ["rel"], [], {"relu"}],
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
    "activation_params": [{"slope": 1.0}, "slope", [None, None]],
    "dropout": [-0.1, 1.0, "0.1", None, True, [0.1, 0.1], [1.0], {0.1}],
    "batch_norm": [1, None],
    "layer_norm": ["yes"],
    "residual": [True, 1],
    "clip_norm": [0.0, np.inf, "1"],
    "clip_value": [0, -1.0],
    "schedule": [0.1, "constant"],
    "weight_decay": [-1e-9, np.nan, "0", 0.1],
    "label_smoothing": [-0.1, 1.0, None],
    "weight_init": ["zeros", None],
    "n_threads": [0, -1, 2.5],
    "dtype": ["float16", "int", 3],
    "history": ["batch", None],
    "validation_cv": [3, "kfold", ([0, 1],), type],
    "scoring": ["right", 3],
    "max_seconds": [0, -1.0, np.inf, "1"],
    "calibration": ["sigmoid", True],
    "standardize": ["yes", 1],
    "allow_nan": [None],
    "categorical_features": ["object", 3, [["a"]]],
    "class_weight": ["even", 3, [1.0, 2.0]],
}


def test_every_parameter_is_tested():
    assert set(BAD) == set(MLPClassifier().get_params())
    of_classes = {"class_weight", "calibration", "label_smoothing"}
    assert set(BAD) - of_classes == set(MLPRegressor().get_params())
    others = {"max_epochs", "seed", "mask_value"}  # of networks: see test_fit.py
    others |= {"accumulate", "memory_limit", "precision"}
    assert set(OPTIONS) - others | {"loss", "loss_params", "activation_params"} == set(BAD)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in (MLPClassifier, MLPRegressor) for name in kind().get_params()],
)
def test_a_wrong_parameter_is_named_with_what_was_found(kind, name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=name) as raised:
            kind(**{name: value}).fit(X, Y)
        if not isinstance(value, dict):
            assert repr(value) in str(raised.value)


VALUES = [-1, 0, 1, 2.5, 2**40, "auto", "relu", None, True, np.nan, np.inf, (3,), (2, 0)]


@over_estimators
def test_what_scikit_learn_refuses_is_refused(kind):
    theirs = getattr(neural_network, kind.__name__)
    for name in set(theirs().get_params()) - {"loss"}:
        for value in VALUES:
            refused = False
            try:
                theirs(**{name: value})._validate_params()
            except InvalidParameterError:
                refused = True
            # Its check takes any sequence for layer sizes, which then fail in fit, and bools for
            # integers.
            if refused:
                with pytest.raises(ValueError, match=name):
                    kind(**{name: value}).fit(X, Y)


@pytest.mark.parametrize("nesterovs", [False, True])
def test_momentum_may_be_one_as_in_scikit_learn(nesterovs):
    model = MLPRegressor(3, solver="sgd", momentum=1, nesterovs_momentum=nesterovs, max_iter=3)
    assert np.isfinite(model.fit(X, Y).loss_)


def test_layer_sizes_of_any_sequence():
    wanted = MLPRegressor((3, 4), max_iter=1, random_state=0).fit(X, Y).coefs_
    for sizes in ([3, 4], range(3, 5), np.array([3, 4])):
        model = MLPRegressor(sizes, max_iter=1, random_state=0).fit(X, Y)
        assert all(np.array_equal(a, b) for a, b in zip(model.coefs_, wanted, strict=True))
        clone(model).fit(X, Y)


def test_a_network_beyond_any_memory_is_refused_before_weights_are_drawn(monkeypatch):
    def none(*_):
        raise AssertionError("drawn before the network was found to be possible")

    monkeypatch.setattr(module, "_start", none)
    model = MLPRegressor((2**31 - 1,) * 4)
    with pytest.raises(ValueError, match="found"):
        model.fit(X, Y)
    with pytest.raises(ValueError, match="found"):
        model._gradient_problem(X, Y)


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
