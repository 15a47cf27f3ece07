"""`FitDisplay`: a model of one feature beside the samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import check_is_fitted

from fastbp.displays import canvas

Array = NDArray[Any]

_POINTS = 400  # of the curve
_MARGIN = 0.03  # of the samples' range, to either side of it


class FitDisplay:
    """Samples of one feature, what a model predicts, and the residuals.

    Of a regression the curve is `predict`, with the quantiles of `predict_quantiles`, if the model
    has that, around it. Of a binary classification it is the probability of the second class, or
    `decision_function` where there are no probabilities; samples stand at 0 and 1, or at -1 and 1.
    Residuals are the samples less the curve.

    Make it by `from_estimator`.

    Parameters
    ----------
    X, y : array-like of shape (n_samples,)
        The feature and the targets.
    fitted : array-like of shape (n_samples,)
        The curve at the samples.
    grid, curve : array-like of shape (n_points,)
        Points of the feature in their order, and the curve there.
    quantiles : array-like of shape (n_points, n_quantiles), default=None
        Of the predictions there, the lowest first.
    threshold : float, default=None
        Above it a classifier predicts the second class.
    feature_name, target_name, curve_name : str
        For the axes, and for the curve in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    residuals_ax_ : matplotlib Axes or None
    figure_ : matplotlib Figure
    samples_, line_ : matplotlib Line2D
    band_ : matplotlib FillBetweenPolyCollection or None
        Between the outermost quantiles.
    quantile_lines_ : list of matplotlib Line2D
    residuals_ : matplotlib Line2D or None
    legend_ : matplotlib Legend

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import FitDisplay, MLPRegressor
    >>> X = np.linspace(-2, 2, 60).reshape(-1, 1)
    >>> model = MLPRegressor(16, "tanh", solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> display = FitDisplay.from_estimator(model, X, X[:, 0] ** 2, residuals=True)
    >>> bool(np.abs(display.residuals).max() < 0.1)
    True
    >>> display.residuals_ax_.get_ylabel()
    'residual'
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        fitted: ArrayLike,
        grid: ArrayLike,
        curve: ArrayLike,
        quantiles: ArrayLike | None = None,
        threshold: float | None = None,
        feature_name: str = "feature",
        target_name: str = "target",
        curve_name: str = "prediction",
    ) -> None:
        self.X, self.y = _numbers("X", X), _numbers("y", y)
        self.fitted = _numbers("fitted", fitted, self.X.shape)
        _numbers("y", y, self.X.shape)
        self.grid = _numbers("grid", grid)
        self.curve = _numbers("curve", curve, self.grid.shape)
        self.quantiles = None if quantiles is None else np.asarray(quantiles, np.float64)
        if self.quantiles is not None and self.quantiles.shape[:-1] != self.grid.shape:
            raise ValueError(
                f"quantiles: found shape {self.quantiles.shape}, wanted ({len(self.grid)},"
                " n_quantiles)"
            )
        self.threshold, self.feature_name = threshold, feature_name
        self.target_name, self.curve_name = target_name, curve_name

    @property
    def residuals(self) -> Array:
        """Targets less the curve, (n_samples,)."""
        return self.y - self.fitted

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        feature_name: str | None = None,
        target_name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a fitted model of one feature.

        Parameters
        ----------
        estimator : regressor or classifier
            Fitted; those of fastbp, also within a `Pipeline` or a search, and any other that has
            `predict`, or of classifiers `predict_proba` or `decision_function`.
        X : {array-like, data frame} of shape (n_samples, 1)
            At least one sample. Those whose feature is missing are not shown.
        y : array-like of shape (n_samples,)
            Numbers, or labels of two classes.
        feature_name, target_name : str, default=None
            For the axes, with their units where they have some; None takes the names that X and y
            have as data frame and series.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure. With residuals one of `subplots`, which is divided,
            or two.
        **kwargs
            As of `plot`.

        Returns
        -------
        display : FitDisplay

        Raises
        ------
        TypeError
            It is neither a regressor nor a classifier.
        NotFittedError
            It is not fitted.
        ValueError
            There is not one feature, or not one output, or there are not two classes.
        ModuleNotFoundError
            Without matplotlib.
        """
        asker = f"{cls.__name__}.from_estimator"
        canvas.pyplot(asker)
        classifies = _kind_of(estimator, asker)
        columns, name = getattr(X, "columns", None), getattr(y, "name", None)
        feature = _feature(X, asker)
        if feature_name is None:
            feature_name = "feature" if columns is None else str(columns[0])
        if target_name is None:
            target_name = "target" if name is None else str(name)
        names = {"feature_name": feature_name}
        low, high = float(np.nanmin(feature)), float(np.nanmax(feature))
        values, margin = np.asarray(y), _MARGIN * (high - low)
        grid = np.linspace(low - margin, high + margin, _POINTS)
        points = _like(X, grid)
        if classifies:
            answer = _Classifier(estimator, target_name, asker)
            curve, at_samples = answer(points), answer(X)
            values, threshold = answer.placed(values), answer.threshold
            names |= {"target_name": answer.axis, "curve_name": "model"}
        else:
            curve, at_samples = np.asarray(estimator.predict(points)), estimator.predict(X)
            threshold = None
            names |= {"target_name": target_name}
            if curve.shape != grid.shape or values.ndim != 1:
                raise ValueError(
                    f"{asker}: found targets of shape {values.shape} and predictions of shape"
                    f" {np.shape(at_samples)}, wanted one number for each sample"
                )
        quantiles = None
        if not classifies and hasattr(estimator, "predict_quantiles"):
            quantiles = np.asarray(estimator.predict_quantiles(points)).reshape(_POINTS, -1)
        display = cls(
            feature,
            values,
            fitted=at_samples,
            grid=grid,
            curve=curve,
            quantiles=quantiles,
            threshold=threshold,
            **names,
        )
        return display.plot(ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        residuals: bool = False,
        line_kw: Mapping[str, Any] | None = None,
        scatter_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, or with residuals also a sequence of two, default=None
            Where to draw; None makes a figure.
        residuals : bool, default=False
            Whether to draw the residuals below.
        line_kw, scatter_kw : dict, default=None
            Keywords of matplotlib's `plot` for the curve, and for samples and residuals.

        Returns
        -------
        self : FitDisplay

        Raises
        ------
        ValueError
            With residuals, `ax` is neither one Axes in a grid nor two.
        ModuleNotFoundError
            Without matplotlib.
        """
        asker = f"{type(self).__name__}.plot"
        self.residuals_ax_ = self.residuals_ = None
        if residuals:
            self.ax_, self.residuals_ax_ = canvas.two_panels(ax, asker, beside=False, ratio=2.5)
        else:
            self.ax_ = canvas.one_panel(ax, asker)
        self.figure_ = self.ax_.figure
        self._draw_fit(line_kw, scatter_kw)
        lowest = self.ax_
        if self.residuals_ax_ is not None:
            self._draw_residuals(self.residuals_ax_, scatter_kw)
            self.ax_.tick_params(labelbottom=False)
            lowest = self.residuals_ax_
        lowest.set_xlabel(self.feature_name)
        return self

    def _draw_fit(self, line_kw: Any, scatter_kw: Any) -> None:
        ax = self.ax_
        canvas.tidy(ax)
        (self.samples_,) = ax.plot(
            self.X, self.y, **canvas.merged({**self._points(), "label": "samples"}, scatter_kw)
        )
        handles = [self.samples_]
        ours = {"color": canvas.INK, "linewidth": 2.0, "label": self.curve_name, "zorder": 3}
        (self.line_,) = ax.plot(self.grid, self.curve, **canvas.merged(ours, line_kw))
        handles.append(self.line_)
        self.band_: Any = None
        self.quantile_lines_: list[Any] = []
        if self.quantiles is not None:
            handles.append(self._draw_quantiles(self.quantiles))
        if self.threshold is not None:
            handles.append(
                ax.axhline(
                    self.threshold, color=canvas.ORANGE, linestyle="--", label="decision threshold"
                )
            )
        ax.set_ylabel(self.target_name)
        self.legend_ = canvas.legend_above(ax, handles, 3)

    def _draw_quantiles(self, quantiles: Array) -> Any:
        self.band_ = self.ax_.fill_between(
            self.grid,
            quantiles[:, 0],
            quantiles[:, -1],
            color=canvas.PAPER,
            alpha=0.6,
            linewidth=0,
            label="predicted quantiles",
        )
        self.quantile_lines_ = self.ax_.plot(
            self.grid, quantiles, color=canvas.ORANGE, linestyle="--", linewidth=1.2
        )
        return self.band_

    def _draw_residuals(self, ax: Any, scatter_kw: Any) -> None:
        canvas.tidy(ax)
        ours = self._points()
        (self.residuals_,) = ax.plot(self.X, self.residuals, **canvas.merged(ours, scatter_kw))
        ax.axhline(0.0, color=canvas.INK, linewidth=1.2)
        ax.set_ylabel("residual")

    def _points(self) -> dict[str, Any]:
        """The look of samples: of many, smaller and paler, so that their number can be seen."""
        few = len(self.X) <= 500
        look = {"color": canvas.BLUE, "linestyle": "none", "marker": "o", "markeredgewidth": 0}
        return {**look, "markersize": 4.5 if few else 2.5, "alpha": 0.6 if few else 0.3}


# ---------------------------------------------------------------------------------- what is asked


class _Classifier:
    """A binary classifier as one number for a sample, and where its classes stand beside it."""

    def __init__(self, estimator: Any, target_name: str, asker: str) -> None:
        classes = np.asarray(getattr(estimator, "classes_", []))
        if classes.shape != (2,):
            raise ValueError(f"{asker}: found {classes.size} classes, wanted two")
        self._estimator, self._classes, self._asker = estimator, classes, asker
        of = f"{target_name} = {classes[1]}"
        if hasattr(estimator, "predict_proba"):
            self._method = "predict_proba"
            self._places, self.threshold, self.axis = (0.0, 1.0), 0.5, f"probability of {of}"
        elif hasattr(estimator, "decision_function"):
            self._method = "decision_function"
            self._places, self.threshold, self.axis = (-1.0, 1.0), 0.0, f"score of {of}"
        else:
            raise TypeError(
                f"{asker}: found a {type(estimator).__name__} with neither predict_proba nor"
                " decision_function, wanted one of them"
            )

    def __call__(self, X: Any) -> Array:
        answer = getattr(self._estimator, self._method)(X)
        return np.asarray(answer)[:, 1] if self._method == "predict_proba" else np.asarray(answer)

    def placed(self, y: Array) -> Array:
        """Labels as the numbers at which samples stand."""
        if y.ndim != 1 or not np.isin(y, self._classes).all():
            raise ValueError(
                f"{self._asker}: found y of shape {y.shape} with labels {np.unique(y)[:5]}, wanted"
                f" one label for each sample, of {self._classes}"
            )
        return np.where(y == self._classes[1], self._places[1], self._places[0])


def _kind_of(estimator: Any, asker: str) -> bool:
    """Whether it is a classifier, rather than a regressor."""
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise TypeError(
            f"{asker}: estimator is {estimator!r:.60}, wanted a fitted regressor or classifier"
        )
    classifies = bool(is_classifier(estimator))
    if not (classifies or is_regressor(estimator)):
        raise TypeError(
            f"{asker}: estimator is a {type(estimator).__name__}, wanted a regressor or a"
            " classifier"
        )
    check_is_fitted(estimator)
    return classifies


def _feature(X: Any, asker: str) -> Array:
    if isinstance(X, Mapping):
        raise ValueError(f"{asker}: found X as a dict of inputs, wanted shape (n_samples, 1)")
    array = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    if array.ndim != 2 or array.shape[1] != 1 or array.shape[0] == 0:
        raise ValueError(f"{asker}: found X of shape {array.shape}, wanted (n_samples, 1)")
    try:
        feature = array[:, 0].astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{asker}: found X of values such as '{array[0, 0]!s:.20}', wanted numbers"
        ) from error
    if np.isnan(feature).all():
        raise ValueError(f"{asker}: found X of missing values only, wanted one that is there")
    return feature


def _like(X: Any, grid: Array) -> Any:
    """Points of the feature in the form of X, with its name and dtype."""
    dtype = getattr(X, "dtype", np.dtype(np.float64))
    if getattr(X, "columns", None) is not None:
        return type(X)({X.columns[0]: grid})
    return grid[:, None].astype(dtype if dtype.kind == "f" else np.float64)


def _numbers(name: str, given: ArrayLike, shape: tuple[int, ...] | None = None) -> Array:
    array = np.asarray(given, np.float64)
    if array.ndim != 1 or (shape is not None and array.shape != shape):
        wanted = "one number for each sample" if shape is None else f"{shape}"
        raise ValueError(f"{name}: found shape {array.shape}, wanted {wanted}")
    return array
