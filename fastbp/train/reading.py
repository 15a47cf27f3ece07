"""What users pass, read as numbers or refused with a sentence: arrays, and weights of samples.

Nothing is made a number by a guess: no strings, dates or complex numbers. Shapes of features and
targets are the business of whoever knows what they are for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils import check_array

from fastbp.nn.parameter import Array


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
        with named(sample_weight=sample_weight):
            # Not every Number has a float, as mypy says: for those without, the error is named.
            sample_weight = np.full(n_samples, float(sample_weight))  # type: ignore[arg-type]
    sample_weight = of_numbers(sample_weight, "sample_weight")
    with np.errstate(over="ignore"), named(sample_weight=sample_weight):
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


def of_numbers(data: Any, name: str) -> Any:
    """`data`, lists made an array, unless it holds what would be made numbers by a guess."""
    if isinstance(data, (list, tuple)):
        with named(**{name: data}):
            data = np.asarray(data)
    for dtype in dtypes_of(data):
        if getattr(dtype, "kind", "") == "c":
            raise ValueError(
                f"Complex data not supported: {name} has dtype {dtype}; real numbers were wanted."
            )
        if issubclass(getattr(dtype, "type", object), (str, bytes)):
            raise ValueError(f"{name} holds values of dtype {dtype}; numbers were wanted.")
    return without_dates(data, name)


def without_dates(data: Any, name: str) -> Any:
    """`data`, or a TypeError for dates and durations: a conversion would give counts of some unit,
    and a huge negative number for what is missing."""
    for dtype in dtypes_of(data):
        is_temporal = getattr(dtype, "is_temporal", None)
        if getattr(dtype, "kind", "") in ("M", "m") or (is_temporal is not None and is_temporal()):
            raise TypeError(
                f"{name} holds dates or durations ({dtype}); numbers were wanted. Convert them to a"
                " number of a unit that you choose."
            )
    return data


def dtypes_of(data: Any) -> list[Any]:
    """The dtypes of an array or of a frame's columns; polars' know what they are."""
    dtypes = getattr(data, "dtypes", None)
    if dtypes is None or not np.iterable(dtypes):
        dtypes = [getattr(data, "dtype", None)]
    return list(dtypes)


@contextmanager
def named(**arguments: Any) -> Iterator[None]:
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
