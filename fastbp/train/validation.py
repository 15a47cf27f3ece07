"""Samples held out of training: how they are set aside, and what raw outputs for them are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from fastbp import _core
from fastbp.nn.compiled import Plan
from fastbp.nn.parameter import Array
from fastbp.train.reading import check_total
from fastbp.train.state import Problem, split_seed, taken


class LossTerm(NamedTuple):
    """One loss of a plan: its row, that row's attributes, the output that it is of, its weight."""

    row: str
    attributes: Mapping[str, float]
    output: int = 0
    factor: float = 1.0

    @property
    def identity(self) -> tuple[Any, ...]:
        """A value that tells terms apart."""
        return self.row, tuple(sorted(self.attributes.items())), self.output, self.factor


def terms_of(plan: Plan) -> tuple[LossTerm, ...]:
    """The losses of a plan."""
    return tuple(
        LossTerm(loss.name, loss.attributes(), plan.outputs.index(name), weight)
        for name, (loss, weight) in plan.losses.items()
    )


def hold_out(
    problem: Problem, share: float, seed: int, *, stratify: Array | None = None
) -> tuple[Array, Array]:
    """The indices of the samples to train on and of those set aside, by the seed alone."""
    n_samples = problem.n_samples
    n_held = math.ceil(share * n_samples)
    if not 2 <= n_held < n_samples:
        raise ValueError(
            f"validation_fraction={share} sets {n_held} of {n_samples} samples aside; at least 2"
            " are wanted, and at least 1 to train on."
        )
    try:
        training, held = train_test_split(
            np.arange(n_samples),
            random_state=split_seed(seed),
            test_size=n_held,
            stratify=stratify,
        )
    except ValueError as error:  # classes with too few samples for both parts
        raise ValueError(
            f"validation_fraction={share} cannot set {n_held} of {n_samples} samples aside: {error}"
        ) from error
    return training, held


def divided(problem: Problem, training: Array, held: Array) -> tuple[Problem, Problem]:
    """The samples of either index."""
    parts = []
    for what, index in (("kept for training", training), ("held out", held)):
        weight = None if problem.sample_weight is None else problem.sample_weight[index]
        if weight is not None:
            check_total(weight, f"sample_weight of the samples {what}")
        X, y = taken(problem.X, index), taken(problem.y, index)
        parts.append(problem._replace(X=X, y=y, sample_weight=weight))
    return parts[0], parts[1]


def mean_loss(terms: Sequence[LossTerm], raw: Any, y: Any, sample_weight: Array | None) -> float:
    """The loss of raw outputs, as training has it, without the penalty.

    The sum over terms of factor * mean over samples, by their weights, of the mean over positions.
    """
    outputs = raw if isinstance(raw, tuple) else (raw,)
    targets = y if isinstance(y, tuple) else (y,)
    total = 0.0
    for term, target in zip(terms, targets, strict=True):
        z = outputs[term.output]
        rows = z.reshape(-1, z.shape[-1] if z.ndim > 1 else 1)
        exclusive = target.ndim < max(2, z.ndim)  # classes: one number for each row
        wanted = target.reshape(-1) if exclusive else target.reshape(rows.shape)
        values, _ = _core.loss(term.row, rows, wanted, term.attributes)
        of_samples = values.reshape(len(z), -1).mean(axis=1, dtype=np.float64)
        total += term.factor * float(np.average(of_samples, weights=sample_weight))
    return total
