"""Data that the estimators refuse or warn of: what is said, and that the model is left as it was.

Data that they take are the subject of test_estimators_inputs.py; numbers that overflow in training,
of test_estimators_nonfinite.py.
"""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from helpers import IRIS, over_estimators, short_training
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fastbp import MLPClassifier, MLPRegressor

pytestmark = short_training

X, Y = IRIS
DATES = np.full(len(Y), "2020-01-01", "M8[D]")


# ----------------------------------------------------------------------------------------- features


@over_estimators
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


@over_estimators
def test_what_overflows_float32_is_refused(kind):
    big = X.copy()
    big[0, 0] = 1e300
    with pytest.raises(ValueError, match="X contains infinity or a value too large"):
        kind(dtype="float32").fit(big, Y)
    with pytest.raises(ValueError, match="sample_weight contains infinity"):
        kind(dtype="float32").fit(X, Y, np.full(len(Y), 1e300))
    with pytest.raises(ValueError, match="y has a value too large"):
        MLPRegressor(dtype="float32").fit(X, Y * 1e300)


@over_estimators
def test_dates_are_no_numbers(kind):
    # A conversion would train on counts of days or nanoseconds, and on -9.2e18 for NaT.
    wide = np.repeat(DATES[:, None], X.shape[1], axis=1)
    wide[0] = "NaT"
    labels = Y.mean() < Y if kind is MLPClassifier else Y
    model = kind(3, max_iter=1, random_state=0).fit(X, labels)
    for dates in (wide, wide - wide, pd.DataFrame(wide), pl.DataFrame(wide.astype("M8[ms]"))):
        with pytest.raises(TypeError, match=r"^X holds dates or durations"):
            kind(3, max_iter=1).fit(dates, labels)
        with pytest.raises(TypeError, match=r"^X holds dates or durations"):
            model.predict(dates)


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


def test_a_corrupt_sparse_matrix_is_refused_before_anyone_walks_over_it():
    for place in (10**6, -7):
        bad = sp.csr_matrix(np.where(np.abs(X) > 0.7, X, 0))
        bad.indptr[5] = place
        bad.has_sorted_indices = False
        with pytest.raises(ValueError, match=r"indptr|index"):
            MLPRegressor(3, max_iter=1).fit(bad, Y)


# ----------------------------------------------------------------------------------- sample weights


@over_estimators
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


# ------------------------------------------------------------------------------------------ targets


def test_a_target_of_another_task():
    with pytest.raises(ValueError, match="continuous"):
        MLPClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="numbers were wanted"):
        MLPRegressor().fit(X, np.array(["a", "b"])[Y % 2])


def test_targets_of_regression_are_numbers():
    for wrong, error, message in (
        (DATES, TypeError, "^y holds dates or durations"),
        (np.full(len(Y), "1.5"), ValueError, "^y holds values of dtype <U3"),
    ):
        with pytest.raises(error, match=message):
            MLPRegressor(3, max_iter=1).fit(X, wrong)


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


# --------------------------------------------------------------------------------- what is held out


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


# ------------------------------------------------------------------------------------- what is left


@over_estimators
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


# -------------------------------------------------------------------------- what is worth a warning


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
