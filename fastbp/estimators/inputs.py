"""From what a user passes to what the engine takes: features, checked once.

Dense arrays of the wanted dtype are passed on as they are, whatever their strides; CSC becomes CSR
and nothing sparse becomes dense. What is not finite is refused. Targets are the business of
`labels` and of each estimator.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from fastbp.nn.forms import by_name
from fastbp.nn.parameter import Array
from fastbp.train.reading import dtypes_of, named, of_numbers, without_dates

FLOATS = (np.float64, np.float32)
"""The engine's dtypes; anything else becomes the first."""


def training_data(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    dtype: Any,
    reset: bool,
    y_numeric: bool,
    any_kind: bool = False,
) -> tuple[Any, Array]:
    """X as the engine takes it and y as a dense array; sets or checks the names of the features.

    `dtype` is that of the weights, or None where the input decides: float32 stays, anything else
    becomes float64. With `any_kind` samples may have several axes, and integers stay integers.
    """
    X = of_numbers(X, "X")
    y = of_numbers(y, "y") if y_numeric else without_dates(y, "y")
    numeric = {"X": X, "y": y} if y_numeric else {"X": X}
    if y_numeric and np.dtype(object) in dtypes_of(
        y
    ):  # validate_data lets None and infinities pass
        with named(y=y):
            y = np.asarray(y, dtype=np.float64)
    kept = any_kind and _holds_integers(X)
    with np.errstate(over="ignore"), named(**numeric):  # what overflows is refused as infinite
        X, y = validate_data(
            estimator,
            X,
            y,
            accept_sparse="csr",
            dtype=None if kept else FLOATS if dtype is None else dtype,
            allow_nd=any_kind,
            multi_output=True,
            y_numeric=y_numeric,
            reset=reset,
        )
    if y_numeric:
        _expect_numbers(y)
    return _canonical(X), y


def training_arrays(
    estimator: Any, X: Any, y: Any, *, dtype: Any, reset: bool, y_numeric: bool
) -> tuple[Any, Array]:
    """X as any network takes it, an array or a dict of arrays, and y; see `training_data`."""
    X = by_name(X)
    if not _is_dict(X):
        return training_data(
            estimator, X, y, dtype=dtype, reset=reset, y_numeric=y_numeric, any_kind=True
        )
    if reset:  # these are of a single X
        for name in ("n_features_in_", "feature_names_in_"):
            estimator.__dict__.pop(name, None)
    arrays = _each(X, FLOATS if dtype is None else dtype)
    y = of_numbers(y, "y") if y_numeric else without_dates(y, "y")
    y = validate_data(estimator, y=y, multi_output=True, y_numeric=y_numeric)
    if y_numeric:
        _expect_numbers(y)
    check_consistent_length(*arrays.values(), y)
    return arrays, y


def arrays(estimator: Any, X: Any, dtype: np.dtype[Any]) -> Any:
    """X for a fitted estimator of any network whose weights have `dtype`."""
    X = by_name(X)
    if _is_dict(X):
        return _each(X, dtype)
    if _is_ready(estimator, X, dtype):
        return X
    X = of_numbers(X, "X")
    kept = _holds_integers(X)
    with np.errstate(over="ignore"), named(X=X):
        X = validate_data(
            estimator,
            X,
            accept_sparse="csr",
            dtype=None if kept else dtype,
            allow_nd=True,
            reset=False,
        )
    return _canonical(X)


def features(estimator: Any, X: Any, dtype: np.dtype[Any]) -> Any:
    """X for a fitted estimator whose weights have `dtype`."""
    if _is_ready(estimator, X, dtype) and X.ndim == 2:
        return X
    X = of_numbers(X, "X")
    with np.errstate(over="ignore"), named(X=X):
        X = validate_data(estimator, X, accept_sparse="csr", dtype=dtype, reset=False)
    return _canonical(X)


def _is_ready(estimator: Any, X: Any, dtype: np.dtype[Any]) -> bool:
    """Whether validate_data would pass X on unchanged: it takes 100 us, a small predict 2."""
    return (
        type(X) is np.ndarray
        and X.dtype == dtype
        and X.ndim >= 2
        and X.flags.aligned
        and X.shape[0] > 0
        and X.shape[1] == getattr(estimator, "n_features_in_", None)
        and not hasattr(estimator, "feature_names_in_")
        and (get_config()["assume_finite"] or _surely_finite(X))
    )


def _each(X: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """The arrays of several inputs, each checked by itself; integers stay integers."""
    checked = {}
    for name, one in X.items():
        what = f"X[{name!r}]"
        one = of_numbers(one, what)
        kept = _holds_integers(one)
        with np.errstate(over="ignore"), named(**{what: one}):
            checked[name] = check_array(
                one,
                dtype=None if kept else dtype,
                ensure_2d=False,
                allow_nd=True,
                input_name=what,
            )
    return checked


def _is_dict(X: Any) -> bool:
    return isinstance(X, Mapping) and not scipy.sparse.issparse(X)  # SciPy's DOK matrices are dicts


def _holds_integers(X: Any) -> bool:
    return all(getattr(dtype, "kind", "") in ("i", "u") for dtype in dtypes_of(X))


def _expect_numbers(y: Array) -> None:
    if y.dtype.kind not in "fiub":
        raise ValueError(f"y holds values of dtype {y.dtype}; numbers were wanted.")


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
