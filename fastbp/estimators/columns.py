"""Data as it comes: columns of categories, missing values and wild scales made numbers, in the
estimator, by scikit-learn's transformers.

Only for samples of one axis, and only where a parameter asks for it; what is learnt of the columns
belongs to the fitted model. No array of numbers that are all there is touched otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import _get_feature_names, validate_data

from fastbp.nn.parameter import Array
from fastbp.train.reading import dtypes_of, sample_weights, without_dates

if TYPE_CHECKING:
    from fastbp.estimators.base import BaseTrained

MOST_CATEGORIES = 255
"""Of a column; the rarer ones are one. As in scikit-learn's HistGradientBoosting."""


class Nobody(BaseEstimator):
    """Stands for an estimator that has noted its features, which are other numbers by now."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def are_wanted(estimator: BaseTrained) -> bool:
    """Whether a parameter asks for anything to be made of the columns."""
    asked = estimator.categorical_features is not None
    return asked or bool(estimator.allow_nan) or bool(estimator.standardize)


class Columns:
    """What is known of the columns of X, and makes numbers of them.

    Means and spreads are weighed, as the loss is; samples of weight 0 are as if not there.
    """

    def __init__(self, estimator: BaseTrained, X: Any, weight: Array | None) -> None:
        self.standardize, self.allow_nan = bool(estimator.standardize), bool(estimator.allow_nan)
        self.categorical = _categorical(estimator, X)
        self.numeric = [j for j in range(X.shape[1]) if j not in set(self.categorical)]
        there = np.arange(X.shape[0]) if weight is None else np.flatnonzero(weight)
        raw = self._numbers_of(X)[there]
        self._refuse_what_is_not_finite(raw, X)
        self.holes = np.flatnonzero(np.isnan(raw).any(axis=0))
        self.scaler, self.encoder = StandardScaler(), None
        with np.errstate(over="ignore", invalid="ignore"):
            if self.numeric:
                self.scaler.fit(raw, sample_weight=None if weight is None else weight[there])
        if self.categorical:
            self.encoder = encoder_of(_safe_indexing(_picked(X, self.categorical), there))

    def numbers(self, X: Any) -> Array:
        """The columns of X as numbers (n_samples, n_numbers), all there."""
        raw = self._numbers_of(X)
        self._refuse_what_is_not_finite(raw, X)
        parts = [np.isnan(raw[:, self.holes]).astype(np.float64)]
        if self.numeric:
            with np.errstate(over="ignore", invalid="ignore"):
                found = self.scaler.transform(raw) if self.standardize else raw
            filling = np.zeros(len(self.numeric)) if self.standardize else self.scaler.mean_
            parts.insert(0, np.where(np.isnan(found), np.nan_to_num(filling), found))
        if self.encoder is not None:
            parts.append(self.encoder.transform(_picked(X, self.categorical)))
        return np.concatenate(parts, axis=1)

    def gradients(self, X: Any, by_numbers: Array) -> Array:
        """Gradients (n_samples, ..., n_columns) by the columns of X, of those by its `numbers`.

        Of u = (x - mean) / spread they are dz/dx = dz/du / spread; NaN where there are none.
        """
        n, m = X.shape[0], len(self.numeric)
        found = np.full((*by_numbers.shape[:-1], X.shape[1]), np.nan, by_numbers.dtype)
        slopes = by_numbers[..., :m]
        if self.standardize and m:
            slopes = slopes / self.scaler.scale_
        missing = np.isnan(self._numbers_of(X)).reshape(n, *(1,) * (slopes.ndim - 2), m)
        found[..., self.numeric] = np.where(missing, np.nan, slopes)
        return found

    def _numbers_of(self, X: Any) -> Array:
        """The columns of numbers as float64, what is missing as NaN."""
        if not self.numeric:
            return np.empty((X.shape[0], 0))
        picked = _picked(X, self.numeric)
        picked = picked.to_numpy() if hasattr(picked, "to_numpy") else picked
        try:
            return np.asarray(picked, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"X cannot be read as real numbers: {error}. Columns of words want"
                " categorical_features='from_dtype', or their names."
            ) from error

    def _refuse_what_is_not_finite(self, raw: Array, X: Any) -> None:
        bad = np.isinf(raw) if self.allow_nan else ~np.isfinite(raw)
        if not bad.any():
            return
        at = [self.numeric[int(j)] for j in np.flatnonzero(bad.any(axis=0))]
        names = _get_feature_names(X)
        told = at if names is None else names[at].tolist()
        what = "infinity" if np.isinf(raw).any() else "NaN"
        hint = "" if what == "infinity" else "; allow_nan=True fills missing values in"
        raise ValueError(f"Input X contains {what} in the columns {told}{hint}.")


def encoder_of(X: Any) -> OneHotEncoder:
    """One number for each category that is in a column."""
    made = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=MOST_CATEGORIES,
        sparse_output=False,
    )
    return made.fit(X)


def learnt(estimator: BaseTrained, X: Any, sample_weight: Any) -> tuple[Columns, Array]:
    """What is to be known of the columns of X, and the numbers that they become."""
    X = _noted(estimator, X, reset=True)
    weight = sample_weights(sample_weight, X.shape[0], np.dtype(np.float64))
    made = Columns(estimator, X, weight)
    return made, made.numbers(X)


def numbers(estimator: BaseTrained, made: Columns, X: Any) -> Array:
    """The numbers that the columns of X become, by what has been learnt."""
    return made.numbers(_noted(estimator, X, reset=False))


def gradients(estimator: BaseTrained, made: Columns, X: Any, by_numbers: Array) -> Array:
    """Gradients by the columns of X, of those by the numbers that they become."""
    return made.gradients(_noted(estimator, X, reset=False), by_numbers)


def _picked(X: Any, at: Sequence[int]) -> Any:
    return _safe_indexing(X, list(at), axis=1)


def _noted(estimator: BaseTrained, X: Any, *, reset: bool) -> Any:
    """X with columns, whose names and number the estimator notes, or compares with its own."""
    if scipy.sparse.issparse(X):
        raise ValueError(
            "X is sparse, whose columns are numbers as they are; found a parameter that asks for"
            " more: standardize, allow_nan or categorical_features."
        )
    X = without_dates(X, "X")
    if isinstance(X, (list, tuple)):
        X = _listed(X)
    if len(dtypes_of(X)) == 1 and not hasattr(X, "columns"):
        X = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    elif len(X) == 0 or X.shape[1] == 0:
        raise ValueError(f"X: found a frame of shape {X.shape}, wanted samples and features")
    return validate_data(estimator, X, reset=reset, skip_check_array=True)


def _listed(X: Any) -> Array:
    """Lists as an array of numbers or, since NumPy would make words of numbers beside words, of
    objects.
    """
    try:
        return np.array(X, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(X, dtype=object)


def _categorical(estimator: BaseTrained, X: Any) -> list[int]:
    """The numbers of the columns of categories."""
    given, n = estimator.categorical_features, X.shape[1]
    if given is None:
        return []
    if isinstance(given, str):  # "from_dtype"
        dtypes = dtypes_of(X)
        dtypes = dtypes if len(dtypes) == n else dtypes * n
        return [j for j, dtype in enumerate(dtypes) if _is_of_words(dtype)]
    listed = np.asarray(given)
    if listed.dtype == bool:
        if len(listed) != n:
            raise ValueError(f"categorical_features: found a mask of {len(listed)}, wanted {n}")
        return [int(j) for j in np.flatnonzero(listed)]
    if listed.dtype.kind in "iu":
        wrong = [int(j) for j in listed if not 0 <= j < n]
        if wrong:
            raise ValueError(f"categorical_features: found {wrong}, wanted 0 to {n - 1}")
        return sorted({int(j) for j in listed})
    names = _get_feature_names(X)
    known = [] if names is None else names.tolist()
    wrong_names = [name for name in listed.tolist() if name not in known]
    if wrong_names:
        raise ValueError(f"categorical_features: found {wrong_names}, wanted columns of {known}")
    return sorted({known.index(name) for name in listed.tolist()})


def _is_of_words(dtype: Any) -> bool:
    """Whether a column of it, pandas', polars' or NumPy's, holds categories or words."""
    if isinstance(dtype, np.dtype):
        return dtype.kind in "OUSb"
    return str(dtype).split("(")[0].lower() in (
        *("category", "categorical", "enum", "string", "str", "object", "bool", "boolean"),
    )
