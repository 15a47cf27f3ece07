"""`find_learning_rate`: the range test, one short training with rates from small to large.

Smith 2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186. The network
that is asked about is left as it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from fastbp import _core
from fastbp.errors import NonFiniteError
from fastbp.nn.compiled import compile
from fastbp.nn.module import Module
from fastbp.nn.rows import rows
from fastbp.train import threads
from fastbp.train.rules import Rule, rule_of

Array = NDArray[Any]

# Of the average loss so much is kept in each step; beyond so many times its least it has grown for
# good, after the steps that it takes to be an average.
_KEPT, _GROWN, _SETTLING = 0.9, 4.0, 10

# Lines are fitted to the losses of a quarter of the steps around each: the slope's noise is then
# that of a batch's loss over 36, for a hundred steps.
_WINDOW = 4


@dataclass(frozen=True)
class LearningRates:
    """What a range test found.

    Attributes
    ----------
    rates, losses : ndarray of shape (n_steps,)
        The rate of each step, and the loss of its batch before it.
    smoothed : ndarray of shape (n_steps,)
        The line through the losses around each, there.
    suggestion : float
        The rate at which this line falls most steeply, over the logarithm of the rate.
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the rates, and mark the suggestion.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(layout="constrained")
        ax.semilogx(self.rates, self.losses, color="0.75", label="of each batch")
        ax.semilogx(self.rates, self.smoothed, color="black", label="smoothed")
        ax.axvline(
            self.suggestion, ls="--", color="0.4", label=f"suggestion: {self.suggestion:.1e}"
        )
        ax.set(xlabel="learning rate", ylabel="loss", title="Range test of the learning rate")
        # What a rate that is far too large makes of the loss would hide all else.
        low, high = float(self.smoothed.min()), float(self.smoothed[0])
        ax.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low) + 1e-12)
        ax.legend()
        return ax


def find_learning_rate(
    module: Module,
    loss: Any,
    X: Any,
    y: Any,
    *,
    optimizer: str = "adam",
    low: float = 1e-6,
    high: float = 1.0,
    n_steps: int = 100,
    batch_size: int = 32,
    seed: int = 0,
    n_threads: int | None = None,
) -> LearningRates:
    """Train a copy of a network for some steps, in which the learning rate grows.

    Parameters
    ----------
    module : Module
        Built; its values are not changed.
    loss : str, Loss or dict
        As `compile` takes it.
    X, y : array or dict of arrays
        Samples and targets.
    optimizer : str, default="adam"
        The update rule, as of `fit`, with the numbers that it has by itself.
    low, high : float, default=1e-6 and 1.0
        The first and the last rate; between them they grow by a constant factor.
    n_steps : int, default=100
        At least 20. Fewer are made where the loss has grown for good.
    batch_size : int, default=32
        Samples of a step; at most all.
    seed : int, default=0
        Of the order of samples.
    n_threads : int, default=None
        As of `fit`.

    Returns
    -------
    LearningRates

    Raises
    ------
    ValueError
        An argument is out of its range, or the loss never fell.
    KeyboardInterrupt
        Ctrl-C was pressed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import find_learning_rate, nn
    >>> X = np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    >>> network = nn.Sequential(nn.Linear(16), nn.Tanh(), nn.Linear(1)).build(X)
    >>> found = find_learning_rate(network, "squared_error", X, X[:, :1] * X[:, 1:2])
    >>> 1e-4 < found.suggestion < 1.0
    True
    """
    rule = rule_of(optimizer, None, 0.0)
    if not 0 < low < high < np.inf:
        raise ValueError(f"low, high: found {low} and {high}, wanted 0 < low < high")
    if n_steps < 20:
        raise ValueError(f"n_steps: found {n_steps}, wanted at least 20")
    plan = compile(module, loss)
    samples, targets = plan.samples(X), plan.targets(y)
    n = len(targets[0] if isinstance(targets, tuple) else targets)
    batch_size = min(batch_size, n)
    rates = np.geomspace(low, high, n_steps)
    losses = _losses(plan.core, module, samples, targets, rule, rates, batch_size, seed, n_threads)
    losses = _until_it_grows(losses)
    rates = rates[: len(losses)]
    window = n_steps // _WINDOW | 1
    if len(losses) <= window:
        raise ValueError(
            f"low: found a loss that soon grows from the rate {low:g} on, wanted rates that begin "
            "where it falls"
        )
    smoothed = savgol_filter(losses, window, 1)
    slopes = savgol_filter(losses, window, 1, deriv=1)
    if slopes.min() >= 0:
        raise ValueError(f"high: found no rate up to {high:g} at which the loss falls")
    return LearningRates(rates, losses, smoothed, float(rates[slopes.argmin()]))


def _losses(
    plan: _core.Plan,
    module: Module,
    samples: Any,
    targets: Any,
    rule: Rule,
    rates: Array,
    batch_size: int,
    seed: int,
    n_threads: int | None,
) -> Array:
    """The loss of each step before it is made, up to one that is not finite."""
    flat = module._built().settle().copy()
    states = np.zeros((rows("rule")[rule.row]["n_states"], plan.n_params), flat.dtype)
    training = _core.Training(
        plan,
        flat,
        samples,
        targets,
        rule=rule.row,
        attrs=rule.attributes,
        states=states,
        batch_size=batch_size,
        seed=seed,
        n_threads=threads.resolve(n_threads),
    )
    n = len(targets[0] if isinstance(targets, tuple) else targets)
    per_epoch = -(-n // batch_size)
    n_epochs = -(-len(rates) // per_epoch)
    # Steps beyond the last rate have the rate 0: they change nothing.
    given = np.zeros((n_epochs, per_epoch))
    given.ravel()[: len(rates)] = rates
    losses = np.full(n_epochs * per_epoch, np.nan)
    with suppress(NonFiniteError):  # what was to be found out: such a rate is too large
        if training.run(given, step_losses=losses)["interrupted"]:
            raise KeyboardInterrupt
    losses = losses[: len(rates)]
    bad = np.flatnonzero(~np.isfinite(losses))
    return losses[: bad[0]] if len(bad) > 0 else losses


def _until_it_grows(losses: Array) -> Array:
    """The losses up to where their average has grown for good."""
    total = weight = 0.0
    least = np.inf
    for i, loss in enumerate(losses):
        total = _KEPT * total + (1 - _KEPT) * loss
        weight = _KEPT * weight + (1 - _KEPT)
        least = min(least, total / weight)
        if i >= _SETTLING and total / weight > _GROWN * least:
            return losses[:i]
    return losses
