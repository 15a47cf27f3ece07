"""`LossCurveDisplay`: the losses and the score of each epoch of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier

from fastbp.displays import canvas
from fastbp.displays.asked import fitted_network
from fastbp.estimators.base import BaseTrained

Curve = NDArray[np.float64]

# Of each curve its ink, line and marker.
_LOSS, _VALIDATION = (canvas.INK, "-", "o"), (canvas.BLUE, "--", "s")
_SCORE = (canvas.ORANGE, "-.", "^")
_MARKS = 10  # on a curve


class LossCurveDisplay:
    """Training loss, validation loss and score by epoch, with the best epoch marked.

    The best epoch is the first with the largest score; without a score that with the smallest
    validation loss, and without that the one with the smallest training loss. The training loss has
    the L2 penalty in it, the validation loss has not.

    Make it by `from_estimator` or `from_history`.

    Parameters
    ----------
    loss : array-like of shape (n_epochs,)
        The training loss of each epoch.
    validation_loss : array-like of shape (n_epochs,), default=None
        Of samples held out.
    score : array-like of shape (n_epochs,), default=None
        Of the same; more is better.
    loss_name : str, default=None
        What the loss is, for the axis.
    score_name : str, default="validation score"
        What the score is, for the axis.
    unit : str, default="epoch"
        What one loss belongs to.

    Attributes
    ----------
    best : int
        The number of the best epoch, from 1; 0 if nothing is finite.
    ax_ : matplotlib Axes
        Of the losses.
    score_ax_ : matplotlib Axes or None
        Of the score, to the right, on the same epochs.
    figure_ : matplotlib Figure
    loss_line_, validation_line_, score_line_, best_line_ : matplotlib Line2D or None
    legend_ : matplotlib Legend

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import LossCurveDisplay, MLPRegressor
    >>> X = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> model = MLPRegressor(8, early_stopping=True, tol=0.01, random_state=0)
    >>> display = LossCurveDisplay.from_estimator(model.fit(X, X[:, 0] ** 2))
    >>> display.ax_.get_xlabel(), display.ax_.get_yscale()
    ('epoch', 'log')
    >>> display.best == 1 + int(np.argmax(model.validation_scores_))
    True
    """

    def __init__(
        self,
        loss: ArrayLike,
        *,
        validation_loss: ArrayLike | None = None,
        score: ArrayLike | None = None,
        loss_name: str | None = None,
        score_name: str = "validation score",
        unit: str = "epoch",
    ) -> None:
        self.loss = np.asarray(loss, np.float64)
        if self.loss.ndim != 1 or self.loss.size == 0:
            raise ValueError(
                f"loss: found an array of shape {self.loss.shape}, wanted one number for each"
                f" {unit}, of at least one"
            )
        self.validation_loss = self._along("validation_loss", validation_loss)
        self.score = self._along("score", score)
        self.loss_name, self.score_name, self.unit = loss_name, score_name, unit
        if self.score is not None:
            self._best_by, judged = score_name, self.score
        elif self.validation_loss is not None:
            self._best_by, judged = "validation loss", -self.validation_loss
        else:
            self._best_by, judged = "training loss", -self.loss
        self.best = 0 if np.isnan(judged).all() else int(np.nanargmax(judged)) + 1

    def _along(self, name: str, given: ArrayLike | None) -> Curve | None:
        if given is None:
            return None
        curve = np.asarray(given, np.float64)
        if curve.shape != self.loss.shape:
            raise ValueError(
                f"{name}: found shape {curve.shape}, wanted that of loss, {self.loss.shape}"
            )
        return curve

    @classmethod
    def from_estimator(cls, estimator: BaseTrained, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw how the training of a fitted estimator went.

        Parameters
        ----------
        estimator : MLPClassifier, MLPRegressor, NetworkClassifier or NetworkRegressor
            Fitted by an update rule: L-BFGS has no epochs.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            As of `plot`.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        TypeError
            It is another kind of estimator.
        NotFittedError
            It is not fitted.
        ValueError
            It was fitted by L-BFGS, or not for a whole epoch.
        ModuleNotFoundError
            Without matplotlib.
        """
        asker = f"{cls.__name__}.from_estimator"
        canvas.pyplot(asker)
        model = fitted_network(estimator, asker)
        name, history = type(model).__name__, model.history_
        if not hasattr(model, "loss_curve_"):
            raise ValueError(
                f"{asker}: found a {name} that was fitted by L-BFGS, which has no epochs, wanted"
                " one fitted by an update rule; from_history(estimator.history_,"
                " unit='iteration') draws the losses of its iterations"
            )
        if len(history["loss"]) == 0:
            raise ValueError(f"{asker}: found a {name} without a whole epoch, wanted at least one")
        by_loss = isinstance(model.scoring, str) and model.scoring == "loss"
        if by_loss:  # a score that is minus the loss tells nothing more
            history = {key: one for key, one in history.items() if key != "validation_score"}
        names = {"loss_name": model.loss, "score_name": _score_name(model)}
        return cls.from_history(history, ax=ax, **names, **kwargs)

    @classmethod
    def from_history(
        cls,
        history: Mapping[str, ArrayLike],
        *,
        loss_name: str | None = None,
        score_name: str = "validation score",
        unit: str = "epoch",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a history: `history_` of an estimator, or `history` of what `fastbp.fit` returns.

        Parameters
        ----------
        history : dict of str to array-like of shape (n_epochs,)
            "loss", and perhaps "validation_loss" and "validation_score".
        loss_name, score_name, unit : str
            As of the class.
        ax, **kwargs
            As of `plot`.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        ValueError
            It has no "loss", or its curves differ in length.

        Examples
        --------
        >>> from fastbp import LossCurveDisplay
        >>> losses = {"loss": [1.0, 0.5, 0.3], "validation_loss": [1.1, 0.7, 0.8]}
        >>> LossCurveDisplay.from_history(losses).best
        2
        """
        if "loss" not in history:
            raise ValueError(
                f"history: found {sorted(history)}, wanted 'loss' among them, as in history_"
            )
        display = cls(
            history["loss"],
            validation_loss=history.get("validation_loss"),
            score=history.get("validation_score"),
            loss_name=loss_name,
            score_name=score_name,
            unit=unit,
        )
        return display.plot(ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        yscale: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        yscale : {"log", "linear"}, default=None
            The scale of the losses; None is "log" if all are above 0, else "linear".
        line_kw : dict, default=None
            Keywords of matplotlib's `plot` for all curves.

        Returns
        -------
        self : LossCurveDisplay

        Raises
        ------
        ValueError
            `yscale` is none of these, or "log" while a loss is 0 or less.
        ModuleNotFoundError
            Without matplotlib.
        """
        yscale = self._checked_scale(yscale)
        ax = canvas.one_panel(ax, f"{type(self).__name__}.plot")
        self.ax_, self.figure_, self.score_ax_ = ax, ax.figure, None
        self.validation_line_ = self.score_line_ = self.best_line_ = None
        (self.loss_line_,) = self._draw(ax, self.loss, "training loss", _LOSS, line_kw)
        if self.validation_loss is not None:
            (self.validation_line_,) = self._draw(
                ax, self.validation_loss, "validation loss", _VALIDATION, line_kw
            )
        ax.set(xlabel=self.unit, ylabel=self._axis_name())
        if yscale == "log":
            canvas.log_scaled(ax, "y")
        ax.xaxis.get_major_locator().set_params(integer=True)
        canvas.tidy(ax)
        if self.score is not None:
            self.score_ax_ = ax.twinx()
            (self.score_line_,) = self._draw(
                self.score_ax_, self.score, self.score_name, _SCORE, line_kw
            )
            self.score_ax_.set_ylabel(self.score_name)
            self.score_ax_.spines["top"].set_visible(False)
        if self.best:
            label = f"best {self.unit}: {self.best} (by {self._best_by})"
            self.best_line_ = ax.axvline(
                self.best, color=canvas.INK, linestyle=":", linewidth=1.2, label=label
            )
        lines = (self.loss_line_, self.validation_line_, self.score_line_, self.best_line_)
        self.legend_ = canvas.legend_above(ax, [one for one in lines if one is not None], 2)
        return self

    def _axis_name(self) -> str:
        name = (self.loss_name or "loss").replace("_", " ")
        return name if name.endswith("loss") else f"loss ({name})"

    def _checked_scale(self, yscale: str | None) -> str:
        losses = self.loss
        if self.validation_loss is not None:
            losses = np.concatenate([losses, self.validation_loss])
        least = float(np.nanmin(losses, initial=np.inf))
        if yscale is None:
            return "log" if least > 0 else "linear"
        if yscale not in ("log", "linear"):
            raise ValueError(f"yscale: found {yscale!r}, wanted 'log', 'linear' or None")
        if yscale == "log" and least <= 0:
            raise ValueError(f"yscale: found 'log' for a loss of {least:g}, wanted 'linear'")
        return yscale

    def _draw(
        self, ax: Any, curve: Curve, label: str, look: tuple[str, str, str], line_kw: Any
    ) -> Any:
        color, line, marker = look
        ours = {"color": color, "linestyle": line, "linewidth": 1.6, "label": label}
        ours |= {"marker": marker, "markersize": 4.5, "markevery": max(1, len(curve) // _MARKS)}
        return ax.plot(np.arange(1, len(curve) + 1), curve, **canvas.merged(ours, line_kw))


def _score_name(model: BaseTrained) -> str:
    scoring = model.scoring
    if scoring is None:
        return "validation accuracy" if is_classifier(model) else "validation R²"
    if not isinstance(scoring, str):
        scoring = getattr(scoring, "__name__", "score")
    return f"validation {scoring.replace('_', ' ')}"
