"""Cases for every row of the table: attributes, inputs, targets and small networks.

Tests and benchmarks share them, so that a new row is exercised by both without a line of its own.
Nothing here says what a row ought to compute: that is tests/reference.py and tests/reference_ops.
Ops have their cases in modules of their own, one a family, since only a family knows what shapes
and attributes it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse as sp

from fastbp import _core
from fastbp.testing import (
    attention,
    binary,
    convolution,
    masks,
    moves,
    norms,
    picks,
    pooling,
    products,
    recurrence,
    reductions,
    softmax,
)
from fastbp.testing.opcase import OpCase

Attributes = Mapping[str, float]

FAMILIES = (
    *(products, convolution, pooling, attention, recurrence, norms, masks),
    *(binary, reductions, softmax, moves, picks),
)

# Landmarks of every activation and loss, where formulas change branch, saturate or lose digits.
LANDMARKS = (0.0, 1e-30, 1e-10, 1e-4, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 90.0, 200.0, 800.0)
EXTREMES = (1e4, 1e10, 1e30)


@dataclass(frozen=True)
class RowCase:
    """A row of the table with values for its attributes.

    Attributes
    ----------
    row : mapping
        The row, as `_core.table()` gives it.
    attrs : mapping of str to float
        All of its attributes.
    """

    row: Mapping[str, Any]
    attrs: Attributes

    @property
    def name(self) -> str:
        """The row's name."""
        return str(self.row["name"])

    @property
    def spec(self) -> tuple[str, Attributes]:
        """The pair that a plan takes for this row."""
        return self.name, self.attrs

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value:.3g}" for name, value in self.attrs.items())
        return f"{self.name}({values})" if values else self.name


def rows(kind: str) -> tuple[Mapping[str, Any], ...]:
    """The rows of one kind: "op", "function", "activation", "loss" or "rule"."""
    return tuple(row for row in _core.table() if row["kind"] == kind)


def op_cases() -> tuple[OpCase, ...]:
    """The cases of every op of the table that runs as a node of a graph."""
    return tuple(case for family in FAMILIES for case in family.CASES)


def cases(kind: str, *, attributes: bool = True) -> tuple[RowCase, ...]:
    """Every row of a kind at its defaults and, unless `attributes` is false, away from them.

    Each attribute in turn goes to a low and to a high value of its range, the bound itself where
    the range includes it and is finite. One without a default is 3 elsewhere.

    Parameters
    ----------
    kind : {"function", "activation", "loss", "rule"}
        Which rows.
    attributes : bool, default=True
        Whether attributes leave their defaults.

    Returns
    -------
    tuple of RowCase
        In the order of the table; defaults first within a row.

    Examples
    --------
    >>> from fastbp.testing import cases
    >>> [str(case) for case in cases("activation") if case.name == "leaky_relu"][0]
    'leaky_relu(slope=0.01)'
    """
    found = []
    for row in rows(kind):
        defaults = {attr["name"]: _default(attr) for attr in row["attrs"]}
        found.append(RowCase(row, defaults))
        if attributes:
            for attr in row["attrs"]:
                for value in _values(attr):
                    found.append(RowCase(row, {**defaults, attr["name"]: value}))
    return tuple(found)


def _default(attr: Mapping[str, Any]) -> float:
    """An attribute's default, or 3 where it has none."""
    default = float(attr["default"])
    return 3.0 if np.isnan(default) else default


def _values(attr: Mapping[str, Any]) -> list[float]:
    """A low and a high value of an attribute, finite, neither of them its default."""
    low, high = float(attr["low"]), float(attr["high"])
    default = _default(attr)
    if np.isinf(default):
        default = 0.0
    below = default - max(1.0, abs(default)) if np.isinf(low) else low
    above = default + max(1.0, abs(default)) if np.isinf(high) else high
    if np.isinf(low) or attr["low_open"]:
        below = default + 0.7 * (below - default)
    if np.isinf(high) or attr["high_open"]:
        above = default + 0.7 * (above - default)
    return [value for value in (below, above) if value != default]


def activation_inputs(
    case: RowCase, dtype: DTypeLike = np.float64, *, extremes: bool = False
) -> NDArray[Any]:
    """Finite inputs for an activation: a grid, its landmarks with both signs, and its attributes.

    Parameters
    ----------
    case : RowCase
        The activation. The values of its attributes are inputs too, since kinks lie there.
    dtype : float32 or float64, default=float64
        The type of the result.
    extremes : bool, default=False
        Whether magnitudes up to 1e30 are among them.

    Returns
    -------
    ndarray of shape (n,)
        0.0 and -0.0 included.
    """
    finite = [value for value in case.attrs.values() if np.isfinite(value)]
    marks = np.array([*LANDMARKS, *(EXTREMES if extremes else ()), *finite])
    grid = np.linspace(-12.0, 12.0, 385)
    return np.concatenate([marks, -marks, grid]).astype(dtype)


def targets(
    kind: str, n_samples: int, n_outputs: int, dtype: DTypeLike = np.float64, seed: int = 0
) -> NDArray[Any]:
    """Random targets as losses want them.

    Parameters
    ----------
    kind : {"real", "nonnegative", "binary", "class"}
        The `target` of a loss in the table.
    n_samples, n_outputs : int
        Size; for "class" the number of outputs is that of classes.
    dtype : float32 or float64, default=float64
        Of all targets but classes.
    seed : int, default=0
        Of the generator.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs), or int32 of shape (n_samples,) for "class"
    """
    rng = np.random.default_rng(seed)
    shape = (n_samples, n_outputs)
    if kind == "class":
        return rng.integers(0, n_outputs, n_samples).astype(np.int32)
    if kind == "binary":
        return rng.integers(0, 2, shape).astype(dtype)
    if kind == "nonnegative":
        return rng.poisson(2.0, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def loss_inputs(
    case: RowCase,
    n_samples: int = 40,
    n_outputs: int = 3,
    dtype: DTypeLike = np.float64,
    *,
    scale: float = 2.0,
    seed: int = 0,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Random raw outputs and targets for a loss.

    Parameters
    ----------
    case : RowCase
        The loss.
    n_samples, n_outputs : int
        Size.
    dtype : float32 or float64, default=float64
        Of the raw outputs, and of the targets unless they are classes.
    scale : float, default=2.0
        Standard deviation of the raw outputs; the default reaches the bend of every loss.
    seed : int, default=0
        Of the generator.

    Returns
    -------
    z : ndarray of shape (n_samples, n_outputs)
        Raw outputs.
    t : ndarray
        Targets, as `targets` makes them.
    """
    rng = np.random.default_rng([seed, 1])
    z = (scale * rng.standard_normal((n_samples, n_outputs))).astype(dtype)
    return z, targets(case.row["target"], n_samples, n_outputs, dtype, seed)


@dataclass(frozen=True)
class Network:
    """A small network with weights and data, as `network` makes it.

    Attributes
    ----------
    plan : Plan
        The compiled network.
    params : ndarray of shape (n_params,)
        Random weights.
    X : ndarray or CSR matrix of shape (n_samples, n_inputs)
        Samples.
    y : ndarray
        Targets, as `targets` makes them.
    arguments : tuple
        Number of inputs, layers and loss, as the plan took them.
    """

    plan: Any
    params: NDArray[Any]
    X: Any
    y: NDArray[Any]
    arguments: tuple[int, list[tuple[str, Attributes]], tuple[str, Attributes]] = field(repr=False)


def network(
    sizes: Sequence[int] = (4, 6, 5, 3),
    activation: tuple[str, Attributes] = ("tanh", {}),
    loss: tuple[str, Attributes] = ("squared_error", {}),
    *,
    dtype: DTypeLike = np.float64,
    sparse: bool = False,
    n_samples: int = 12,
    gain: float = 1.0,
    seed: int = 0,
) -> Network:
    """A multilayer perceptron with random weights, samples and targets that suit its loss.

    Parameters
    ----------
    sizes : sequence of int, default=(4, 6, 5, 3)
        Inputs, units of each hidden layer, outputs.
    activation, loss : tuple of str and mapping
        Row and attributes.
    dtype : float32 or float64, default=float64
        Of weights, samples and arithmetic.
    sparse : bool, default=False
        Whether the samples are CSR, half of their entries zero.
    n_samples : int, default=12
        Number of samples.
    gain : float, default=1.0
        The weights have standard deviation gain / sqrt(n_in). 1 keeps the size of a signal through
        layers whose activation has slope 1 at 0; relu needs sqrt(2) for it, logistic about 4.
    seed : int, default=0
        Of the generator.

    Returns
    -------
    Network

    Examples
    --------
    >>> from fastbp.testing import network
    >>> net = network((4, 6, 3))
    >>> net.plan.predict(net.params, net.X).shape
    (12, 3)
    """
    rng = np.random.default_rng([seed, 2])
    layers: list[tuple[str, Attributes]] = []
    for units in sizes[1:-1]:
        layers += [("linear", {"units": units}), activation]
    layers.append(("linear", {"units": sizes[-1]}))
    plan = _core.Plan(sizes[0], layers, loss, dtype=dtype, sparse=sparse)
    parts = []
    for n_in, n_out in pairwise(sizes):
        parts.append(rng.standard_normal(n_in * n_out) * (gain / np.sqrt(n_in)))
        parts.append(rng.standard_normal(n_out) * 0.1)
    X: Any = rng.standard_normal((n_samples, sizes[0])).astype(dtype)
    if sparse:
        X = sp.csr_matrix(X * (rng.random(X.shape) < 0.5))
    (target,) = (row["target"] for row in rows("loss") if row["name"] == loss[0])
    y = targets(target, n_samples, sizes[-1], dtype, seed)
    arguments = (sizes[0], layers, loss)
    return Network(plan, np.concatenate(parts).astype(dtype), X, y, arguments)
