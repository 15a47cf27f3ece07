"""What errors and warnings say: the argument as the user knows it, what was found, what was wanted.

Which mistakes are refused at all is in test_estimators_parameters.py and _wrong_data.py.
"""

from decimal import Decimal

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_iris

from fastbp import MLPClassifier, MLPRegressor, NonFiniteError, _core, check_gradients
from fastbp.estimators import regressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
BOTH = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])


@pytest.mark.parametrize("y", [Y, Y > 0, np.eye(3, dtype=int)[Y]])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loss_params": {"gamma": 1.0}}, "'gamma'; 'log_loss' takes 'smoothing'"),
        ({"loss": "hinge", "loss_params": {"margin": 1.0}}, "'hinge' takes no parameters"),
        ({"loss": "focal", "loss_params": {"delta": 1.0}}, "'delta'; 'focal' takes 'gamma'"),
        ({"loss": "focal", "loss_params": {"gamma": -1}}, r"\[0, inf\) for 'focal'; got -1"),
    ],
)
def test_a_number_of_a_loss_names_the_loss_that_was_chosen(given, words, y):
    # Behind "log_loss" stand two rows of the engine, of whose names the user knows nothing.
    with pytest.raises(ValueError, match=f"^loss_params.*{words}"):
        MLPClassifier(**given).fit(X, y)


@pytest.mark.parametrize(
    "classes",
    [
        *([], (), "abc", b"abc", 3, np.array(3), {0, 1, 2}, {0: 1}),
        *([[0, 1, 2]], [[0], [1], [2]], [[0], [1, 2]], np.arange(3)[:, None]),
        *([0, 1, None], [0, 1, 2, np.nan], [0, 1, 2, np.inf]),
    ],
)
def test_classes_are_a_list_of_labels(classes):
    wanted = r"(?s)^classes is .*; a list or 1-D array of at least one label"
    model = MLPClassifier(3)
    with pytest.raises(ValueError, match=wanted):
        model.partial_fit(X, Y, classes=classes)
    with pytest.raises(ValueError, match=wanted):
        model.partial_fit(X, np.eye(3, dtype=int)[Y], classes=classes)
    assert not hasattr(model, "n_features_in_")
    model.partial_fit(X, Y, classes=range(3))
    with pytest.raises(ValueError, match=wanted):
        model.partial_fit(X, Y, classes=classes)


@pytest.mark.parametrize(
    "classes", [[2, 0, 1], (0, 1, 2), range(3), np.arange(3), [0, 0, 1, 2], [0.0, 1.0, 2.0]]
)
def test_classes_in_any_form_of_a_list(classes):
    model = MLPClassifier(3).partial_fit(X, Y, classes=classes)
    np.testing.assert_array_equal(model.partial_fit(X, Y, classes=classes).classes_, [0, 1, 2])


# ---------------------------------------------------------------------------------- gradient checks


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor, _core.Plan])
def test_a_class_in_the_place_of_an_instance(kind):
    wanted = f"estimator_or_plan is the class {kind.__name__}, wanted an instance"
    with pytest.raises(TypeError, match=wanted):
        check_gradients(kind, X, Y)


@pytest.mark.parametrize("value", ["seed", 0.5, -1, [-1], {}])
def test_a_wrong_seed_of_a_gradient_check(value):
    with pytest.raises((TypeError, ValueError), match=r"random_state is .*, wanted an int"):
        check_gradients(MLPRegressor(3), X, Y, random_state=value)


@pytest.mark.parametrize("value", ["1e-6", None, [1e-6], 1j, 0, np.nan])
def test_a_wrong_tolerance_of_a_gradient_check(value):
    with pytest.raises(ValueError, match=r"tolerance is .*, wanted a number above 0"):
        check_gradients(MLPRegressor(3), X, Y, tolerance=value)


# -------------------------------------------------------------------------- weights that users edit


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (np.zeros(3, complex), "an array of dtype complex128"),
        ([1j, 0, 0], r"\[1j, 0, 0\]"),
        (np.zeros(3, "M8[s]"), r"an array of dtype datetime64\[s\]"),
        (np.zeros(3, "m8[s]"), r"an array of dtype timedelta64\[s\]"),
        (np.array(["1", "2", "3"]), "an array of dtype <U1"),
        ([10**400, 0, 0], r"\[1000"),
    ],
)
@BOTH
def test_weights_are_real_numbers(kind, wrong, found):
    model = kind(3, max_iter=1, random_state=0).fit(X, Y)
    flat = model._views.flat.copy()
    model.intercepts_[0] = wrong
    with pytest.raises(
        ValueError, match=rf"^intercepts_\[0\] is {found}.*; .* real numbers .*\(3,\)"
    ):
        model.predict(X)
    model.intercepts_[0] = np.zeros(3)
    model.coefs_ = [coef + 0j for coef in model.coefs_]
    with pytest.raises(ValueError, match=r"^coefs_\[0\] is an array of dtype complex128"):
        model.predict(X)
    np.testing.assert_array_equal(model._views.flat, flat)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_weights_beyond_the_range_of_the_dtype():
    model = MLPRegressor(3, max_iter=1, dtype="float32").fit(X, Y)
    for wrong in (np.full(3, 1e300), [1e39, 0, 0], [10**40] * 3):
        model.intercepts_[0] = wrong
        with pytest.raises(
            ValueError, match=r"^intercepts_\[0\] has a value too large for float32"
        ):
            model.predict(X)
    model.intercepts_[0] = [1, True, 2.5]
    model.predict(X)
    np.testing.assert_array_equal(model.intercepts_[0], [1, 1, 2.5])


# ------------------------------------------------------------------------------------------- arrays


def no_numbers():
    """What is no number, and what an error says of it, by name."""
    words = np.full(len(Y), "1.5")
    return {
        "strings": (words, "holds values of dtype <U3; numbers were wanted"),
        "bytes": (words.astype("S"), r"holds values of dtype \|S3; numbers were wanted"),
        "list of strings": (words.tolist(), "holds values of dtype <U3; numbers were wanted"),
        "words": (np.full(len(Y), "a", object), "cannot be read as real numbers: .*'a'"),
        "dicts": (np.full(len(Y), {}, object), "cannot be read as real numbers: .*'dict'"),
        "complex": (np.ones(len(Y), complex), "complex128; real numbers were wanted"),
        "complex list": ([1j] * len(Y), "complex128; real numbers were wanted"),
        "dates": (np.full(len(Y), "2020-01-01", "M8[D]"), "holds dates or durations"),
        "durations": (np.full(len(Y), 1, "m8[s]"), "holds dates or durations"),
        "ragged": ([[1.0], [1.0, 2.0]], "cannot be read as real numbers: .*inhomogeneous"),
    }


@BOTH
@pytest.mark.parametrize("case", no_numbers())
def test_sample_weights_are_numbers(kind, case):
    wrong, words = no_numbers()[case]
    with pytest.raises((TypeError, ValueError), match=f"sample_weight .*{words}") as raised:
        kind(3).fit(X, Y, wrong)
    assert len(str(raised.value)) < 300  # no array is printed


@BOTH
@pytest.mark.parametrize("wrong", ["abc", 1j, {1: 2}], ids=str)
def test_a_sample_weight_for_all_is_a_number(kind, wrong):
    with pytest.raises(
        (TypeError, ValueError), match=r"^sample_weight cannot be read as real number"
    ):
        kind(3).fit(X, Y, wrong)


@BOTH
@pytest.mark.parametrize("case", no_numbers())
def test_features_are_numbers(kind, case):
    wrong, words = no_numbers()[case]
    if case != "ragged":
        wide = np.repeat(np.asarray(wrong)[:, None], X.shape[1], axis=1)
        wrong = wide.tolist() if isinstance(wrong, list) else wide
    model = kind(3, max_iter=1, random_state=0).fit(X, Y)
    calls = [lambda: kind(3).fit(wrong, Y), lambda: model.predict(wrong)]
    calls += [lambda: model.partial_fit(wrong, Y), lambda: check_gradients(model, wrong, Y)]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=f"X .*{words}") as raised:
            call()
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize("case", no_numbers())
def test_targets_of_regression_are_numbers(case):
    wrong, words = no_numbers()[case]
    with pytest.raises((TypeError, ValueError), match=f"y .*{words}"):
        MLPRegressor(3).fit(X, wrong)


def test_a_frame_with_a_column_of_strings():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"a": X[:, 0], "b": np.full(len(Y), "u").astype(object)}
    for frame in (pandas.DataFrame(columns), polars.DataFrame(columns, strict=False)):
        with pytest.raises(
            ValueError, match=r"^X (holds values of|cannot be read as real numbers)"
        ):
            MLPRegressor(3).fit(frame, Y)


def test_objects_that_are_numbers_are_numbers():
    wanted = MLPRegressor(3, max_iter=1, random_state=0).fit(X, Y).loss_
    model = MLPRegressor(3, max_iter=1, random_state=0)
    assert model.fit(X.astype(object), Y.astype(object), [1.0] * len(Y)).loss_ == wanted


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, scipy.sparse.csr_matrix])
def test_features_beyond_the_range_of_float32(make):
    big = X.copy()
    big[3, 1] = 1e300
    model = MLPRegressor(3, dtype="float32", max_iter=1).fit(X, Y)
    calls = [model.fit, model.partial_fit, model.inspect, lambda X, _: model.predict(X)]
    for call in calls:
        with pytest.raises(ValueError, match=r"X contains .* too large for dtype\('float32'\)"):
            call(make(big), Y)


def test_weights_that_vanish_in_float32():
    with pytest.raises(ValueError, match=r"^sample_weight must not be zero throughout in float32"):
        MLPRegressor(3, dtype="float32").fit(X, Y, 1e-60)


# ---------------------------------------------------------------------- training that went wrong


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_tiny_sample_weights_are_named_where_they_blow_up_the_penalty(solver):
    model = MLPRegressor(3, solver=solver, random_state=0)
    with pytest.raises(
        NonFiniteError, match=r"scale sample_weight up, or lower alpha=0\.0001"
    ) as raised:
        model.fit(X, Y, 1e-307)
    assert raised.value.epoch == raised.value.step == 0
    model.set_params(alpha=0.0).fit(X, Y, 1e-307)


@pytest.mark.parametrize("weight", [None, 1.0, 1e-3])
def test_sample_weights_are_not_blamed_for_a_wild_rate(weight):
    model = MLPRegressor(3, "identity", solver="sgd", learning_rate_init=1e80, random_state=0)
    with pytest.raises(NonFiniteError) as raised:
        model.fit(X, Y, weight)
    assert "sample_weight" not in str(raised.value)
    assert "learning rate" in str(raised.value)


def press_ctrl_c(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("given", [{}, {"early_stopping": True}, {"solver": "lbfgs"}])
def test_ctrl_c_before_the_first_epoch_is_complete(given, monkeypatch):
    name, method = ("Plan", "loss_gradient") if "solver" in given else ("Training", "run")
    interrupted = type(name, (getattr(_core, name),), {method: press_ctrl_c})
    model = MLPRegressor(3, random_state=0, **given)
    start = model._gradient_problem(X, Y).params
    monkeypatch.setattr(_core, name, interrupted)
    with pytest.warns(
        UserWarning, match=r"before the first (epoch|iteration) was complete"
    ) as caught:
        model.fit(X, Y)
    assert "weights are those from before training" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert model.n_iter_ == 0
    np.testing.assert_array_equal(model._views.flat, start)


def test_ctrl_c_names_the_epoch_whose_weights_are_shown(monkeypatch):
    model = MLPRegressor(3, random_state=0, early_stopping=True)
    start = model._gradient_problem(X, Y).params
    monkeypatch.setattr(regressor, "r2", press_ctrl_c)
    with pytest.warns(UserWarning, match="weights are those from before training"):
        model.fit(X, Y)  # an epoch was made, but none has a score
    np.testing.assert_array_equal(model._views.flat, start)
    scores = iter([0.5, 0.4])
    monkeypatch.setattr(regressor, "r2", lambda *_: next(scores, None) or press_ctrl_c())
    with pytest.warns(UserWarning, match="after 3 whole epochs; .* one with the best score"):
        model.fit(X, Y)


@pytest.mark.parametrize("bad", [None, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("form", [list, lambda y: np.array(y, dtype=object)])
def test_a_target_that_is_not_finite_is_refused_and_the_model_kept(form, bad):
    X = np.arange(6.0)[:, None]
    model = MLPRegressor(3, max_iter=2, random_state=0).fit(X, np.arange(6.0))
    before = model.predict(X)
    with pytest.raises(ValueError, match="Input y contains"):
        model.fit(X, form([1, 2, bad, 3, 4, 5]))
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_integers_beyond_floats_are_named(name):
    arguments = {"X": [[1], [2]], "y": [1, 2], "sample_weight": [1, 2]}
    arguments[name] = [[10**400], [1]] if name == "X" else [10**400, 1]
    with pytest.raises(ValueError, match=f"{name} cannot be read as real numbers"):
        MLPRegressor(3, max_iter=2).fit(**arguments)


def test_a_single_weight_may_be_any_number():
    X, y = np.arange(6.0)[:, None], np.arange(6.0)
    models = [
        MLPRegressor(3, max_iter=2, random_state=0).fit(X, y, weight)
        for weight in (2, np.array(2.0), Decimal(2), np.float32(2))
    ]
    for model in models[1:]:
        np.testing.assert_array_equal(model.coefs_[0], models[0].coefs_[0])
    with pytest.raises(ValueError, match="sample_weight cannot be read as real numbers"):
        MLPRegressor(3, max_iter=2).fit(X, y, 10**400)


@pytest.mark.parametrize(
    "classes", [["a", 1], [1, "a"], ["a", np.nan], np.array([0, np.nan], object), [None, 1]]
)
def test_classes_are_of_one_kind_and_none_is_missing(classes):
    with pytest.raises(ValueError, match=r"classes is .* all of one kind and none missing"):
        MLPClassifier(3).partial_fit([[0.0], [1.0]], [0, 1], classes=classes)
