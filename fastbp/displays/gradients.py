"""`GradientFlowDisplay`: how large the gradients of layers are, along the depth or over steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastbp.diagnosis import diagnose
from fastbp.displays import canvas
from fastbp.displays.asked import fitted_network
from fastbp.estimators.base import BaseTrained
from fastbp.findings import Diagnosis

_NORM = "norm of the gradient"
_MOST_LABELS = 6  # of lines over steps


class GradientFlowDisplay:
    """The norm of each layer's gradient: from the first layer down to the last, or over steps.

    The norm is the Euclidean one, of the gradients of the mean loss by all parameters of the layer,
    without the penalty. A layer is the module that parameters belong to. Norms that shrink by
    orders of magnitude towards the first layer are vanishing gradients, those that grow exploding
    ones (Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks").

    Make it by `from_estimator`, `from_diagnosis` or `from_history`.

    Parameters
    ----------
    layers : sequence of str
        Names, the first layer first.
    norms : array-like of shape (n_layers,) or (n_steps, n_layers)
        Not negative; NaN for what is not known.
    steps : array-like of shape (n_steps,), default=None
        The numbers of the steps; None counts them from 1.
    unit : str, default="step"
        What the rows are of, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One along the layers, or one for each layer over steps.
    legend_ : matplotlib Legend or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import GradientFlowDisplay, MLPClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    >>> model = MLPClassifier((8, 8), random_state=0)
    >>> norms = []
    >>> for _ in range(3):
    ...     model.partial_fit(X, y, classes=[0, 1])
    ...     display = GradientFlowDisplay.from_estimator(model, X, y)
    ...     norms.append(display.norms)
    MLPClassifier(...)
    MLPClassifier(...)
    MLPClassifier(...)
    >>> display.layers
    ['0 linear', '2 linear', '4 linear']
    >>> over = GradientFlowDisplay(display.layers, norms).plot()
    >>> over.ax_.get_xlabel(), len(over.lines_)
    ('step', 3)
    """

    def __init__(
        self,
        layers: Sequence[str],
        norms: ArrayLike,
        *,
        steps: ArrayLike | None = None,
        unit: str = "step",
    ) -> None:
        self.layers, self.unit = [str(name) for name in layers], unit
        self.norms = np.asarray(norms, np.float64)
        shape = self.norms.shape
        if not self.layers or len(shape) not in (1, 2) or shape[-1] != len(self.layers):
            raise ValueError(
                f"norms: found shape {shape}, wanted (n_layers,) or (n_steps, n_layers), of"
                f" {len(self.layers)} layers"
            )
        if (self.norms < 0).any():
            raise ValueError(f"norms: found {np.nanmin(self.norms):g}, wanted 0 or more")
        self.steps = None
        if len(shape) == 2:
            self.steps = np.arange(1, shape[0] + 1) if steps is None else np.asarray(steps)
        if self.steps is not None and self.steps.shape != shape[:1]:
            raise ValueError(
                f"steps: found shape {self.steps.shape}, wanted one for each of {shape[0]} rows"
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseTrained,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the norms of the layers' gradients at the weights of a fitted estimator.

        Parameters
        ----------
        estimator : MLPClassifier, MLPRegressor, NetworkClassifier or NetworkRegressor
            Fitted. For the weights that training starts from: `from_diagnosis(diagnose(...))`.
        X, y, sample_weight
            Samples, as of `fit`; a few hundred are enough.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            As of `plot`.

        Returns
        -------
        display : GradientFlowDisplay

        Raises
        ------
        TypeError
            It is another kind of estimator.
        NotFittedError
            It is not fitted.
        ValueError
            The samples do not fit.
        ModuleNotFoundError
            Without matplotlib.
        """
        asker = f"{cls.__name__}.from_estimator"
        canvas.pyplot(asker)
        model = fitted_network(estimator, asker)
        found = diagnose(model, X, y, sample_weight=sample_weight)
        return cls.from_diagnosis(found, ax=ax, **kwargs)

    @classmethod
    def from_diagnosis(cls, diagnosis: Diagnosis, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw what `diagnose` found, also of plans and of estimators that are not fitted.

        Parameters
        ----------
        diagnosis : Diagnosis
        ax, **kwargs
            As of `plot`.

        Returns
        -------
        display : GradientFlowDisplay

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import GradientFlowDisplay, MLPRegressor, diagnose
        >>> X = np.random.default_rng(0).standard_normal((50, 3))
        >>> start = diagnose(MLPRegressor((8, 8), random_state=0), X, X[:, 0])
        >>> GradientFlowDisplay.from_diagnosis(start).norms.shape
        (3,)
        """
        # Of a module the row that reads its matrix, or, where it has none, its last one.
        rows = {one.module: one.row for one in diagnosis.signals}
        rows |= {one.module: one.row for one in reversed(diagnosis.signals) if one.weighted}
        squares: dict[str, float] = {}
        for one in diagnosis.weights:
            if one.trainable:
                module = one.name.rpartition(".")[0]
                layer = f"{module} {rows[module]}".strip() if module in rows else module or one.name
                square = one.gradient**2 * float(np.prod(one.shape))  # it is a root mean square
                squares[layer] = squares.get(layer, 0.0) + square
        return cls([*squares], np.sqrt([*squares.values()])).plot(ax, **kwargs)

    @classmethod
    def from_history(
        cls,
        history: Mapping[str, ArrayLike],
        *,
        steps: ArrayLike | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw norms over the steps of a training.

        Parameters
        ----------
        history : dict of str to array-like of shape (n_steps,)
            `history_` of an estimator, which has the norm of the whole gradient, with the penalty
            and before it is clipped: of each step with ``history="step"``, else of the last one of
            each epoch. Or norms of layers by name, the first layer first, as they were gathered
            from `from_estimator`.
        steps : array-like of shape (n_steps,), default=None
            The numbers of the steps; None counts them from 1.
        ax, **kwargs
            As of `plot`.

        Returns
        -------
        display : GradientFlowDisplay

        Raises
        ------
        ValueError
            A history of losses has no norms, as that of L-BFGS, or norms differ in number.

        Examples
        --------
        >>> from fastbp import GradientFlowDisplay
        >>> norms = {"first": [0.1, 0.2, 0.1], "last": [1.0, 0.9, 0.8]}
        >>> GradientFlowDisplay.from_history(norms).norms.shape
        (3, 2)
        """
        unit = "step"
        if "step_gradient_norm" in history:
            history = {"all layers": history["step_gradient_norm"]}
        elif "gradient_norm" in history:
            history, unit = {"all layers": history["gradient_norm"]}, "epoch"
        elif "loss" in history:
            raise ValueError(
                "history: found losses and no 'gradient_norm', wanted history_ of an estimator"
                " fitted by an update rule, or norms of layers by name"
            )
        lengths = {name: np.size(one) for name, one in history.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"history: found norms of {lengths} steps, wanted the same number for each layer"
            )
        norms = np.stack([np.ravel(np.asarray(one)) for one in history.values()], axis=1)
        return cls([*history], norms, steps=steps, unit=unit).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw it, the norms on a log scale; those that are 0 are left out.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        line_kw : dict, default=None
            Keywords of matplotlib's `plot` for all lines.

        Returns
        -------
        self : GradientFlowDisplay

        Raises
        ------
        ModuleNotFoundError
            Without matplotlib.
        """
        ax = canvas.one_panel(ax, f"{type(self).__name__}.plot")
        self.ax_, self.figure_, self.legend_ = ax, ax.figure, None
        canvas.tidy(ax)
        norms = np.where(self.norms > 0, self.norms, np.nan)
        if self.steps is None:
            ours = {"color": canvas.BLUE, "marker": "o", "markersize": 5, "linewidth": 1.4}
            rows = np.arange(len(self.layers))
            self.lines_ = list(ax.plot(norms, rows, **canvas.merged(ours, line_kw)))
            canvas.name_rows(ax, self.layers)
            ax.set(xlabel=_NORM, ylabel="layer")
            self._scale("x", norms)
            return self
        self.lines_ = [*self._over_steps(ax, norms, line_kw)]
        ax.set(xlabel=self.unit, ylabel=_NORM)
        self._scale("y", norms)
        ax.xaxis.get_major_locator().set_params(integer=True)
        named = [self.lines_[i] for i in canvas.every(len(self.layers), _MOST_LABELS)]
        self.legend_ = canvas.legend_above(ax, named, 3)
        return self

    def _over_steps(self, ax: Any, norms: Any, line_kw: Any) -> Iterable[Any]:
        every = max(1, len(norms) // 10)
        for i, name in enumerate(self.layers):
            ours = canvas.style(i, len(self.layers))
            ours |= {"label": canvas.shortened(name), "markersize": 4.5, "linewidth": 1.4}
            # Marks of different lines do not stand above each other.
            ours["markevery"] = (i % every, every)
            yield from ax.plot(self.steps, norms[:, i], **canvas.merged(ours, line_kw))

    def _scale(self, which: str, norms: Any) -> None:
        """Logarithmic, and wide enough that what differs little does not look as if it did much."""
        if np.isfinite(norms).any():  # a log scale of nothing warns
            canvas.log_scaled(self.ax_, which, least=10.0)
