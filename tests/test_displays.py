"""Displays as pictures: what is written, that it can be read, and what they refuse.

What their artists show is held against independent measures in test_displays_data.py.
"""

import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import short_training
from pictures import (
    CLASSES,
    CURVE,
    KINDS,
    NUMBERS,
    ONE,
    PICTURES,
    SIDE,
    STOPPING,
    X,
    fitted,
    luminance,
    made,
    over_steps,
    overlapping,
    target,
    texts,
)
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import (
    ActivationDisplay,
    FitDisplay,
    GradientFlowDisplay,
    LossCurveDisplay,
    MLPClassifier,
    MLPRegressor,
    NetworkRegressor,
)
from fastbp.displays import canvas

pytestmark = short_training


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


over_pictures = pytest.mark.parametrize("name", PICTURES)


# ------------------------------------------------------------------------------------- legibility


@over_pictures
def test_no_two_texts_overlap_and_none_leaves_the_picture(name, monkeypatch):
    """At 6 by 4 inches and matplotlib's own sizes of letters; with a title of the user's, too."""
    display = PICTURES[name]()
    figure = display.figure_
    figure.set_size_inches(6, 4)
    display.ax_.set_title("What it is about")
    drawn = texts(figure, monkeypatch)
    assert "What it is about" in [text for text, _ in drawn]
    assert overlapping(drawn) == []
    width, height = figure.canvas.get_width_height()
    # A letter's edge may be smoothed over the border of a pixel.
    outside = [
        text
        for text, box in drawn
        if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    assert outside == []


def test_overlapping_texts_would_be_found(monkeypatch):
    figure, ax = plt.subplots()
    ax.text(0.5, 0.5, "one text")
    ax.text(0.52, 0.5, "another")
    assert overlapping(texts(figure, monkeypatch)) == [("another", "one text")]


WRITTEN = {
    "losses": {"epoch", "loss (squared error)", "training loss"},
    "losses and a score": {
        *("epoch", "log loss", "validation accuracy", "training loss", "validation loss"),
    },
    "flow": {"norm of the gradient", "layer", "0 linear", "2 linear", "4 linear"},
    "flow over steps": {"norm of the gradient", "step", "0 linear", "5 linear"},
    "activations": {
        *("activation (1, 25, 50, 75, 99 %)", "layer", "1 tanh", "3 tanh", "share (%)"),
        *("saturated results", "dead units"),
    },
    "fit with residuals": {"feature", "target", "residual", "samples", "prediction"},
    "fit with quantiles": {"feature", "target", "predicted quantiles"},
    "probability": {"probability of target = 1", "residual", "decision threshold", "model"},
    "margin": {"score of target = 1"},
}


@pytest.mark.parametrize("name", WRITTEN)
def test_axes_and_legends_say_what_is_drawn(name, monkeypatch):
    written = {text for text, _ in texts(PICTURES[name]().figure_, monkeypatch)}
    assert written >= WRITTEN[name]


@over_pictures
def test_every_axis_has_a_name(name):
    for ax in PICTURES[name]().figure_.axes:
        if ax.axison:
            assert any(one.get_xlabel() for one in ax.get_shared_x_axes().get_siblings(ax))
            assert any(one.get_ylabel() for one in ax.get_shared_y_axes().get_siblings(ax))


def test_inks_differ_in_grey():
    """Each from the next by a contrast of 1.5, as WCAG measures it."""
    inks = [luminance(one) for one in (canvas.INK, canvas.BLUE, canvas.ORANGE, canvas.PAPER)]
    contrasts = [(b + 0.05) / (a + 0.05) for a, b in pairwise(inks)]
    assert min(contrasts) > 1.5


@pytest.mark.parametrize("n", [2, 6, 12])
def test_lines_of_layers_differ_in_grey_in_style_and_in_marker(n):
    lines = over_steps(n).plot().lines_
    greys = [luminance(one.get_color()) for one in lines]
    # They run over some 60 of CIE's 100 steps of lightness, about evenly: at least half an even
    # share lies between neighbours.
    lightness = [116 * grey ** (1 / 3) - 16 for grey in greys]
    assert np.diff(lightness).min() > 30 / (n - 1)
    looks = [(one.get_linestyle(), one.get_marker()) for one in lines]
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in pairwise(looks))


def test_curves_of_losses_differ_in_grey_in_style_and_in_marker():
    display = PICTURES["losses and a score"]()
    lines = display.loss_line_, display.validation_line_, display.score_line_
    for get in ("get_linestyle", "get_marker", "get_color"):
        assert len({getattr(one, get)() for one in lines}) == 3
    greys = sorted(luminance(one.get_color()) for one in lines)
    assert min(np.diff(greys)) > 0.1


def test_bars_differ_by_hatch_as_well():
    display = PICTURES["activations"]()
    saturated, dead = display.saturated_bars_[0], display.dead_bars_[0]
    assert saturated.get_hatch() != dead.get_hatch()
    assert abs(luminance(saturated.get_facecolor()[:3]) - luminance(dead.get_facecolor()[:3])) > 0.3


# ------------------------------------------------------------------------- scikit-learn's manner


@over_pictures
def test_they_draw_where_they_are_told_and_nowhere_else(name):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4))
    other, current = plt.subplots()
    before = dict(mpl.rcParams)
    display = PICTURES[name](right)
    assert display.figure_ is figure
    assert plt.gcf() is other and plt.gca() is current
    assert not left.has_data() and not current.has_data()
    assert display.ax_ is right or not right.axison
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == [figure.number, other.number]


@over_pictures
def test_without_axes_they_make_a_figure(name):
    _, current = plt.subplots()
    display = PICTURES[name]()
    assert display.ax_.figure is display.figure_ is not current.figure
    assert not current.has_data()
    assert display.plot() is display


def test_two_panels_take_two_axes():
    figure, axes = plt.subplots(2, 1)
    display = PICTURES["fit with residuals"](axes)
    assert (display.ax_, display.residuals_ax_) == tuple(axes)
    display = PICTURES["activations"](list(axes))
    assert (display.ax_, display.shares_ax_) == tuple(axes)
    with pytest.raises(ValueError, match="ax holds 3 Axes, wanted one, or two"):
        display.plot(plt.subplots(3)[1])
    with pytest.raises(ValueError, match="stands in no grid"):
        display.plot(figure.add_axes((0.1, 0.1, 0.5, 0.5)))


def test_keywords_reach_the_artists():
    display = LossCurveDisplay.from_estimator(fitted(MLPRegressor), line_kw={"c": "red", "lw": 3})
    assert display.loss_line_.get_color() == "red" and display.loss_line_.get_linewidth() == 3
    display = over_steps(2).plot(line_kw={"marker": "x"})
    assert [one.get_marker() for one in display.lines_] == ["x", "x"]
    display = FitDisplay.from_estimator(
        fitted(MLPRegressor, one=True), ONE, CURVE, scatter_kw={"ms": 9}, line_kw={"ls": ":"}
    )
    assert display.samples_.get_markersize() == 9 and display.line_.get_linestyle() == ":"
    display = ActivationDisplay.from_estimator(
        fitted(MLPRegressor), X, box_kw={"height": 0.1}, bar_kw={"height": 0.2}
    )
    assert display.boxes_[0].get_height() == pytest.approx(0.1)
    assert display.dead_bars_[0].get_height() == pytest.approx(0.2)


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, fastbp; fastbp.LossCurveDisplay; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------- refusals

CALLS = {
    LossCurveDisplay: (),
    GradientFlowDisplay: (X, CLASSES),
    ActivationDisplay: (X,),
    FitDisplay: (ONE, CURVE),
}
over_displays = pytest.mark.parametrize("display", CALLS)


@over_displays
def test_a_missing_matplotlib_names_the_extra(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastbp\[plot\]'") as caught:
        display.from_estimator(fitted(MLPRegressor), *CALLS[display])
    assert f"{display.__name__}.from_estimator" in str(caught.value)


@over_displays
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_fitted_is_refused(display, kind):
    with pytest.raises(NotFittedError, match=f"{kind.__name__} instance is not fitted"):
        display.from_estimator(made(kind), *CALLS[display])
    assert plt.get_fignums() == []


@pytest.mark.parametrize("display", [LossCurveDisplay, GradientFlowDisplay, ActivationDisplay])
def test_models_of_another_kind_are_refused(display):
    pipeline = make_pipeline(StandardScaler(), made(MLPClassifier)).fit(X, CLASSES)
    search = GridSearchCV(made(MLPClassifier), {"alpha": [0.1]}, cv=2).fit(X, CLASSES)
    for other, words in {
        TheirClassifier(4, max_iter=3).fit(X, CLASSES): "is a MLPClassifier, wanted .* of fastbp",
        pipeline: r"is a Pipeline, .* last step, pipeline\[-1\]",
        search: "is a GridSearchCV, .* best_estimator_",
        MLPClassifier: "is a ABCMeta",
    }.items():
        with pytest.raises(TypeError, match=words):
            display.from_estimator(other, *CALLS[display])
    display.from_estimator(pipeline[-1], *CALLS[display])


@pytest.mark.parametrize("kind", KINDS)
def test_lbfgs_has_no_epochs(kind):
    name = "solver" if kind in (MLPClassifier, MLPRegressor) else "optimizer"
    model = fitted(kind, (name, "lbfgs"))
    with pytest.raises(ValueError, match="fitted by L-BFGS, which has no epochs"):
        LossCurveDisplay.from_estimator(model)
    display = LossCurveDisplay.from_history(model.history_, unit="iteration")
    assert display.ax_.get_xlabel() == "iteration"
    assert "best iteration" in display.best_line_.get_label()
    with pytest.raises(ValueError, match="found losses and no 'gradient_norm'"):
        GradientFlowDisplay.from_history(model.history_)
    assert len(GradientFlowDisplay.from_estimator(model, X, target(kind)).layers) == 3


def test_losses_that_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"loss: found an array of shape \(0,\)"):
        LossCurveDisplay([])
    with pytest.raises(ValueError, match=r"validation_loss: found shape \(1,\), wanted .*\(2,\)"):
        LossCurveDisplay([1.0, 2.0], validation_loss=[1.0])
    with pytest.raises(ValueError, match=r"found \['validation_loss'\], wanted 'loss'"):
        LossCurveDisplay.from_history({"validation_loss": [1.0]})
    with pytest.raises(ValueError, match="yscale: found 'symlog'"):
        LossCurveDisplay([1.0]).plot(yscale="symlog")
    with pytest.raises(ValueError, match="found 'log' for a loss of -1, wanted 'linear'"):
        LossCurveDisplay([1.0, -1.0]).plot(yscale="log")
    assert plt.get_fignums() == []


def test_gradients_that_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"found shape \(3,\), wanted \(n_layers,\) or"):
        GradientFlowDisplay(["a"], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="norms: found -1, wanted 0 or more"):
        GradientFlowDisplay(["a"], [-1.0])
    with pytest.raises(ValueError, match="wanted one for each of 2 rows"):
        GradientFlowDisplay(["a"], [[1.0], [2.0]], steps=[1])
    with pytest.raises(ValueError, match="wanted the same number for each layer"):
        GradientFlowDisplay.from_history({"a": [1.0], "b": [1.0, 2.0]})


def test_activations_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="MLPRegressor whose network has no activations"):
        ActivationDisplay.from_estimator(fitted(MLPRegressor, ("activation", "identity")), X)
    with pytest.raises(ValueError, match=r"quantiles: found shape \(1, 2\), wanted \(1, 5\)"):
        ActivationDisplay(["a"], [[0.0, 1.0]], [0.0], [0.0])
    with pytest.raises(ValueError, match="of at least one layer"):
        ActivationDisplay([], np.empty((0, 5)), [], [])


def test_fits_that_cannot_be_drawn():
    of = FitDisplay.from_estimator
    with pytest.raises(ValueError, match=r"found X of shape \(120, 4\), wanted \(n_samples, 1\)"):
        of(fitted(MLPRegressor), X, NUMBERS)
    with pytest.raises(ValueError, match="values such as 'a', wanted numbers"):
        of(fitted(MLPRegressor, one=True), np.array([["a"], ["b"]]), CURVE[:2])
    with pytest.raises(ValueError, match="found 3 classes, wanted two"):
        of(made(MLPClassifier).fit(ONE, np.arange(90) % 3), ONE, SIDE)
    with pytest.raises(ValueError, match=r"targets of shape \(90, 2\).* wanted one number"):
        both = np.stack([CURVE, CURVE], axis=1)
        of(made(NetworkRegressor, network=None).fit(ONE, both), ONE, both)
    with pytest.raises(ValueError, match=r"with labels \[0 1 2\], wanted one label for each"):
        of(fitted(MLPClassifier, one=True), ONE, np.arange(90) % 3)
    with pytest.raises(TypeError, match="is a KMeans, wanted a regressor or a classifier"):
        of(KMeans(2, n_init=1).fit(ONE), ONE, SIDE)
    with pytest.raises(TypeError, match="wanted a fitted regressor or classifier"):
        of(MLPRegressor, ONE, CURVE)
    with pytest.raises(ValueError, match=r"y: found shape \(2,\), wanted \(90,\)"):
        of(fitted(MLPRegressor, one=True), ONE, CURVE[:2])


def test_of_stopped_trainings_the_shown_epoch_is_the_marked_one():
    model = fitted(MLPClassifier, STOPPING)
    display = LossCurveDisplay.from_estimator(model)
    assert model.validation_scores_[display.best - 1] == model.best_validation_score_
