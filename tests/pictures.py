"""What tests of displays share: fitted estimators, pictures by name, and how a picture is read."""

import functools

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from fastbp import (
    ActivationDisplay,
    FitDisplay,
    GradientFlowDisplay,
    LossCurveDisplay,
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    nn,
)

mpl.use("Agg")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4))
CLASSES = (X[:, 0] > X[:, 1]).astype(int)
NUMBERS = X[:, 0] * X[:, 1] + 3
ONE = np.sort(RNG.uniform(-2, 2, (90, 1)), axis=0)
CURVE, SIDE = np.sin(2 * ONE[:, 0]), (ONE[:, 0] > 0.2).astype(int)

KINDS = (MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor)


def made(kind, **options):
    """An estimator of two hidden layers of six, which trains for a moment."""
    if kind in (MLPClassifier, MLPRegressor):
        options = {"hidden_layer_sizes": (6, 6), "activation": "tanh", "max_iter": 12, **options}
    else:
        layers = nn.Linear(6), nn.Tanh(), nn.Linear(6), nn.Tanh(), nn.Linear(1)
        options = {"network": nn.Sequential(*layers), "max_epochs": 12, **options}
    return kind(random_state=0, **options)


def target(kind, X=X):
    one = X.shape[1] == 1
    if kind in (MLPClassifier, NetworkClassifier):
        return SIDE if one else CLASSES
    return CURVE if one else NUMBERS


@functools.cache
def fitted(kind, *options, one=False):
    """A model that several tests look at; none may change it."""
    samples = ONE if one else X
    return made(kind, **dict(options)).fit(samples, target(kind, samples))


STOPPING = ("early_stopping", True)


class WithQuantiles(MLPRegressor):
    """As a regressor by the quantile loss may come to be."""

    def __init__(self, random_state=None):
        super().__init__(6, "tanh", max_iter=12, random_state=random_state)

    def predict_quantiles(self, X):
        return self.predict(X)[:, None] + np.array([-0.5, 0.0, 0.7])


def _deep():
    hidden, rng = 40, np.random.default_rng(0)
    layers = [f"encoder.blocks.{i}.feed_forward.activation gelu" for i in range(hidden)]
    quantiles = np.sort(rng.standard_normal((hidden, 5)), axis=1)
    return layers, quantiles, rng.uniform(size=hidden), rng.uniform(size=hidden)


def over_steps(n_layers, n_steps=60):
    norms = np.random.default_rng(0).uniform(0.1, 2.0, (n_steps, n_layers)) ** 3
    return GradientFlowDisplay([f"{i} linear" for i in range(n_layers)], norms)


PICTURES = {
    "losses": lambda ax=None: LossCurveDisplay.from_estimator(fitted(MLPRegressor), ax=ax),
    "losses and a score": lambda ax=None: LossCurveDisplay.from_estimator(
        fitted(MLPClassifier, STOPPING), ax=ax
    ),
    "a loss below 0": lambda ax=None: LossCurveDisplay.from_history(
        {"loss": [1.0, 0.2, -0.3, -0.4], "validation_loss": [1.1, 0.4, -0.1, -0.2]}, ax=ax
    ),
    "one epoch": lambda ax=None: LossCurveDisplay.from_history({"loss": [0.7]}, ax=ax),
    "many decades": lambda ax=None: LossCurveDisplay.from_history(
        {"loss": np.geomspace(1e5, 1e-9, 3000)}, ax=ax
    ),
    "flow": lambda ax=None: GradientFlowDisplay.from_estimator(
        fitted(NetworkClassifier), X, CLASSES, ax=ax
    ),
    "flow through many": lambda ax=None: GradientFlowDisplay(
        _deep()[0], np.geomspace(1e-20, 1, 40)
    ).plot(ax),
    "flow over steps": lambda ax=None: over_steps(6).plot(ax),
    "flow of many over steps": lambda ax=None: over_steps(40).plot(ax),
    "activations": lambda ax=None: ActivationDisplay.from_estimator(
        fitted(NetworkRegressor), X, ax=ax
    ),
    "many activations": lambda ax=None: ActivationDisplay(*_deep()).plot(ax),
    "fit": lambda ax=None: FitDisplay.from_estimator(
        fitted(NetworkRegressor, one=True), ONE, CURVE, ax=ax
    ),
    "fit with residuals": lambda ax=None: FitDisplay.from_estimator(
        fitted(MLPRegressor, one=True), ONE, CURVE, residuals=True, ax=ax
    ),
    "fit with quantiles": lambda ax=None: FitDisplay.from_estimator(
        WithQuantiles(0).fit(ONE, CURVE), ONE, CURVE, ax=ax
    ),
    "probability": lambda ax=None: FitDisplay.from_estimator(
        fitted(NetworkClassifier, one=True), ONE, SIDE, residuals=True, ax=ax
    ),
    "margin": lambda ax=None: FitDisplay.from_estimator(
        fitted(MLPClassifier, ("loss", "hinge"), one=True), ONE, SIDE, ax=ax
    ),
}


def texts(figure, monkeypatch):
    """What is written in a picture, drawn: text and box, in pixels."""
    drawn, draw = [], Text.draw

    def noted(self, renderer, *given, **named):
        if self.get_visible() and self.get_text().strip():
            drawn.append((self.get_text(), self.get_window_extent(renderer)))
        return draw(self, renderer, *given, **named)

    figure.canvas.draw()  # once, for the layout
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.canvas.draw()
    return drawn


def overlapping(drawn):
    """Pairs of texts whose boxes have a pixel in common."""
    return [
        (one, other)
        for i, (one, a) in enumerate(drawn)
        for other, b in drawn[:i]
        if min(a.x1, b.x1) - max(a.x0, b.x0) >= 1 and min(a.y1, b.y1) - max(a.y0, b.y0) >= 1
    ]


def luminance(color):
    """Relative luminance of sRGB colours, from 0 to 1 (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
