"""From what a user passes to what the engine takes: features and sample weights, checked once.

Dense arrays of the wanted dtype are passed on as they are, whatever their strides; CSC becomes CSR
and nothing sparse becomes dense. What is not finite is refused. Targets are the business of
`labels` and of each estimator.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from fastbp.nn.network import Array

FLOATS = (np.float64, np.float32)
"""The engine's dtypes; anything else becomes the first."""


def training_data(
    estimator: Any, X: Any, y: Any, *, dtype: Any, reset: bool, y_numeric: bool
) -> tuple[Any, Array]:
    """X as the engine takes it and y as a dense array; sets or checks the names of the features.

    `dtype` is that of the weights, or None where the input decides: float32 stays, anything else
    becomes float64.
    """
    X = _of_numbers(X, "X")
    y = _of_numbers(y, "y") if y_numeric else _without_dates(y, "y")
    numeric = {"X": X, "y": y} if y_numeric else {"X": X}
    if y_numeric and np.dtype(object) in _dtypes(y):  # validate_data lets None and infinities pass
        with _named(y=y):
            y = np.asarray(y, dtype=np.float64)
    with np.errstate(over="ignore"), _named(**numeric):  # what overflows is refused as infinite
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
    X = _of_numbers(X, "X")
    with np.errstate(over="ignore"), _named(X=X):
        X = validate_data(estimator, X, accept_sparse="csr", dtype=dtype, reset=False)
    return _canonical(X)


def sample_weights(sample_weight: Any, n_samples: int, dtype: np.dtype[Any]) -> Array | None:
    """Weights (n_samples,) of `dtype`, or None; a number stands for equal weights.

    Raises an error for what is no number, for a wrong shape, for what is not finite or negative,
    and for a sum of zero or infinity.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Number) or (
        isinstance(sample_weight, np.ndarray) and sample_weight.ndim == 0
    ):
        with _named(sample_weight=sample_weight):
            # Not every Number has a float: for those that have none, the error is named.
            sample_weight = np.full(n_samples, float(sample_weight))  # type: ignore[arg-type]
    sample_weight = _of_numbers(sample_weight, "sample_weight")
    with np.errstate(over="ignore"), _named(sample_weight=sample_weight):
        weights: Array = check_array(
            sample_weight,
            dtype=dtype,
            order="C",
            ensure_2d=False,
            allow_nd=True,
            input_name="sample_weight",
        )
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight has shape {weights.shape}; one weight a sample, ({n_samples},), was"
            " wanted."
        )
    if weights.min() < 0:
        first = int(np.argmax(weights < 0))
        raise ValueError(
            f"sample_weight must not be negative; sample_weight[{first}] is {weights[first]:g}."
        )
    check_total(weights, "sample_weight")
    return weights


def check_total(weights: Array, what: str) -> None:
    """Raise a ValueError where weights sum to zero or infinity: the loss divides by their sum."""
    if not weights.any():
        raise ValueError(
            f"{what} must not be zero throughout in {weights.dtype}: at least one weight above"
            " zero."
        )
    with np.errstate(over="ignore"):
        total = weights.sum(dtype=np.float64)  # as the engine adds
    if not np.isfinite(total):
        raise ValueError(f"{what} must have a finite sum; it is {total}. Scale the weights down.")


def target_array(y: Array, dtype: np.dtype[Any]) -> Array:
    """Numeric targets (n,) or (n, n_outputs) as a contiguous (n, n_outputs) of `dtype`."""
    with np.errstate(over="ignore"):
        target = np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)
    if target.dtype != y.dtype and not np.isfinite(target).all():
        raise ValueError(f"y has a value too large for {target.dtype}; scale it, or use float64.")
    return target


def _of_numbers(data: Any, name: str) -> Any:
    """`data`, lists made an array, unless it holds what would be made numbers by a guess."""
    if isinstance(data, (list, tuple)):
        with _named(**{name: data}):
            data = np.asarray(data)
    for dtype in _dtypes(data):
        if getattr(dtype, "kind", "") == "c":
            raise ValueError(
                f"Complex data not supported: {name} has dtype {dtype}; real numbers were wanted."
            )
        if issubclass(getattr(dtype, "type", object), (str, bytes)):
            raise ValueError(f"{name} holds values of dtype {dtype}; numbers were wanted.")
    return _without_dates(data, name)


def _without_dates(data: Any, name: str) -> Any:
    """`data`, or a TypeError for dates and durations: a conversion would give counts of some unit,
    and a huge negative number for what is missing."""
    for dtype in _dtypes(data):
        is_temporal = getattr(dtype, "is_temporal", None)
        if getattr(dtype, "kind", "") in ("M", "m") or (is_temporal is not None and is_temporal()):
            raise TypeError(
                f"{name} holds dates or durations ({dtype}); numbers were wanted. Convert them to a"
                " number of a unit that you choose."
            )
    return data


def _dtypes(data: Any) -> list[Any]:
    """The dtypes of an array or of a frame's columns; polars' know what they are."""
    dtypes = getattr(data, "dtypes", None)
    if dtypes is None or not np.iterable(dtypes):
        dtypes = [getattr(data, "dtype", None)]
    return list(dtypes)


@contextmanager
def _named(**arguments: Any) -> Iterator[None]:
    """Have an error of what is run within say which of the arguments cannot be read as numbers."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        for name, data in arguments.items():
            if not scipy.sparse.issparse(data):
                try:
                    np.asarray(data, dtype=np.float64)
                except (TypeError, ValueError, OverflowError) as reason:
                    kind = ValueError if isinstance(reason, OverflowError) else type(reason)
                    raise kind(f"{name} cannot be read as real numbers: {reason}") from error
        raise


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
