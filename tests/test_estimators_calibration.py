"""Probabilities calibrated by one temperature, which samples held out decide."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import ShuffleSplit, train_test_split

from fastbp import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
over_classifiers = pytest.mark.parametrize("kind", [MLPClassifier, NetworkClassifier])

X, Y = load_digits(return_X_y=True)
X = X / 16
NOISY = np.where(np.random.default_rng(0).random(len(Y)) < 0.2, (Y + 1) % 10, Y)
TRAIN, HELD, X_TEST = X[:600], X[600:1200], X[1200:]


def fitted(kind, y=NOISY, n_epochs=60, **given):
    """Of labels a fifth of which are wrong, which it learns by heart."""
    limit = "max_iter" if kind is MLPClassifier else "max_epochs"
    model = kind(**{limit: n_epochs, "random_state": 0, "learning_rate_init": 0.01, **given})
    return model.fit(TRAIN, y[:600], X_val=HELD, y_val=y[600:1200])


def targets(kind):
    if kind == "binary":
        return (NOISY < 5).astype(int)
    if kind == "multilabel":
        return np.column_stack([NOISY < 5, NOISY % 2 == 0]).astype(int)
    return NOISY


def loss_of(y, probabilities):
    if y.ndim == 1:
        return log_loss(y, probabilities, labels=np.unique(y))
    each = [log_loss(y[:, j], probabilities[:, j]) for j in range(y.shape[1])]
    return sum(each)


@over_classifiers
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_it_is_the_best_temperature_of_samples_held_out(kind, task):
    y = targets(task)
    plain, model = fitted(kind, y), fitted(kind, y, calibration="temperature")
    np.testing.assert_array_equal(plain._flat(), model._flat())
    np.testing.assert_array_equal(plain.predict(X_TEST), model.predict(X_TEST))
    assert model.temperature_ > 1  # it is too certain of what it has learnt by heart

    def at(t):
        raw = plain._output(HELD, raw=True) / t
        if task == "multiclass":
            e = np.exp(raw - raw.max(axis=1, keepdims=True))
            return loss_of(y[600:1200], e / e.sum(axis=1, keepdims=True))
        p = 1 / (1 + np.exp(-raw))
        return loss_of(y[600:1200], p if task == "multilabel" else p[:, 0])

    best = at(model.temperature_)
    assert best == pytest.approx(loss_of(y[600:1200], _second(model.predict_proba(HELD), task)))
    # Near its least value the loss is a parabola: 1 % aside it is higher, if by 1e-4 of itself.
    assert best < min(at(model.temperature_ * 1.01), at(model.temperature_ / 1.01))
    assert best < 0.9 * at(1.0)  # which is far too certain
    unseen = y[1200:]
    calibrated, before = (_second(m.predict_proba(X_TEST), task) for m in (model, plain))
    assert loss_of(unseen, calibrated) < loss_of(unseen, before)


def _second(probabilities, task):
    return probabilities[:, 1] if task == "binary" else probabilities


@over_classifiers
def test_logarithms_are_of_the_same_probabilities(kind):
    model = fitted(kind, calibration="temperature")
    probabilities = model.predict_proba(X_TEST)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X_TEST)), probabilities, rtol=1e-12)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(X_TEST), probabilities)
    row = np.concatenate([model.predict_proba(X_TEST[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(row, probabilities[:5])


def test_any_samples_held_out_will_do():
    given = {"calibration": "temperature", "random_state": 0, "max_iter": 30}
    for how in ({"early_stopping": True}, {"validation_cv": ShuffleSplit(1, random_state=0)}):
        model = MLPClassifier(**given, **how).fit(X, NOISY)
        assert 0.01 < model.temperature_ < 100
    again = model.set_params(calibration=None).fit(X, NOISY)
    assert not hasattr(again, "temperature_")


@over_classifiers
def test_what_is_refused(kind):
    with pytest.raises(ValueError, match="calibration='temperature' goes by samples held out"):
        kind(calibration="temperature").fit(X, Y)
    with pytest.raises(ValueError, match="calibration must be None; got 'temperature'"):
        kind(calibration="temperature").partial_fit(X, Y, classes=range(10))
    splitter = ShuffleSplit(1)
    with pytest.raises(ValueError, match="validation_cv must be None; got ShuffleSplit"):
        kind(validation_cv=splitter).partial_fit(X, Y, classes=range(10))
    chosen = {"solver": "lbfgs"} if kind is MLPClassifier else {"optimizer": "lbfgs"}
    parts = train_test_split(X, Y, random_state=0)
    with pytest.raises(ValueError, match="with an update rule"):
        model = kind(calibration="temperature", **chosen)
        model.fit(parts[0], parts[2], X_val=parts[1], y_val=parts[3])
    with pytest.raises(ValueError, match="found loss='hinge', which gives scores"):
        fitted(kind, loss="hinge", calibration="temperature")


@pytest.mark.parametrize("kind", [MLPRegressor, NetworkRegressor])
def test_regressors_have_none(kind):
    assert "calibration" not in kind().get_params()
    with pytest.raises(TypeError, match="calibration"):
        kind(calibration="temperature")
