"""How multilayer perceptrons are trained beyond scikit-learn's parameters: clipping, schedules,
decoupled decay, smoothed labels."""

import pickle

import numpy as np
import pytest
from helpers import IRIS, same_history, short_training
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastbp import MLPClassifier, MLPRegressor, check_gradients, fit, nn, optim

pytestmark = short_training

X, Y = IRIS
KINDS = [MLPClassifier, MLPRegressor]
over_kinds = pytest.mark.parametrize("kind", KINDS)


def model_of(kind=MLPClassifier, **given):
    chosen = {"batch_size": 32, "random_state": 5, "max_iter": 4, "weight_init": "he_normal"}
    return kind((6,), **chosen | {"learning_rate_init": 0.01} | given)


def values(model):
    return model.module_._home.settle()


def assert_same(one, other):
    np.testing.assert_array_equal(values(one), values(other))
    assert same_history(one.history_, other.history_)


SMOOTH = nn.SoftmaxCrossEntropy(smoothing=0.2)
# Parameters of an estimator, and of `fit`.
CASES = {
    "norm": ({"clip_norm": 0.05}, {"clip_norm": 0.05, "alpha": 1e-4}),
    "value": ({"clip_value": 0.01}, {"clip_value": 0.01, "alpha": 1e-4}),
    "cosine": (
        {"schedule": optim.Cosine(0.1, 15)},
        {"schedule": optim.Cosine(0.1, 15), "alpha": 1e-4},
    ),
    "plateau": (
        {"schedule": optim.ReduceOnPlateau(0.05, patience=0, factor=0.5), "solver": "sgd"},
        {
            "schedule": optim.ReduceOnPlateau(0.05, patience=0, factor=0.5),
            "optimizer": "nesterov",
            "alpha": 1e-4,
        },
    ),
    "decay": (
        {"solver": "adamw", "weight_decay": 0.3},
        {"optimizer": "adamw", "optimizer_params": {"weight_decay": 0.3}},
    ),
    "smoothing": ({"label_smoothing": 0.2}, {"loss": SMOOTH, "alpha": 1e-4}),
}
GIVEN = {name: given for name, (given, _) in CASES.items()}
over_given = pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())


@pytest.mark.parametrize("name", CASES)
@over_kinds
def test_the_bits_are_those_of_fit(kind, name):
    given, asked = CASES[name]
    classifies = kind is MLPClassifier
    if name == "smoothing" and not classifies:
        with pytest.raises(TypeError, match="label_smoothing"):
            kind(**given)
        return
    model = model_of(kind, **given).fit(X, Y)
    layers = [
        nn.Linear(width, init="he_normal", bias_init="zeros")
        for width in (6, 3 if classifies else 1)
    ]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1]).build(4, seed=5, dtype=np.float64)
    chosen = {"loss": "softmax_cross_entropy" if classifies else "squared_error"}
    chosen |= {"batch_size": 32, "max_epochs": 4, "learning_rate_init": 0.01, **asked}
    targets = Y if classifies else Y[:, None].astype(np.float64)
    result = fit(network, X=X, y=targets, **chosen)
    np.testing.assert_array_equal(values(model), network._home.settle())
    for one in ("loss", "learning_rate", "gradient_norm"):
        np.testing.assert_array_equal(model.history_[one], result.history[one])
    plain = model_of(kind, solver=model.solver).fit(X, Y)
    assert not np.array_equal(values(plain), values(model))


@over_given
@pytest.mark.parametrize("stops", [False, True], ids=["", "early stopping"])
def test_two_epochs_and_two_more_equal_four(given, stops):
    given = {**given, "warm_start": True, "early_stopping": stops}
    whole = model_of(**given).fit(X, Y)
    halves = model_of(**given | {"max_iter": 2}).fit(X, Y)
    assert_same(pickle.loads(pickle.dumps(halves)).fit(X, Y), whole)
    assert check_gradients(whole, X[::7], Y[::7]).ok


@over_given
def test_partial_fit_has_the_bits_of_fit(given):
    parts = model_of(**given)
    for _ in range(4):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    assert_same(parts, model_of(**given, tol=0, n_iter_no_change=9).fit(X, Y))


def test_a_schedule_is_asked_for_every_step_whatever_learning_rate_init():
    schedule = optim.Warmup(optim.Cosine(0.1, 20), total_iters=5)
    model = model_of(schedule=schedule, solver="sgd", learning_rate_init=7.0).fit(X, Y)
    np.testing.assert_array_equal(model.history_["learning_rate"], schedule([0, 5, 10, 15]))


def test_a_plateau_may_follow_the_score():
    plateau = optim.ReduceOnPlateau(0.01, "max", patience=0)
    model = model_of(schedule=plateau, early_stopping=True, max_iter=8).fit(X, Y)
    followed = model.history_["validation_score"][:-1]
    np.testing.assert_array_equal(model.history_["learning_rate"], plateau.rates(followed))


@over_kinds
def test_weight_decay_is_what_alpha_is_to_adamw(kind):
    def trained(**given):
        return model_of(kind, solver="adamw", **given).fit(X, Y)

    assert_same(trained(weight_decay=0.2), trained(alpha=0.2))
    assert_same(trained(weight_decay=0.2, alpha=0), trained(alpha=0.2))
    assert_same(trained(weight_decay=0.2, alpha=0.2), trained(alpha=0.2))
    assert_same(trained(weight_decay=0), trained(alpha=0))
    assert_same(trained(weight_decay=None), trained())
    # Others have no decay, and can be told so.
    adam = model_of(kind).fit(X, Y)
    assert_same(model_of(kind, weight_decay=0.0).fit(X, Y), adam)
    assert np.isfinite(model_of(kind, solver="lbfgs", weight_decay=0.0).fit(X, Y).loss_)


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_smoothed_labels_by_hand(task):
    features, y = X, Y if task == "multiclass" else (Y == 1).astype(int)
    if task == "multilabel":
        features, y = make_multilabel_classification(80, 4, n_classes=3, random_state=0)
        features = features / 20  # probabilities away from 0 and 1, of which logarithms are taken
    given = {"batch_size": len(y), "max_iter": 1, "alpha": 0.0, "learning_rate_init": 1e-12}
    model = model_of(label_smoothing=0.2, **given).fit(features, y)
    p = model.predict_proba(features)  # of weights that hardly moved
    if task == "multilabel":
        target = 0.8 * y + 0.1
        losses = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum(axis=1)
    else:
        n_classes = p.shape[1]
        target = 0.8 * np.eye(n_classes)[y] + 0.2 / n_classes
        losses = -(target * np.log(p)).sum(axis=1)
    # One step of Adam moves a weight by 1e-12, and so each of some 10 sums by some 1e-10.
    assert model.loss_ == pytest.approx(losses.mean(), rel=1e-8)
    assert check_gradients(model, features[::7], y[::7]).ok
    same = model_of(loss_params={"smoothing": 0.2}, **given).fit(features, y)
    assert_same(same, model)


# ---------------------------------------------------------------------------------- scikit-learn's


CHECKED = [
    {"clip_norm": 0.5},
    {"clip_value": 0.1},
    {"schedule": optim.Exponential(0.01, 0.99)},
    {"solver": "adamw", "weight_decay": 0.01},
]


@parametrize_with_checks(
    [
        *(kind(**given) for kind in KINDS for given in CHECKED),
        MLPClassifier(label_smoothing=0.1),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@over_given
def test_clones_and_searches(given):
    model = model_of(**given)
    assert clone(model).get_params() == model.get_params()
    assert_same(clone(model).fit(X, Y), model.fit(X, Y))
    name = next(name for name in given if name != "solver")
    plain = MLPClassifier().get_params()[name]
    search = GridSearchCV(model, {name: [plain, given[name]]}, cv=2, n_jobs=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"clip_norm": 1.0, "clip_value": 1.0}, ["clip_norm", "clip_value"]),
        (
            {"schedule": optim.Constant(0.1), "learning_rate": "adaptive", "solver": "sgd"},
            ["schedule", "'adaptive'", "'constant'"],
        ),
        ({"schedule": optim.ReduceOnPlateau(1.0, mode="max")}, ["schedule", "early_stopping"]),
        ({"schedule": optim.Constant}, ["schedule", "Constant", "ReduceOnPlateau"]),
        ({"weight_decay": 0.1}, ["weight_decay", "0.1", "'adam'", "'adamw'", "alpha"]),
        (
            {"weight_decay": 0.1, "alpha": 0.5, "solver": "adamw"},
            ["weight_decay", "0.1", "alpha=0.5"],
        ),
        ({"solver": "lbfgs", "weight_decay": 0.1}, ["weight_decay", "0.1", "'lbfgs'"]),
        ({"solver": "lbfgs", "clip_norm": 2.0}, ["clip_norm", "2.0", "'lbfgs'"]),
        ({"solver": "lbfgs", "clip_value": 2.0}, ["clip_value", "2.0", "'lbfgs'"]),
        ({"solver": "lbfgs", "schedule": optim.Constant(0.1)}, ["schedule", "'lbfgs'"]),
        ({"label_smoothing": 0.1, "loss": "hinge"}, ["label_smoothing", "0.1", "'hinge'"]),
        ({"label_smoothing": 0.1, "loss": "focal"}, ["label_smoothing", "'focal'", "'log_loss'"]),
        (
            {"label_smoothing": 0.1, "loss_params": {"smoothing": 0.2}},
            ["label_smoothing", "0.1", "0.2"],
        ),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(value),
)
def test_what_does_not_fit_is_refused(given, words):
    kinds = KINDS[:1] if "label_smoothing" in given else KINDS
    for kind in kinds:
        model = model_of(kind, **given)
        with pytest.raises(ValueError) as raised:
            model.fit(X, Y)
        for word in words:
            assert word in str(raised.value)
        assert not hasattr(model, "n_features_in_")
