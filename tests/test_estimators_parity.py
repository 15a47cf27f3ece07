"""The estimators against scikit-learn's, from the same starting weights and in the same order.

Why 1e-9: a step's rounding is some 1e-16 of the loss, sums in another order included, and 50 epochs
of up to 40 steps amplify it by no more than a few thousand on these problems, whose probabilities
stay away from 0 and 1 (scikit-learn clips them there, fastbp does not). A wrong factor anywhere
would show in the first digits.
"""

import warnings

import numpy as np
import pytest
from helpers import short_training
from sklearn import neural_network
from sklearn.base import is_classifier
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier, MLPRegressor

RTOL = 1e-9

pytestmark = short_training


def data(task, n=120):
    if task == "multilabel":
        X, y = make_multilabel_classification(n, 6, n_classes=3, random_state=0)
    elif task in ("binary", "multiclass"):
        X, y = make_classification(
            n,
            6,
            n_informative=4,
            n_classes=2 if task == "binary" else 4,
            flip_y=0.3,
            random_state=0,
        )
    else:
        X, y = make_regression(n, 6, n_targets=3 if task == "multioutput" else 1, random_state=0)
        y = y / np.abs(y).max()
        if task == "counts":
            y = np.floor(np.exp(2 * y))
    return StandardScaler().fit_transform(X), y


def twin(ours, X, y):
    """scikit-learn's estimator with our parameters, which will start from our weights."""
    theirs = getattr(neural_network, type(ours).__name__)()
    given, known = ours.get_params(), theirs.get_params()
    theirs.set_params(**{name: given[name] for name in known})
    problem = ours._gradient_problem(X, y)
    arrays = [
        problem.params[t["offset"] : t["offset"] + np.prod(t["shape"])].reshape(t["shape"]).copy()
        for t in problem.plan.tensors
    ]
    layers = iter(list(zip(arrays[::2], arrays[1::2], strict=True)))
    theirs._init_coef = lambda fan_in, fan_out, dtype: next(layers)
    return theirs


def assert_same_training(ours, X, y, sample_weight=None):
    theirs = twin(ours, X, y).fit(X, y, sample_weight=sample_weight)
    ours.fit(X, y, sample_weight=sample_weight)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=RTOL)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    assert ours.out_activation_ == theirs.out_activation_
    # Absolute, since a weight may pass through zero; weights are of the order of 1.
    for a, b in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=RTOL)
    if is_classifier(ours):
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    return ours, theirs


def options(**given):
    return {
        "shuffle": False,
        "max_iter": 50,
        "tol": 0.0,
        "n_iter_no_change": 50,
        "random_state": 3,
    } | given


SCHEDULES = [
    {"solver": "sgd", "learning_rate_init": 0.01},
    {"solver": "sgd", "learning_rate_init": 0.01, "nesterovs_momentum": False},
    {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0},
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "power_t": 0.3},
    {
        "solver": "sgd",
        "learning_rate_init": 0.05,
        "learning_rate": "adaptive",
        "tol": 1e-2,
        "n_iter_no_change": 2,
    },
    {"solver": "adam", "learning_rate_init": 0.003},
    {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_activations_and_schedules(activation, schedule):
    X, y = data("multiclass")
    ours = MLPClassifier((9, 7), activation, batch_size=32, **options(**schedule))
    assert_same_training(ours, X, y)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("alpha", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression", "counts"])
def test_tasks_and_penalties(task, alpha, solver):
    X, y = data(task)
    given = options(solver=solver, alpha=alpha, learning_rate_init=0.005, batch_size=50)
    if task in ("regression", "counts"):
        loss = "poisson" if task == "counts" else "squared_error"
        ours = MLPRegressor((8,), "tanh", loss=loss, **given)
    else:
        ours = MLPClassifier((8,), "tanh", **given)
    assert_same_training(ours, X, y)


@pytest.mark.parametrize("batch_size", ["auto", 1, 7, 119, 120])
@pytest.mark.parametrize("weighted", [False, True])
def test_batch_sizes_and_sample_weights(batch_size, weighted):
    X, y = data("binary")
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y)) if weighted else None
    ours = MLPClassifier((8,), batch_size=batch_size, alpha=0.1, **options())
    assert_same_training(ours, X, y, weight)


@pytest.mark.parametrize("hidden", [(), 5, (5, 4, 3, 2)])
def test_depths(hidden):
    X, y = data("regression")
    assert_same_training(MLPRegressor(hidden, "tanh", **options(solver="sgd")), X, y)


def test_several_outputs_train_alike_but_report_the_sum():
    # scikit-learn reports the mean over outputs of what it differentiates, we report the sum
    # itself.
    X, y = data("multioutput")
    ours = MLPRegressor((8,), "tanh", **options(alpha=0.0))
    theirs = twin(ours, X, y).fit(X, y)
    ours.fit(X, y)
    np.testing.assert_allclose(ours.loss_curve_, 3 * np.array(theirs.loss_curve_), rtol=RTOL)
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=0, atol=RTOL)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_early_stopping(task, capsys):
    X, y = data(task)
    kind = MLPRegressor if task == "regression" else MLPClassifier
    ours = kind(
        (20,),
        early_stopping=True,
        verbose=True,
        **options(learning_rate_init=0.01, tol=1e-4, n_iter_no_change=5, max_iter=100),
    )
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    ours, theirs = assert_same_training(ours, X, y, weight)
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=RTOL)
    np.testing.assert_allclose(
        ours.best_validation_score_, theirs.best_validation_score_, rtol=RTOL
    )
    assert ours.best_loss_ is None
    assert ours.history_["validation_score"].tolist() == ours.validation_scores_
    assert len(ours.history_["validation_loss"]) == ours.n_iter_
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(printed) // 2] == printed[len(printed) // 2 :]


@pytest.mark.parametrize(
    "given",
    [
        {"solver": "adam", "tol": 0.05, "n_iter_no_change": 3},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
        {"solver": "sgd", "max_iter": 3, "n_iter_no_change": np.inf},
    ],
)
def test_stopping_and_its_messages(given, capsys):
    X, y = data("multiclass")
    ours = MLPClassifier((8,), verbose=True, **options(**given))
    theirs = twin(ours, X, y)
    assert_same_training(ours, X, y)
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(printed) // 2] == printed[len(printed) // 2 :]
    quiet = MLPClassifier(**ours.get_params() | {"verbose": False}).fit(X, y)
    assert quiet.loss_curve_ == ours.loss_curve_  # in blocks of epochs, the same decisions
    assert quiet.best_loss_ == ours.best_loss_
    theirs.fit(X, y)
    assert ours.best_loss_ == pytest.approx(theirs.best_loss_, rel=RTOL)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit(solver):
    X, y = data("multiclass")
    ours = MLPClassifier((8,), **options(solver=solver, learning_rate="invscaling"))
    theirs = twin(ours, X, y)
    for i in range(12):
        part = slice(20 * (i % 3), 20 * (i % 3) + 60)
        for model in (ours, theirs):
            model.partial_fit(X[part], y[part], classes=np.arange(4))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=RTOL)
    assert (ours.t_, ours.n_iter_) == (theirs.t_, theirs.n_iter_)


def test_convergence_warning_only_where_training_was_cut_short():
    X, y = data("binary")
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        MLPClassifier(4, max_iter=2).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(4, max_iter=50, tol=10.0, random_state=0).fit(X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression", "counts"])
def test_lbfgs(task, activation):
    """After each of 20 iterations; later, rounding alone drives any two implementations apart."""
    X, y = data(task)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    for n in range(1, 21):
        given = options(solver="lbfgs", max_iter=n, alpha=0.01)
        if task in ("regression", "counts"):
            loss = "poisson" if task == "counts" else "squared_error"
            ours = MLPRegressor((6,), activation, loss=loss, **given)
        else:
            ours = MLPClassifier((6,), activation, **given)
        theirs = twin(ours, X, y).fit(X, y, weight)
        ours.fit(X, y, weight)
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=RTOL)
        assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    assert ours.history_["loss"][-1] == ours.loss_
    assert not hasattr(ours, "loss_curve_")


@pytest.mark.parametrize(("activation", "factor"), [("relu", 6), ("logistic", 2)])
def test_glorot_uniform_has_the_distribution_of_scikit_learn(activation, factor):
    X, y = data("regression")
    # Its weights after one step of a vanishing rate.
    theirs = neural_network.MLPRegressor(
        hidden_layer_sizes=(300, 200), activation=activation, max_iter=1, learning_rate_init=1e-12
    ).fit(X, y)
    ours = MLPRegressor((300, 200), activation, max_iter=1, learning_rate_init=1e-12).fit(X, y)
    bound = np.sqrt(factor / 500)
    for drawn in (ours.coefs_[1], theirs.coefs_[1], ours.intercepts_[1], theirs.intercepts_[1]):
        assert 0.95 * bound < np.abs(drawn).max() < bound + 1e-9
        # bound / sqrt(3); 200 deviates tell it to sqrt(0.2 / 200) = 3 %, and this is five times
        # that.
        assert drawn.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
        assert abs(drawn.mean()) < 5 * bound / np.sqrt(3 * 200)


@pytest.mark.parametrize("ours", [MLPClassifier, MLPRegressor])
def test_parameters_and_defaults(ours):
    theirs = getattr(neural_network, ours.__name__)().get_params()
    mine = ours().get_params()
    assert {name: mine[name] for name in theirs} == theirs
    new = {"loss_params", "activation_params", "weight_init", "n_threads", "dtype", "history"}
    new |= {"validation_cv", "scoring", "max_seconds"}
    new |= {"standardize", "allow_nan", "categorical_features"}
    new |= {"dropout", "batch_norm", "layer_norm", "residual"}
    new |= {"clip_norm", "clip_value", "schedule", "weight_decay"}
    of_classes = {"loss", "class_weight", "calibration", "label_smoothing"}
    of_classes = of_classes if ours is MLPClassifier else set()
    assert set(mine) - set(theirs) == new | of_classes
