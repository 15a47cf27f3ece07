"""Training that goes on, or cannot: warm starts, `partial_fit`, pickles, edits, one seed."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from helpers import IRIS, same_history, short_training
from sklearn.base import clone
from sklearn.datasets import make_regression

from fastbp import MLPClassifier, MLPRegressor

pytestmark = short_training

X, Y = IRIS


def same(a, b):
    """Whether two estimators have the same weights and history, bit for bit."""
    arrays = zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True)
    return all(np.array_equal(x, y) for x, y in arrays) and a.loss_curve_ == b.loss_curve_


def assert_same(a, b):
    assert same(a, b)
    for name in ("t_", "loss_", "best_loss_", "validation_scores_", "best_validation_score_"):
        assert getattr(a, name) == getattr(b, name)
    assert same_history(a.history_, b.history_)


CASES = [
    {"solver": "sgd", "momentum": 0.0},
    {"solver": "sgd"},
    {"solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling"},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    {"solver": "adam"},
    {"solver": "adam", "dtype": "float32", "n_threads": 2},
    {"solver": "adamw", "alpha": 0.1},
    {"solver": "adam", "early_stopping": True, "validation_fraction": 0.3},
    {"solver": "adam", "early_stopping": True, "learning_rate_init": 0.5},
    {"solver": "adam", "history": "step", "shuffle": False, "batch_size": 150},
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_three_epochs_and_three_more_equal_six(case):
    given = {"batch_size": 16, "random_state": 5, "warm_start": True} | case
    whole = MLPClassifier((7, 5), max_iter=6, **given).fit(X, Y)
    halves = MLPClassifier((7, 5), max_iter=3, **given).fit(X, Y)
    halves = pickle.loads(pickle.dumps(halves)).fit(X, Y)
    assert_same(halves, whole)
    assert (halves.n_iter_, whole.n_iter_) == (3, 6)
    cold = MLPClassifier((7, 5), max_iter=6, **given | {"warm_start": False}).fit(X, Y)
    assert_same(cold, whole)
    # All later training as well.
    for model in (halves, whole):
        model.set_params(max_iter=2).fit(X, Y)
    assert_same(halves, whole)


def test_early_stopping_goes_on_from_the_last_weights_not_the_best():
    # The rate is wild, so that with some seed the last epoch is soon not the best one.
    given = {"early_stopping": True, "learning_rate_init": 0.5, "warm_start": True}
    given |= {"n_iter_no_change": 50}
    for seed in range(20):
        given["random_state"] = seed
        model = MLPClassifier(8, max_iter=5, **given).fit(X, Y)
        scores = model.validation_scores_
        if scores[-1] < max(scores):
            break
    assert scores[-1] < max(scores) == model.best_validation_score_
    shown = [c.copy() for c in model.coefs_]
    best = np.argmax(scores) + 1
    stopped_at_best = MLPClassifier(8, max_iter=best, **given).fit(X, Y)
    assert all(np.array_equal(a, b) for a, b in zip(shown, stopped_at_best.coefs_, strict=True))
    assert_same(
        model.set_params(max_iter=4).fit(X, Y), MLPClassifier(8, max_iter=9, **given).fit(X, Y)
    )


@pytest.mark.parametrize("early_stopping", [False, True])
def test_edited_weights_are_where_training_goes_on(early_stopping):
    given = {"random_state": 0, "warm_start": True, "early_stopping": early_stopping}
    model = MLPClassifier(8, max_iter=4, **given).fit(X, Y)
    other = pickle.loads(pickle.dumps(model))
    model.coefs_[0][...] = 0.25
    assert not same(model, other)
    model.set_params(max_iter=1, learning_rate_init=1e-9).fit(X, Y)
    np.testing.assert_allclose(model.coefs_[0], 0.25, atol=1e-6)
    other.set_params(max_iter=1, learning_rate_init=1e-9).fit(X, Y)
    assert abs(other.coefs_[0] - 0.25).max() > 0.1


def test_partial_fit_keeps_the_state_and_equals_fit():
    # An epoch of partial_fit on all samples is an epoch of fit.
    whole = MLPClassifier(6, batch_size=16, max_iter=4, random_state=1).fit(X, Y)
    parts = MLPClassifier(6, batch_size=16, random_state=1)
    for i in range(4):
        parts.partial_fit(X, Y, classes=np.unique(Y))
        if i == 1:
            parts = pickle.loads(pickle.dumps(parts))
    assert_same(parts, whole)
    assert (parts.n_iter_, whole.n_iter_) == (1, 4)


def test_partial_fit_does_not_repeat_its_order():
    # With a vanishing rate the weights stay, so that the losses of the steps tell the batches.
    model = MLPClassifier(
        6, batch_size=16, random_state=1, learning_rate_init=1e-30, history="step"
    )
    for _ in range(3):
        model.partial_fit(X, Y, classes=np.unique(Y))
    orders = np.reshape(model.history_["step_loss"], (3, -1))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


def test_fit_after_partial_fit_begins_anew():
    given = {"random_state": 1, "max_iter": 3}
    model = MLPClassifier(6, **given).partial_fit(X, Y, classes=np.unique(Y)).fit(X, Y)
    assert_same(model, MLPClassifier(6, **given).fit(X, Y))
    assert same(clone(model).fit(X, Y), model)


def test_only_what_will_be_continued_keeps_its_arrays():
    kept = MLPClassifier(50, max_iter=3, warm_start=True).fit(X, Y)
    dropped = MLPClassifier(50, max_iter=3).fit(X, Y)
    flat = dropped.n_params_ * 8
    assert kept._training_state.vectors.nbytes == 2 * flat
    assert dropped._training_state.vectors is None
    # Of a plain model, the weights are in the pickle once; of the other, with Adam's two moments.
    assert flat < len(pickle.dumps(dropped)) < flat + 4000
    assert 3 * flat < len(pickle.dumps(kept)) < 3 * flat + 4000


def test_a_pickle_predicts_alike_and_shares_nothing():
    model = MLPClassifier(6, max_iter=3).fit(X, Y)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert np.array_equal(twin.predict_proba(X), model.predict_proba(X))
        twin.coefs_[0][0, 0] += 1
        assert not np.array_equal(twin.predict_proba(X), model.predict_proba(X))
    assert (
        pickle.loads(pickle.dumps(MLPClassifier(6))).get_params() == MLPClassifier(6).get_params()
    )


def test_a_memory_mapped_model_predicts_and_goes_on(tmp_path):
    model = MLPClassifier(6, max_iter=3, warm_start=True, random_state=0).fit(X, Y)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not mapped.coefs_[0].flags.writeable
    assert np.array_equal(mapped.predict_proba(X), model.predict_proba(X))
    assert_same(mapped.fit(X, Y), model.fit(X, Y))
    assert mapped.coefs_[0].flags.writeable


def test_one_seed_is_drawn_and_kept():
    np.random.seed(0)  # noqa: NPY002 - None means NumPy's global state, as in scikit-learn
    first = MLPClassifier(6, max_iter=2, warm_start=True).fit(X, Y)
    np.random.seed(0)  # noqa: NPY002
    second = MLPClassifier(6, max_iter=2, warm_start=True).fit(X, Y)
    assert_same(first, second)
    assert first._training_state.seed > 2**32
    seed = first._training_state.seed
    assert_same(first.fit(X, Y), second.fit(X, Y))  # though the global state has moved on
    assert first._training_state.seed == seed

    state = np.random.RandomState(0)
    one, two = (MLPClassifier(6, max_iter=2, random_state=state).fit(X, Y) for _ in range(2))
    assert not same(one, two)
    again = MLPClassifier(6, max_iter=2, random_state=np.random.RandomState(0)).fit(X, Y)
    assert same(one, again)
    assert same(
        MLPClassifier(6, max_iter=2, random_state=3).fit(X, Y),
        MLPClassifier(6, max_iter=2, random_state=np.int64(3)).fit(X, Y),
    )


@pytest.mark.filterwarnings("error:All steps")  # counted anew, and none was skipped
def test_a_change_of_solver_keeps_weights_and_starts_its_vectors_anew():
    model = MLPClassifier(6, max_iter=3, warm_start=True, random_state=0).fit(X, Y)
    weights = model.coefs_[0].copy()
    model.set_params(solver="sgd", learning_rate_init=1e-12).fit(X, Y)
    np.testing.assert_allclose(model.coefs_[0], weights, atol=1e-9)
    assert len(model.loss_curve_) == 6
    assert model._training_state.vectors.shape[0] == 1


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_warm_start_on_other_data(solver):
    model = MLPRegressor(6, solver=solver, max_iter=5, warm_start=True, random_state=0)
    inputs, target = make_regression(80, 3, random_state=0)
    model.fit(inputs, target)
    before = model.loss_
    model.fit(inputs[:50], target[:50])
    assert model.loss_ != before
    assert model.n_iter_ == 5


def test_lbfgs_warm_start_begins_at_the_weights():
    model = MLPRegressor(6, "tanh", solver="lbfgs", max_iter=30, warm_start=True, random_state=0)
    y = X[:, 0] * X[:, 1]
    model.fit(X[:, :2], y)
    first = model.history_["loss"]
    model.fit(X[:, :2], y)
    assert model.history_["loss"][0] < first[-1] + 1e-12


def test_after_a_plain_fit_partial_fit_goes_on_from_its_weights():
    model = MLPClassifier(6, max_iter=3, random_state=0).fit(X, Y)
    weights = model.coefs_[0].copy()
    model.set_params(learning_rate_init=1e-12).partial_fit(X, Y)
    np.testing.assert_allclose(model.coefs_[0], weights, atol=1e-9)
    assert model._training_state.epoch == 4


def clone_of(fitted, **changes):
    """A fitted copy with other parameters."""
    return pickle.loads(pickle.dumps(fitted)).set_params(**changes)


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


def test_partial_fit_needs_an_update_rule():
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")
    with pytest.raises(AttributeError):
        MLPRegressor(solver="lbfgs").partial_fit(X, Y)
