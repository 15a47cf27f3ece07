"""`ActivationDisplay`: what activations say to samples, and how many of them are stuck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastbp.diagnosis import activations_of
from fastbp.displays import canvas
from fastbp.displays.asked import fitted_network
from fastbp.estimators.base import BaseTrained

# Shares of the results below the ends of a whisker, of a box, and below the line in it.
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


class ActivationDisplay:
    """Of each activation layer the distribution of its results, and the shares of stuck ones.

    To the left boxes hold the middle half of a layer's results, with a line at the median; whiskers
    reach from 1 % to 99 % of them. To the right are the share of results that are saturated, where
    the activation's slope is less than 0.005 of its largest, and the share of units that are dead,
    which are saturated for every sample and position; both as `diagnose` measures them. Of relu,
    half of the results are saturated by design: there the dead units tell.

    Make it by `from_estimator`.

    Parameters
    ----------
    layers : sequence of str
        Names, the first layer first.
    quantiles : array-like of shape (n_layers, 5)
        Of each layer's results, at 1, 25, 50, 75 and 99 %.
    saturated, dead : array-like of shape (n_layers,)
        Shares, from 0 to 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Of the distributions.
    shares_ax_ : matplotlib Axes
        Of the shares, in percent.
    figure_ : matplotlib Figure
    boxes_ : matplotlib BarContainer
    medians_, whiskers_, caps_ : matplotlib LineCollection
        Of the whiskers first all to the left, then all to the right.
    saturated_bars_, dead_bars_ : matplotlib BarContainer
    legend_ : matplotlib Legend

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import ActivationDisplay, MLPClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    >>> model = MLPClassifier((8, 8), "tanh", random_state=0).partial_fit(X, y, classes=[0, 1])
    >>> display = ActivationDisplay.from_estimator(model, X)
    >>> display.layers, display.dead.tolist()
    (['1 tanh', '3 tanh'], [0.0, 0.0])
    """

    def __init__(
        self,
        layers: Sequence[str],
        quantiles: ArrayLike,
        saturated: ArrayLike,
        dead: ArrayLike,
    ) -> None:
        self.layers = [str(name) for name in layers]
        given = {
            "quantiles": (quantiles, (len(self.layers), len(QUANTILES))),
            "saturated": (saturated, (len(self.layers),)),
            "dead": (dead, (len(self.layers),)),
        }
        arrays = []
        for name, (array, shape) in given.items():
            arrays.append(np.asarray(array, np.float64))
            if not self.layers or arrays[-1].shape != shape:
                raise ValueError(
                    f"{name}: found shape {arrays[-1].shape}, wanted {shape}, of at least one layer"
                )
        self.quantiles, self.saturated, self.dead = arrays

    @classmethod
    def from_estimator(
        cls, estimator: BaseTrained, X: Any, *, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw what the activations of a fitted estimator make of samples.

        As in training, but without random masks; with batch normalisation, by the samples' own
        moments.

        Parameters
        ----------
        estimator : MLPClassifier, MLPRegressor, NetworkClassifier or NetworkRegressor
            Fitted.
        X : array-like of shape (n_samples, n_features), or as `fit` takes it
            A few hundred samples are enough; all that the network makes of them is held in memory.
        ax : matplotlib Axes, or sequence of two, default=None
            Where to draw: one, of `subplots`, is divided; None makes a figure.
        **kwargs
            As of `plot`.

        Returns
        -------
        display : ActivationDisplay

        Raises
        ------
        TypeError
            It is another kind of estimator.
        NotFittedError
            It is not fitted.
        ValueError
            The network has no activations, or the samples do not fit.
        ModuleNotFoundError
            Without matplotlib.
        """
        asker = f"{cls.__name__}.from_estimator"
        canvas.pyplot(asker)
        model = fitted_network(estimator, asker)
        layers, quantiles, saturated, dead = [], [], [], []
        for signal, values in activations_of(model, X):
            layers.append(f"{signal.module or signal.label} {signal.row}")
            quantiles.append(np.quantile(values, QUANTILES))
            saturated.append(signal.flat)
            dead.append(signal.dead)
        if not layers:
            raise ValueError(
                f"{asker}: found a {type(model).__name__} whose network has no activations, wanted"
                " one with some, other than 'identity'"
            )
        return cls(layers, quantiles, saturated, dead).plot(ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        box_kw: Mapping[str, Any] | None = None,
        bar_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, or sequence of two, default=None
            Where to draw: one, of `subplots`, is divided; None makes a figure.
        box_kw, bar_kw : dict, default=None
            Keywords of matplotlib's `barh` for boxes and for shares.

        Returns
        -------
        self : ActivationDisplay

        Raises
        ------
        ValueError
            `ax` is neither one Axes in a grid nor two.
        ModuleNotFoundError
            Without matplotlib.
        """
        asker = f"{type(self).__name__}.plot"
        self.ax_, self.shares_ax_ = canvas.two_panels(ax, asker, beside=True, ratio=1.4)
        self.figure_ = self.ax_.figure
        canvas.tidy(self.ax_, self.shares_ax_)
        self._draw_boxes(box_kw)
        self._draw_shares(bar_kw)
        canvas.name_rows(self.ax_, self.layers)
        self.shares_ax_.tick_params(labelleft=False)
        return self

    def _draw_boxes(self, box_kw: Mapping[str, Any] | None) -> None:
        at, ax = np.arange(len(self.layers)), self.ax_
        low, q1, median, q3, high = self.quantiles.T
        ours: dict[str, Any] = {"height": 0.6, "color": canvas.PAPER, "edgecolor": canvas.INK}
        lines: dict[str, Any] = {"color": canvas.INK, "linewidth": 1.2}
        self.whiskers_ = ax.hlines([*at, *at], [*low, *q3], [*q1, *high], **lines)
        self.boxes_ = ax.barh(at, q3 - q1, left=q1, **{**ours, **(box_kw or {})})
        for box in self.boxes_:
            box.sticky_edges.x.clear()  # or a box at the left end would stand on the axis
        ends = 0.18
        self.caps_ = ax.vlines([*low, *high], [*at - ends, *at - ends], [*at + ends] * 2, **lines)
        self.medians_ = ax.vlines(median, at - 0.3, at + 0.3, color=canvas.INK, linewidth=2.2)
        ax.set(xlabel="activation (1, 25, 50, 75, 99 %)", ylabel="layer")

    def _draw_shares(self, bar_kw: Mapping[str, Any] | None) -> None:
        at, ax = np.arange(len(self.layers)), self.shares_ax_
        ours: dict[str, Any] = {"height": 0.34, "edgecolor": canvas.INK, "linewidth": 0.8}
        ours |= bar_kw or {}
        self.saturated_bars_ = ax.barh(
            at - 0.18, 100 * self.saturated, color=canvas.PAPER, hatch="///",
            label="saturated results", **ours,
        )  # fmt: skip
        self.dead_bars_ = ax.barh(
            at + 0.18, 100 * self.dead, color=canvas.BLUE, label="dead units", **ours
        )
        ax.set(xlabel="share (%)", xlim=(0, 100))
        self.legend_ = canvas.legend_above(ax, [self.saturated_bars_, self.dead_bars_], 1)
