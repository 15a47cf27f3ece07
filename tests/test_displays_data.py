"""Displays as data: what their artists show, held against NumPy's and the estimators' own numbers.

How the pictures look is the subject of test_displays.py.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from helpers import short_training
from pictures import (
    CLASSES,
    CURVE,
    KINDS,
    NUMBERS,
    ONE,
    SIDE,
    STOPPING,
    WithQuantiles,
    X,
    fitted,
    made,
    target,
)
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import (
    ActivationDisplay,
    FitDisplay,
    GradientFlowDisplay,
    LossCurveDisplay,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    diagnose,
    nn,
)

pytestmark = short_training

over_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def points(line):
    return [np.asarray(one, float).tolist() for one in line.get_data()]


# ------------------------------------------------------------------------------------------ losses


@over_kinds
def test_curves_are_those_of_the_history(kind):
    model = fitted(kind, STOPPING)
    display = LossCurveDisplay.from_estimator(model)
    epochs = [float(i) for i in range(1, model.n_iter_ + 1)]
    assert points(display.loss_line_) == [epochs, list(model.loss_curve_)]
    for line, name in (
        (display.validation_line_, "validation_loss"),
        (display.score_line_, "validation_score"),
    ):
        assert points(line) == [epochs, list(model.history_[name])]
    assert display.score_line_.axes is display.score_ax_
    assert display.best == 1 + int(np.argmax(model.history_["validation_score"]))
    assert display.best_line_.get_xdata()[0] == display.best
    assert display.ax_.get_yscale() == "log" and display.score_ax_.get_yscale() == "linear"


@over_kinds
def test_of_a_training_without_held_out_samples_there_is_one_curve(kind):
    display = LossCurveDisplay.from_estimator(fitted(kind))
    assert display.validation_line_ is display.score_line_ is display.score_ax_ is None
    assert display.best == 1 + int(np.argmin(fitted(kind).loss_curve_))


def test_a_score_that_is_the_loss_is_drawn_once():
    model = made(MLPRegressor, early_stopping=True, scoring="loss").fit(X, NUMBERS)
    display = LossCurveDisplay.from_estimator(model)
    assert display.score_line_ is None
    assert display.best == 1 + int(np.argmax(model.validation_scores_))


def test_scores_have_the_names_of_their_scorers():
    for scoring, name in {None: "R²", "neg_mean_absolute_error": "neg mean absolute error"}.items():
        model = made(MLPRegressor, scoring=scoring).fit(
            X[20:], NUMBERS[20:], X_val=X, y_val=NUMBERS
        )
        display = LossCurveDisplay.from_estimator(model)
        assert display.score_ax_.get_ylabel() == f"validation {name}"


def test_the_best_epoch_is_the_first_of_the_best():
    of = LossCurveDisplay.from_history
    assert of({"loss": [3, 1, 2, 1]}).best == 2
    assert of({"loss": [3, 1, 2], "validation_loss": [3, 2, 1]}).best == 3
    scored = {"loss": [3, 1, 2], "validation_loss": [3, 2, 1], "validation_score": [2, 2, 1]}
    assert of(scored).best == 1
    assert of({"loss": [3, 1, 2], "validation_score": [np.nan, 1, 2]}).best == 3
    unknown = of({"loss": [np.nan]})
    assert unknown.best == 0 and unknown.best_line_ is None


def test_histories_of_fit_are_drawn():
    network = nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(1))
    data = X.astype(np.float32), NUMBERS[:, None].astype(np.float32)
    result = fastbp.fit(network, "squared_error", *data, max_epochs=4, early_stopping=True)
    display = LossCurveDisplay.from_history(result.history, loss_name="squared_error")
    assert points(display.validation_line_)[1] == list(result.history["validation_loss"])
    assert display.best == 1 + int(np.argmin(result.history["validation_loss"]))


def test_losses_at_or_below_zero_are_drawn_linearly():
    assert LossCurveDisplay.from_history({"loss": [1.0, 0.0]}).ax_.get_yscale() == "linear"
    assert LossCurveDisplay([1.0, 0.1]).plot(yscale="linear").ax_.get_yscale() == "linear"


# --------------------------------------------------------------------------------------- gradients


def gradients(model, y):
    """Of a regression by half the squared error, through two layers of tanh, by NumPy."""
    w = [one.data.astype(float) for one in model.module_.parameters().values()]
    a = [X]
    for i in (0, 2):
        a.append(np.tanh(a[-1] @ w[i] + w[i + 1]))
    delta = (a[2] @ w[4] + w[5] - y[:, None]) / len(y)
    found = []
    for i in (4, 2, 0):
        below = a[i // 2]
        found.insert(0, np.sqrt(np.sum((below.T @ delta) ** 2) + np.sum(delta.sum(axis=0) ** 2)))
        delta = (delta @ w[i].T) * (1 - below**2)
    return found


@pytest.mark.parametrize("kind", [MLPRegressor, NetworkRegressor])
def test_norms_of_gradients_are_those_of_numpy(kind):
    model = fitted(kind)
    display = GradientFlowDisplay.from_estimator(model, X, NUMBERS)
    # Sums of some hundred float64 numbers.
    np.testing.assert_allclose(display.norms, gradients(model, NUMBERS), rtol=1e-12)
    norms, rows = points(display.lines_[0])
    assert norms == display.norms.tolist() and rows == [0, 1, 2]
    assert display.layers == ["0 linear", "2 linear", "4 linear"]
    assert display.ax_.get_ylim() == (2.5, -0.5)  # the first layer is on top
    low, high = display.ax_.get_xlim()
    # A decade, to the rounding of its ends.
    assert display.ax_.get_xscale() == "log" and high / low > 10 - 1e-9


@over_kinds
def test_flow_of_a_diagnosis_is_that_of_the_estimator(kind):
    weights = np.linspace(0.5, 2, len(X))
    model = fitted(kind)
    display = GradientFlowDisplay.from_estimator(model, X, target(kind), sample_weight=weights)
    found = diagnose(model, X, target(kind), sample_weight=weights)
    assert display.norms.tolist() == GradientFlowDisplay.from_diagnosis(found).norms.tolist()
    squares = [one.gradient**2 * np.prod(one.shape) for one in found.weights]
    # Of the root of a sum of two squares.
    np.testing.assert_allclose(
        display.norms, np.sqrt(np.add(squares[::2], squares[1::2])), rtol=1e-14
    )
    equal = GradientFlowDisplay.from_estimator(model, X, target(kind))
    assert equal.norms.tolist() != display.norms.tolist()
    start = diagnose(made(kind), X, target(kind))  # of what is not fitted
    assert len(GradientFlowDisplay.from_diagnosis(start).norms) == 3


def test_layers_are_modules_whatever_they_hold():
    class Scaled(nn.Module):
        def forward(self, x):
            return x * self.parameter("gain", (4,), 1.0)

    network = nn.Sequential(
        Scaled(), nn.Residual(nn.Sequential(nn.Linear(4), nn.Tanh())), nn.Linear(1).freeze()
    )
    model = made(NetworkRegressor, network=network).fit(X, NUMBERS)
    display = GradientFlowDisplay.from_estimator(model, X, NUMBERS)
    assert display.layers == ["0 multiply", "1.module.0 linear"]
    layers = nn.Linear(4), nn.BatchNorm1d(), nn.Tanh(), nn.Linear(1)
    model = made(NetworkRegressor, network=nn.Sequential(*layers)).fit(X, NUMBERS)
    display = GradientFlowDisplay.from_estimator(model, X, NUMBERS)
    assert display.layers == ["0 linear", "1 normalize", "3 linear"]


def test_a_layer_without_gradient_is_left_out():
    display = GradientFlowDisplay(["a", "b"], [0.0, 1.0]).plot()
    assert np.isnan(points(display.lines_[0])[0][0])
    assert GradientFlowDisplay(["a"], [0.0]).plot().ax_.get_xscale() == "linear"


def test_norms_over_steps_are_those_of_the_history():
    model = made(MLPClassifier, history="step", batch_size=40).fit(X, CLASSES)
    display = GradientFlowDisplay.from_history(model.history_)
    steps, norms = points(display.lines_[0])
    assert steps == list(range(1, 3 * model.n_iter_ + 1))
    assert norms == list(model.history_["step_gradient_norm"])
    display = GradientFlowDisplay.from_history(fitted(MLPClassifier).history_)
    assert display.ax_.get_xlabel() == "epoch"
    assert points(display.lines_[0])[1] == list(fitted(MLPClassifier).history_["gradient_norm"])


def test_norms_gathered_by_layer_are_lines():
    norms = {"first": [0.1, 0.2, 0.4], "last": [1.0, 2.0, 3.0]}
    display = GradientFlowDisplay.from_history(norms, steps=[10, 20, 30])
    assert [points(line) for line in display.lines_] == [
        [[10, 20, 30], one] for one in norms.values()
    ]
    assert [text.get_text() for text in display.legend_.get_texts()] == ["first", "last"]


# ------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("kind", [MLPRegressor, NetworkRegressor])
def test_boxes_are_quantiles_of_what_activations_say(kind):
    model = fitted(kind)
    w = [one.data for one in model.module_.parameters().values()]
    first = np.tanh(X @ w[0] + w[1])
    second = np.tanh(first @ w[2] + w[3])
    display = ActivationDisplay.from_estimator(model, X)
    for i, values in enumerate((first, second)):
        wanted = np.quantile(values, (0.01, 0.25, 0.5, 0.75, 0.99))
        # tanh of the engine and of NumPy differ in the last bits, of numbers up to 1.
        np.testing.assert_allclose(display.quantiles[i], wanted, atol=1e-14)
        box = display.boxes_[i]
        edges = box.get_x(), box.get_x() + box.get_width()
        np.testing.assert_allclose(edges, wanted[[1, 3]], atol=1e-14)
        assert box.get_y() + box.get_height() / 2 == pytest.approx(i)
        left, right = (display.whiskers_.get_segments()[i + 2 * end] for end in (0, 1))
        np.testing.assert_allclose(left[:, 0], wanted[:2], atol=1e-14)
        np.testing.assert_allclose(right[:, 0], wanted[3:], atol=1e-14)
        median = display.medians_.get_segments()[i]
        np.testing.assert_allclose(median[:, 0], wanted[2], atol=1e-14)
        assert median[:, 1].mean() == pytest.approx(i)
        caps = [display.caps_.get_segments()[i + 2 * end][0, 0] for end in (0, 1)]
        np.testing.assert_allclose(caps, wanted[[0, 4]], atol=1e-14)


@over_kinds
def test_shares_are_those_of_diagnose(kind):
    """Of a network with dead and with saturated units."""
    options = {"activation": "relu"} if kind in (MLPClassifier, MLPRegressor) else {}
    if not options:
        layers = nn.Linear(6), nn.ReLU(), nn.Linear(6), nn.Tanh(), nn.Linear(1)
        options["network"] = nn.Sequential(*layers)
    model = made(kind, **options).fit(X, target(kind))
    weights = model.module_.parameters()
    weights["0.bias"].data[:3] = -100.0
    weights["2.bias"].data[:2] = 100.0
    display = ActivationDisplay.from_estimator(model, X)
    found = [one for one in diagnose(model, X, target(kind)).signals if one.flat == one.flat]
    assert display.saturated.tolist() == [one.flat for one in found]
    assert display.dead.tolist() == [one.dead for one in found]
    assert display.dead[0] >= 0.5 and display.saturated[0] >= 0.5
    for bars, shares in (
        (display.saturated_bars_, display.saturated),
        (display.dead_bars_, display.dead),
    ):
        assert [bar.get_width() for bar in bars] == (100 * shares).tolist()


def test_samples_are_taken_as_the_estimator_takes_them():
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = made(MLPClassifier).fit(frame, np.where(CLASSES, "yes", "no"))
    whole = ActivationDisplay.from_estimator(model, frame)
    sparse = made(MLPClassifier).fit(scipy.sparse.csr_array(X), CLASSES)
    assert len(ActivationDisplay.from_estimator(sparse, scipy.sparse.csr_array(X)).layers) == 2
    assert whole.layers == ["1 tanh", "3 tanh"]
    several = made(NetworkClassifier, network=None).fit(X, np.stack([CLASSES, 1 - CLASSES], axis=1))
    assert ActivationDisplay.from_estimator(several, X).layers == ["1 relu"]


@over_kinds
def test_looking_changes_nothing(kind):
    model = made(kind).fit(X, target(kind))
    before = {name: one.data.copy() for name, one in model.module_.parameters().items()}
    state = {name: repr(value) for name, value in vars(model).items() if name.endswith("_")}
    LossCurveDisplay.from_estimator(model)
    GradientFlowDisplay.from_estimator(model, X, target(kind))
    ActivationDisplay.from_estimator(model, X)
    for name, one in model.module_.parameters().items():
        np.testing.assert_array_equal(one.data, before[name])
    after = {name: repr(value) for name, value in vars(model).items() if name.endswith("_")}
    assert after == state


# -------------------------------------------------------------------------------------------- fits


@pytest.mark.parametrize("kind", [MLPRegressor, NetworkRegressor])
def test_a_fit_is_samples_and_predictions(kind):
    model = fitted(kind, one=True)
    display = FitDisplay.from_estimator(model, ONE, CURVE, residuals=True)
    assert points(display.samples_) == [ONE[:, 0].tolist(), CURVE.tolist()]
    grid, curve = points(display.line_)
    assert curve == model.predict(np.array(grid)[:, None]).tolist()
    assert grid[0] < ONE.min() and grid[-1] > ONE.max()
    assert points(display.residuals_)[1] == (CURVE - model.predict(ONE)).tolist()
    assert FitDisplay.from_estimator(model, ONE, CURVE).residuals_ is None


@pytest.mark.parametrize("kind", [MLPClassifier, NetworkClassifier])
def test_a_classification_is_a_probability(kind):
    model = made(kind).fit(ONE, np.where(SIDE, "wet", "dry"))
    display = FitDisplay.from_estimator(model, ONE, np.where(SIDE, "wet", "dry"), residuals=True)
    grid, curve = points(display.line_)
    assert curve == model.predict_proba(np.array(grid)[:, None])[:, 1].tolist()
    assert points(display.samples_)[1] == SIDE.tolist()
    assert display.ax_.get_ylabel() == "probability of target = wet"
    assert display.threshold == 0.5
    np.testing.assert_array_equal(display.residuals, SIDE - model.predict_proba(ONE)[:, 1])


@pytest.mark.parametrize("kind", [MLPClassifier, NetworkClassifier])
def test_a_margin_is_a_score(kind):
    model = fitted(kind, ("loss", "hinge"), one=True)
    display = FitDisplay.from_estimator(model, ONE, SIDE)
    grid, curve = points(display.line_)
    assert curve == model.decision_function(np.array(grid)[:, None]).tolist()
    assert points(display.samples_)[1] == (2 * SIDE - 1).tolist()
    assert display.threshold == 0.0


def test_quantiles_are_drawn_where_a_model_has_them():
    model = WithQuantiles(0).fit(ONE, CURVE)
    display = FitDisplay.from_estimator(model, ONE, CURVE)
    wanted = model.predict_quantiles(display.grid[:, None])
    found = np.array([points(line)[1] for line in display.quantile_lines_]).T
    np.testing.assert_array_equal(found, wanted)
    corners = display.band_.get_paths()[0].get_extents()
    assert (corners.y0, corners.y1) == (wanted[:, 0].min(), wanted[:, -1].max())
    plain = FitDisplay.from_estimator(fitted(MLPRegressor, one=True), ONE, CURVE)
    assert plain.band_ is None and plain.quantile_lines_ == []


def test_names_come_from_frames_and_series():
    frame = pd.DataFrame({"depth (m)": ONE[:, 0]})
    series = pd.Series(CURVE, name="speed (m/s)")
    model = made(MLPRegressor).fit(frame, series)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # as of points without a feature's name
        display = FitDisplay.from_estimator(model, frame, series)
    assert display.ax_.get_xlabel() == "depth (m)" and display.ax_.get_ylabel() == "speed (m/s)"
    display = FitDisplay.from_estimator(model, frame, series, feature_name="d", target_name="v")
    assert display.ax_.get_xlabel() == "d" and display.ax_.get_ylabel() == "v"


def test_models_in_company_are_drawn():
    pipeline = make_pipeline(StandardScaler(), made(MLPClassifier))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.1, 1.0]}, cv=2).fit(ONE, SIDE)
    display = FitDisplay.from_estimator(search, ONE, SIDE)
    assert display.curve.tolist() == search.predict_proba(display.grid[:, None])[:, 1].tolist()
    line = LinearRegression().fit(ONE, CURVE)
    assert FitDisplay.from_estimator(line, scipy.sparse.csr_array(ONE), CURVE).curve.size > 100
    single = FitDisplay.from_estimator(line, ONE[:1].astype(np.float32), CURVE[:1])
    assert np.isfinite(single.curve).all()


def test_samples_without_their_feature_are_not_shown():
    holes = ONE.copy()
    holes[[0, 5]] = np.nan
    model = made(MLPRegressor, allow_nan=True).fit(holes, CURVE)
    display = FitDisplay.from_estimator(model, holes, CURVE)
    assert np.isfinite(display.grid).all() and np.isfinite(display.curve).all()
    assert display.grid[0] < np.nanmin(holes) and display.grid[-1] > np.nanmax(holes)
    assert np.isnan(points(display.samples_)[0]).sum() == 2
    with pytest.raises(ValueError, match="found X of missing values only"):
        FitDisplay.from_estimator(model, np.full((3, 1), np.nan), CURVE[:3])


@pytest.mark.parametrize("kind", [MLPClassifier, NetworkClassifier])
def test_raw_frames_are_drawn(kind):
    """With categories, holes and weights of classes, through dropout."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["e"] = pd.Categorical(rng.choice(list("xyz"), len(X)))
    frame.loc[3, "a"] = np.nan
    options = {"class_weight": "balanced", "early_stopping": True}
    if kind is MLPClassifier:
        options |= {
            "categorical_features": "from_dtype",
            "allow_nan": True,
            "dropout": 0.1,
            "batch_norm": True,
            "residual": True,
        }
    else:
        frame = frame[list("abcd")].fillna(0)
    model = made(kind, **options).fit(frame, CLASSES)
    assert LossCurveDisplay.from_estimator(model).best >= 1
    assert len(GradientFlowDisplay.from_estimator(model, frame, CLASSES).layers) >= 3
    assert len(ActivationDisplay.from_estimator(model, frame).layers) == 2
    assert "linear" in str(model.summary())
