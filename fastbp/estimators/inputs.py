"""From what a user passes to what the engine takes: features, checked once.

Dense arrays of the wanted dtype are passed on as they are, whatever their strides; CSC becomes CSR
and nothing sparse becomes dense. What is not finite is refused. Targets are the business of
`labels` and of each estimator.
"""

from typing import Any

import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.utils.validation import validate_data

from fastbp.nn.network import Array
from fastbp.train.reading import dtypes_of, named, of_numbers, without_dates

FLOATS = (np.float64, np.float32)
"""The engine's dtypes; anything else becomes the first."""


def training_data(
    estimator: Any, X: Any, y: Any, *, dtype: Any, reset: bool, y_numeric: bool
) -> tuple[Any, Array]:
    """X as the engine takes it and y as a dense array; sets or checks the names of the features.

    `dtype` is that of the weights, or None where the input decides: float32 stays, anything else
    becomes float64.
    """
    X = of_numbers(X, "X")
    y = of_numbers(y, "y") if y_numeric else without_dates(y, "y")
    numeric = {"X": X, "y": y} if y_numeric else {"X": X}
    if y_numeric and np.dtype(object) in dtypes_of(
        y
    ):  # validate_data lets None and infinities pass
        with named(y=y):
            y = np.asarray(y, dtype=np.float64)
    with np.errstate(over="ignore"), named(**numeric):  # what overflows is refused as infinite
        X, y = validate_data(
            estimator,
            X,
            y,
            accept_sparse="csr",
            dtype=FLOATS if dtype is None else dtype,
            multi_output=True,
            y_numeric=y_numeric,
            reset=reset,
        )
    if y_numeric and y.dtype.kind not in "fiub":
        raise ValueError(f"y holds values of dtype {y.dtype}; numbers were wanted.")
    return _canonical(X), y


def features(estimator: Any, X: Any, dtype: np.dtype[Any]) -> Any:
    """X for a fitted estimator whose weights have `dtype`."""
    if (
        type(X) is np.ndarray
        and X.dtype == dtype
        and X.ndim == 2
        and X.flags.aligned
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
        and (get_config()["assume_finite"] or _surely_finite(X))
    ):
        # What validate_data would pass on unchanged; it takes 100 us, a small network's predict 2.
        return X
    X = of_numbers(X, "X")
    with np.errstate(over="ignore"), named(X=X):
        X = validate_data(estimator, X, accept_sparse="csr", dtype=dtype, reset=False)
    return _canonical(X)


def target_array(y: Array, dtype: np.dtype[Any]) -> Array:
    """Numeric targets (n,) or (n, n_outputs) as a contiguous (n, n_outputs) of `dtype`."""
    with np.errstate(over="ignore"):
        target = np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)
    if target.dtype != y.dtype and not np.isfinite(target).all():
        raise ValueError(f"y has a value too large for {target.dtype}; scale it, or use float64.")
    return target


def _canonical(X: Any) -> Any:
    """What the engine can walk over: aligned arrays, and CSR with rising columns in each row."""
    if not scipy.sparse.issparse(X):
        return X if X.flags.aligned else X.copy()
    X.check_format(full_check=True)  # or SciPy would follow a wrong index out of its arrays
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _surely_finite(X: Array) -> bool:
    """Whether the sum of X is finite, which no infinite or NaN entry would leave it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(X, axis=None)))
