"""`diagnose`: what samples and gradients become on their way through a network, and what is ill.

Here is what is measured in one pass, and from which measures an illness is told; how a pass is laid
open is the engine's affair, what is returned is in findings.py. Nothing is drawn or changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fastbp import _core
from fastbp.findings import Diagnosis, Finding, Signal, Weights
from fastbp.nn.compiled import Plan
from fastbp.nn.rows import rows
from fastbp.train.validation import mean_loss, terms_of

Array = NDArray[Any]

# A slope below this share of the largest passes next to nothing on: of tanh, beyond 3.3. It is half
# of what a leaky relu lets through.
FLAT = 0.005
# Of what sums within a few units would leave unflat, so much has to be flat to be called saturated.
SATURATED = 0.5
# Units of a layer of which no sample makes any use. In deep plain networks of relu half of them
# may be so from the start.
DEAD = 0.75
# Weights that fit their activations have sums vary up to 1.7 times as much as what goes in; those
# of networks that were trained may grow to more.
LARGE = 10.0
# The loss is that many times the loss of a network that says 0.
WORSE = 10.0
# From one end of the network to the other. Fifty layers whose weights fit their activations keep
# within a factor of 20.
SPREAD = 1e3
# Of the columns of a weight matrix, a share that differ from each other.
SYMMETRIC = 0.5
# Columns of a weight matrix that are looked at, and how near they are where they are the same: far
# above the rounding of float32, far below the distance of columns that were drawn.
COLUMNS, SAME = 512, 1e-5


def diagnose(estimator_or_plan: Any, X: Any, y: Any, *, sample_weight: Any = None) -> Diagnosis:
    """Lay one pass of training open, and say what is ill about it.

    Before training it tells weights that start from what nothing can be learnt from, or that are
    too large or too small for the depth; after it, units that are dead. The pass is that of
    training without random masks; with batch normalisation, by the samples' own moments.

    These are told, by measures that the attributes of `Signal` and `Weights` hold:

    - "not finite": the first node with an infinite or NaN result.
    - "symmetric": units of a layer with equal weights and equal gradients, which training keeps
      equal, so that they are worth one unit (Goodfellow, Bengio and Courville 2016, section 8.4).
    - "no gradient": a parameter by which the gradient is zero, as before layers that are zero or
      dead. Where layers start from zero on purpose, those before them have none at first.
    - "dead units": most of the units of an activation are flat for all samples.
    - "saturated": most of the results of an activation are at its flat ends, more than of sums
      within a few units of zero.
    - "large weights": sums vary more than 10 times as much as what goes into them; not told of the
      output of a regression, which is as large as its targets.
    - "large outputs": the loss is more than 10 times that of a network whose raw output is 0.
    - "exploding" and "vanishing values" or "gradients": from one end of the network to the other
      they grow, or shrink, by a factor of more than 1000 (Glorot and Bengio 2010). The layer is
      named at which it is reached.

    Parameters
    ----------
    estimator_or_plan : estimator or Plan
        Of this package. An estimator is looked at as it is fitted, or before `fit` as its training
        would start; what `compile` makes of a module and its loss, at the module's values.
    X, y : array or dict of arrays
        Samples and targets, as of `check_gradients`: a few hundred are enough. All that the network
        makes of them is held in memory at once.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples, not negative; None is 1 for all.

    Returns
    -------
    Diagnosis
        `findings` are the illnesses, `ok` tells that there are none; it prints as a table.

    Raises
    ------
    TypeError
        For something that is neither a plan nor an estimator of this package.
    ValueError
        The plan has no loss, or the samples do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import compile, diagnose, nn
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((100, 8)), rng.integers(0, 3, 100)
    >>> def plan(init):
    ...     layers = nn.Linear(32, init=init), nn.Tanh(), nn.Linear(3, init=init)
    ...     return compile(nn.Sequential(*layers).build(8), "softmax_cross_entropy")
    >>> diagnose(plan("glorot_normal"), X, y).ok
    True
    >>> [str(one) for one in diagnose(plan("zeros"), X, y).findings][0]
    'symmetric, 0.weight: of its 32 units 3.1% differ from each other, in weights or gradients'
    >>> sorted({one.kind for one in diagnose(plan(nn.init.Normal(5.0)), X, y).findings})
    ['large outputs', 'large weights', 'saturated']
    """
    found = type(estimator_or_plan).__name__
    if isinstance(estimator_or_plan, type) or not hasattr(estimator_or_plan, "_looked_at"):
        raise TypeError(
            f"diagnose: estimator_or_plan is a {found}, wanted an estimator of fastbp, or the Plan"
            " that compile() makes of a module and its loss"
        )
    look = _Look(*estimator_or_plan._looked_at(X, y, sample_weight))
    signals, weights = tuple(look.signals()), tuple(look.weights())
    return Diagnosis(signals, weights, tuple(look.findings(signals, weights)), look.n_samples)


def activations_of(estimator: Any, X: Any) -> Iterator[tuple[Signal, Array]]:
    """Of each activation of a fitted estimator its measures, as `diagnose` has them, and results.

    Parameters
    ----------
    estimator : estimator
        Of this package, fitted.
    X : array or dict of arrays
        Samples.

    Yields
    ------
    signal : Signal
    results : ndarray of shape (n_samples, ...)
    """
    # What goes forward does not depend on targets; its own predictions are some that fit.
    look = _Look(*estimator._looked_at(X, estimator.predict(X), None))
    for signal in look.signals():
        if not np.isnan(signal.flat):
            yield signal, look.results(int(signal.label))


class _Look:
    """A pass of a plan, laid open."""

    def __init__(self, plan: Plan, flat: Array, X: Any, y: Any, sample_weight: Any) -> None:
        self._plan, self._flat, core = plan, flat, plan.core
        given = X if isinstance(X, tuple) else (X,)
        self.n_samples = given[0].shape[0]
        weight = None if sample_weight is None else np.asarray(sample_weight, flat.dtype)
        self._y, self._weight, self._grad = y, weight, np.empty_like(flat)
        self._loss = core.loss_gradient(flat, X, y, grad=self._grad, sample_weight=weight)
        made, self._gradients = core.trace(flat, X, y, sample_weight=weight)
        self._values: Mapping[int, Any] = {**dict(enumerate(given)), **made}

    def signals(self) -> Iterator[Signal]:
        """Of each node, by its first result."""
        matrices = {v for v, one in enumerate(self._plan.core.values) if _is_matrix(one)}
        for number, node in enumerate(self._plan.core.nodes):
            path, attributes = self._plan.nodes[number]
            result = node["results"][0]
            values, gradients = self._values[result], self._gradients.get(result)
            flat = dead = np.nan
            if node["kind"] == "activation":
                units = _flat(node["name"], attributes, self._values[node["inputs"][0]])
                flat, dead = float(units.mean()), float(units.all(axis=0).mean())
            yield Signal(
                str(number),
                path,
                node["name"],
                float(np.mean(values, dtype=np.float64)),
                _variation(values),
                np.nan if gradients is None else _rms(gradients) * self.n_samples,
                flat,
                dead,
                not matrices.isdisjoint(node["inputs"]),
            )

    def results(self, node: int) -> Array:
        """The first result of a node."""
        results: Array = self._values[self._plan.core.nodes[node]["results"][0]]
        return results

    def weights(self) -> Iterator[Weights]:
        """Of each parameter."""
        first = len(self._plan.inputs)
        for name, value in zip(self._plan.parameters, self._plan.core.values[first:], strict=False):
            part = slice(value["offset"], value["offset"] + int(np.prod(value["shape"])))
            w, g = (flat[part].reshape(value["shape"]) for flat in (self._flat, self._grad))
            trainable, distinct = bool(value["gradient"]), np.nan
            if trainable and w.ndim > 1 and w.shape[-1] > 1:
                distinct = _distinct(w, g)
            yield Weights(name, w.shape, _rms(w), _rms(g), trainable, distinct)

    def findings(self, signals: Sequence[Signal], weights: Sequence[Weights]) -> Iterator[Finding]:
        """What these come to, the likeliest cause first."""
        for one in signals:
            if not np.isfinite(one.std):
                words = f"results of node {one.label}, {one.row}, are infinite or NaN"
                yield Finding("not finite", one.module, words)
                return  # all that follows would be told as well
        for of in weights:
            if of.distinct <= SYMMETRIC:
                words = f"of its {of.shape[-1]} units {of.distinct:.1%} differ from each other"
                yield Finding("symmetric", of.name, f"{words}, in weights or gradients")
        for of in weights:
            if of.trainable and of.gradient == 0:
                words = "the gradient by it is zero for these samples"
                yield Finding("no gradient", of.name, words)
        yield from self._large(signals)
        if self._loss > WORSE * (nothing := self._loss_of_zeros()) > 0:
            words = f"the loss is {self._loss:.3g}, and {nothing:.3g} where they are 0"
            yield Finding("large outputs", "", words)
        for one in signals:
            if one.dead > DEAD:
                words = f"{one.dead:.0%} of the units pass nothing on for any sample"
                yield Finding("dead units", one.module, f"{words}, through {one.row}")
            elif _beyond(one) > SATURATED:
                words = f"{one.flat:.0%} of the results are where {one.row} is flat"
                yield Finding("saturated", one.module, words)
        yield from _spread("values", [(one, one.std) for one in signals if one.weighted])
        back = [(one, one.gradient) for one in reversed(signals) if one.weighted]
        yield from _spread("gradients", back)

    def _loss_of_zeros(self) -> float:
        core = self._plan.core
        zeros = tuple(np.zeros_like(self._values[v]) for v in core.outputs)
        return mean_loss(terms_of(self._plan), zeros, self._y, self._weight)

    def _large(self, signals: Sequence[Signal]) -> Iterator[Finding]:
        core = self._plan.core
        values, losses = core.values, rows("loss")
        free = {one["value"] for one in core.losses if losses[one["name"]]["link"] == "identity"}
        for one, node in zip(signals, core.nodes, strict=True):
            read = [v for v in node["inputs"] if v in self._values and values[v]["batched"]]
            if not (one.weighted and read) or not free.isdisjoint(node["results"]):
                continue
            if values[read[0]]["content"] == "index":
                continue
            before = _variation(self._values[read[0]])
            if before > 0 and one.std > LARGE * before:
                words = f"its sums vary {one.std / before:.3g} times as much as what goes into them"
                yield Finding("large weights", one.module, words)


# --------------------------------------------------------------------------------------- measures


def _is_matrix(value: Mapping[str, Any]) -> bool:
    """Whether a value of a plan is a parameter with two axes or more."""
    return value["offset"] >= 0 and len(value["shape"]) > 1


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def _variation(values: Any) -> float:
    """Root mean square of the distances from each element's mean over the samples."""
    if hasattr(values, "indptr"):
        squares = values.multiply(values).mean(axis=0) - np.square(values.mean(axis=0))
        return float(np.sqrt(np.mean(np.maximum(squares, 0))))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told of
        return _rms(values - values.mean(axis=0, dtype=np.float64))


def _slopes(row: str, attributes: Mapping[str, float], x: Array) -> Array:
    slopes: Array = np.abs(_core.activation(row, x, dict(attributes), order=1))
    return slopes


def _flat(row: str, attributes: Mapping[str, float], x: Array) -> NDArray[np.bool_]:
    """Where a row passes next to nothing on, (samples and positions, units)."""
    largest = _slopes(row, attributes, _NORMAL.astype(x.dtype)).max()
    flat: NDArray[np.bool_] = _slopes(row, attributes, x) < FLAT * largest
    return flat.reshape(-1, x.shape[-1] if x.ndim > 1 else 1)


# A thousand sums as they are where the weights fit: quantiles of the normal distribution.
_NORMAL = ndtri((np.arange(1000) + 0.5) / 1000)


def _beyond(one: Signal) -> float:
    """How much of what could be flat, but would not be of normal sums, is."""
    if np.isnan(one.flat):
        return 0.0
    usual = float(_flat(one.row, {}, _NORMAL).mean())
    return (one.flat - usual) / (1 - usual)


def _distinct(w: Array, g: Array) -> float:
    """The share of columns that differ from each other in w or in g.

    Each column becomes a number, its product with random ones: equal ones lie next to each other.
    """
    columns = []
    for one in (w, g):
        flat = one.reshape(-1, one.shape[-1])[:, :COLUMNS].astype(np.float64)
        columns.append(flat / (np.abs(flat).max() or 1.0))
    both = np.concatenate(columns)
    numbers = np.sort(np.random.default_rng(0).standard_normal(len(both)) @ both)
    gaps = np.diff(numbers) > SAME * (np.abs(numbers).max() or 1.0)
    return float((1 + np.count_nonzero(gaps)) / len(numbers))


def _spread(what: str, measured: Sequence[tuple[Signal, float]]) -> Iterator[Finding]:
    """Whether what is measured at layers, in the order in which it is made, grows or shrinks."""
    met = [(one, size) for one, size in measured if np.isfinite(size) and size > 0]
    for one, size in met[1:]:
        ratio = size / met[0][1]
        if not 1 / SPREAD <= ratio <= SPREAD:
            kind = "exploding" if ratio > 1 else "vanishing"
            words = f"they are {ratio:.2g} times as large as at {met[0][0].module or 'the first'}"
            yield Finding(f"{kind} {what}", one.module, words)
            return
