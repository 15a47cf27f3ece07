"""Samples that an estimator holds out of its training: which they are, and how they are scored.

They come from the caller (`X_val` of `fit`), from a splitter (`validation_cv`), or are a share of
the samples (`validation_fraction`, where `early_stopping` asks for some). What a loss comes to is
the business of `train.validation`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.metrics import check_scoring
from sklearn.utils import _safe_indexing

from fastbp import _core
from fastbp.estimators.built import Start
from fastbp.nn.parameter import Array
from fastbp.train.reading import sample_weights
from fastbp.train.state import Problem, TrainingState, Validation
from fastbp.train.validation import LossTerm, divided, hold_out, mean_loss

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseTrained
    from fastbp.estimators.preparation import Target

_DEFAULT_FRACTION = 0.1


class Given(NamedTuple):
    """What `fit` is given beside the samples to train on; None where there is nothing."""

    X: Any = None
    y: Any = None
    sample_weight: Any = None
    groups: Any = None


NOTHING = Given()


class Passed(NamedTuple):
    """Samples as the caller has passed them, for splitters and scorers."""

    X: Any
    y: Any


class _Held(NamedTuple):
    """Samples held out: as the engine takes them, and as the caller has passed them."""

    problem: Problem
    passed: Passed


def check_given(estimator: BaseTrained, given: Given) -> None:
    """Refuse what contradicts itself, before anything is done."""
    for name, value, needs, there in (
        ("y_val", given.y, "X_val", given.X),
        ("X_val", given.X, "y_val", given.y),
        ("sample_weight_val", given.sample_weight, "X_val", given.X),
        ("groups", given.groups, "validation_cv", estimator.validation_cv),
    ):
        if value is not None and there is None:
            raise ValueError(f"{name} was given without {needs}, which it goes with.")
    sources = {
        "X_val": given.X is not None,
        "validation_cv": estimator.validation_cv is not None,
        f"validation_fraction={estimator.validation_fraction}": (
            estimator.validation_fraction != _DEFAULT_FRACTION
        ),
    }
    named = [name for name, is_there in sources.items() if is_there]
    if len(named) > 1:
        raise ValueError(
            f"{' and '.join(named)} each say which samples are held out; one of them was wanted."
        )
    wants = getattr(estimator, "calibration", None)
    if wants is not None and not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"calibration={wants!r} is of probabilities, found loss={estimator.loss!r}, which gives"
            " scores; wanted None."
        )
    if wants is not None and not ((named and not estimator._by_lbfgs) or estimator.early_stopping):
        raise ValueError(
            f"calibration={wants!r} goes by samples held out, found none; wanted X_val,"
            " validation_cv or early_stopping, with an update rule."
        )
    if named and estimator._by_lbfgs and not named[0].startswith("validation_fraction"):
        raise ValueError(
            f"{named[0]} holds samples out of training by epochs, which L-BFGS has none of; an"
            " update rule was wanted."
        )


def held_out(
    estimator: BaseTrained,
    start: Start,
    problem: Problem,
    target: Target,
    state: TrainingState,
    passed: Passed,
    given: Given,
) -> tuple[Problem, Validation | None]:
    """The samples to train on, and those held out, if any are."""
    if given.X is not None:
        training, held = problem, _of_the_caller(estimator, start, problem, target, given)
    elif estimator.validation_cv is not None:
        index = _first_split(estimator.validation_cv, problem.n_samples, passed, given.groups)
        training, held = _divided(problem, passed, *index)
    elif estimator.early_stopping:
        stratify = target.values if target.stratify else None
        index = hold_out(problem, estimator.validation_fraction, state.seed, stratify=stratify)
        training, held = _divided(problem, passed, *index)
    else:
        return problem, None
    loss = LossTerm(*start.network.loss)
    score = _score(estimator, start, target, held)

    def evaluate(raw: Array, params: Array) -> tuple[float, float]:
        mean = mean_loss((loss,), raw, held.problem.y, held.problem.sample_weight)
        return mean, -mean if score is None else score(raw, params)

    stops = bool(estimator.early_stopping)
    X, y, weight = held.problem.X, held.problem.y, held.problem.sample_weight
    return training, Validation(X, evaluate, True, stops, y, weight)


# ---- which samples


def _of_the_caller(
    estimator: BaseTrained, start: Start, problem: Problem, target: Target, given: Given
) -> _Held:
    """`X_val` and what goes with it, checked as the samples of training are."""
    dtype = problem.params.dtype
    with _told_as("X_val, y_val, sample_weight_val"):
        X, y, _ = estimator._data(given.X, given.y, fresh=False, dtype=dtype)
        values = target.encode(y)
        weight = sample_weights(given.sample_weight, len(values), dtype)
    if scipy.sparse.issparse(problem.X) != scipy.sparse.issparse(X):
        X = X.toarray() if scipy.sparse.issparse(X) else scipy.sparse.csr_array(X)
    held = problem._replace(X=start.network.samples(X), y=values, sample_weight=weight)
    return _Held(held, Passed(given.X, given.y))


@contextmanager
def _told_as(names: str) -> Iterator[None]:
    """Have an error of what is run within begin with the names that the caller knows."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if error.args:
            error.args = (f"{names}: {error.args[0]}", *error.args[1:])
        raise


def _first_split(given: Any, n_samples: int, passed: Passed, groups: Any) -> tuple[Array, Array]:
    """The indices of training and of those held out, by a splitter or as they are given."""
    if hasattr(given, "split"):
        X = passed.X if hasattr(passed.X, "shape") else np.zeros((n_samples, 1))
        parts = next(iter(given.split(X, passed.y, groups)))
        what = f"the first split of validation_cv={given!r}"
    else:
        parts, what = given, "validation_cv"
    found = []
    for name, part in zip(("to train on", "to hold out"), parts, strict=True):
        index = np.asarray(part)
        if index.dtype == bool and index.shape == (n_samples,):
            index = np.flatnonzero(index)
        if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
            raise ValueError(
                f"{what}: found the samples {name} as {index.dtype} of shape {index.shape}, wanted"
                " their indices, at least one."
            )
        if index.min() < 0 or index.max() >= n_samples:
            raise ValueError(
                f"{what}: found the indices {index.min()} to {index.max()} {name}, wanted 0 to"
                f" {n_samples - 1}."
            )
        found.append(index)
    both = np.intersect1d(found[0], found[1])
    if both.size > 0:
        raise ValueError(
            f"{what}: found {both.size} samples in both parts, {both[0]} the first; wanted none:"
            " what was trained on says nothing about what was not."
        )
    return found[0], found[1]


def _divided(
    problem: Problem, passed: Passed, training: Array, held: Array
) -> tuple[Problem, _Held]:
    kept, aside = divided(problem, training, held)
    return kept, _Held(aside, Passed(_rows(passed.X, held), _rows(passed.y, held)))


def _rows(array: Any, index: Array) -> Any:
    if isinstance(array, Mapping) and not scipy.sparse.issparse(array):
        return {name: _rows(one, index) for name, one in array.items()}
    return _safe_indexing(array, index)


# ---- how they are scored

Score = Callable[[Array, Array], float]


def _score(estimator: BaseTrained, start: Start, target: Target, held: _Held) -> Score | None:
    """What makes the score of raw outputs and weights; None: it is minus the loss."""
    weight = held.problem.sample_weight
    if estimator.scoring is None:
        return lambda raw, params: target.score(
            _core.link(target.loss, raw), held.problem.y, weight
        )
    if isinstance(estimator.scoring, str) and estimator.scoring == "loss":
        return None
    judged = copy.copy(estimator)
    judged.__dict__.update(
        target.fitted,
        _network=start.network,
        _plans=dict(start.plans),
        module_=start.network.module,
    )
    scorer = check_scoring(judged, scoring=estimator.scoring)
    weights = {} if weight is None else {"sample_weight": weight}

    def score(raw: Array, params: Array) -> float:
        judged.__dict__["_flat"] = lambda: params
        found = scorer(judged, *held.passed, **weights)
        if not isinstance(found, Real) or not math.isfinite(found):
            raise ValueError(
                f"scoring={estimator.scoring!r}: found the score {found!r}, wanted a finite number."
            )
        return float(found)

    return score
