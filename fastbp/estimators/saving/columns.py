"""What an estimator has learnt of the columns of X, as values: scikit-learn's transformers by what
they know, not by their attributes, which differ from version to version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastbp.estimators.columns import Columns, encoder_of
from fastbp.estimators.saving.values import Reader, Writer, expect, refuse, refuse_file

_SCALER = ("mean_", "var_", "scale_")
_KNOWN = {"standardize", "allow_nan", "categorical", "numeric", "holes", "scaler", "encoder"}


def described(writer: Writer, columns: Columns) -> dict[str, Any]:
    """The columns as values."""
    if vars(columns).keys() != _KNOWN:
        refuse("_columns", f"the attributes {sorted(vars(columns).keys() ^ _KNOWN)}")
    scaler, encoder = columns.scaler, columns.encoder
    known = [getattr(scaler, name, None) for name in (*_SCALER, "n_samples_seen_")]
    return {
        "asks": [columns.standardize, columns.allow_nan],
        "categorical": columns.categorical,
        "numeric": columns.numeric,
        "holes": writer.encode(columns.holes, "_columns.holes"),
        "scaler": writer.encode(known, "_columns.scaler"),
        "encoder": None if encoder is None else _encoder(writer, encoder),
    }


def _encoder(writer: Writer, encoder: OneHotEncoder) -> dict[str, Any]:
    rare = [None if one is None else one.tolist() for one in encoder._infrequent_indices]
    return {
        "categories": writer.encode([*encoder.categories_], "_columns.encoder"),
        "rare": rare,
        "names": writer.encode(getattr(encoder, "feature_names_in_", None), "_columns.encoder"),
    }


def restored(reader: Reader, given: Mapping[str, Any], where: str) -> tuple[Columns, int]:
    """The columns, and how many numbers they become."""
    at = f"{where}: columns"
    asks, categorical, numeric = (
        expect(list, given.get(name), at) for name in ("asks", "categorical", "numeric")
    )
    if len(asks) != 2 or any(type(one) is not bool for one in asks):
        refuse_file(at, f"{asks!r:.60} for what was asked")
    together = [*categorical, *numeric]
    if any(type(j) is not int for j in together) or sorted(together) != [*range(len(together))]:
        refuse_file(at, "columns that are not each there once")
    made = Columns.__new__(Columns)
    made.standardize, made.allow_nan = asks
    made.categorical, made.numeric = categorical, numeric
    made.holes = reader.decode(given.get("holes"), at)
    if not (
        isinstance(made.holes, np.ndarray)
        and (made.holes.ndim, made.holes.dtype.kind) == (1, "i")
        and set(made.holes.tolist()) <= {*range(len(numeric))}
        and len(made.holes) <= len(numeric)
    ):
        refuse_file(at, "holes in columns that are not there")
    made.scaler = _restored_scaler(reader.decode(given.get("scaler"), at), len(numeric), at)
    made.encoder, n_numbers = None, len(numeric) + len(made.holes)
    if categorical:
        about = expect(dict, given.get("encoder"), at)
        made.encoder, n_more = _restored_encoder(reader, about, len(categorical), at)
        n_numbers += n_more
    return made, n_numbers


def _restored_scaler(known: Any, n: int, at: str) -> StandardScaler:
    made = StandardScaler()
    if n == 0:
        return made
    if type(known) is not list or len(known) != 4:
        refuse_file(at, f"{known!r:.60} for a scaler")
    *arrays, seen = known
    for name, one in zip(_SCALER, arrays, strict=True):
        if not (isinstance(one, np.ndarray) and (one.shape, one.dtype) == ((n,), np.float64)):
            refuse_file(at, f"{one!r:.60} for {name} of a scaler")
        setattr(made, name, one)
    made.n_features_in_, made.n_samples_seen_ = n, seen
    return made


def _restored_encoder(
    reader: Reader, about: Mapping[str, Any], n: int, at: str
) -> tuple[OneHotEncoder, int]:
    """An encoder that is fitted to columns in which what is rare occurs once, all else twice."""
    categories = reader.decode(about.get("categories"), at)
    rare = expect(list, about.get("rare"), at)
    fits = type(categories) is list and len(categories) == len(rare) == n
    if not fits or not all(isinstance(one, np.ndarray) and one.ndim == 1 for one in categories):
        refuse_file(at, f"{categories!r:.60} for categories")
    columns = []
    for each, once in zip(categories, rare, strict=True):
        seldom = set() if once is None else set(expect(list, once, at))
        twice = [one for i, one in enumerate(each.tolist()) if i not in seldom]
        if not twice:
            refuse_file(at, "a column of rare categories alone")
        columns.append((each.tolist() + twice, twice[0]))
    length = max(len(column) for column, _ in columns)
    samples = np.empty((length, n), object)
    for j, (column, filling) in enumerate(columns):
        samples[:, j] = column + [filling] * (length - len(column))
    made = encoder_of(samples)
    for found, each in zip(made.categories_, categories, strict=True):
        if repr(found.tolist()) != repr(each.tolist()):
            refuse_file(at, f"categories that are not sorted, {each!r:.60},")
    # Of the dtypes that they had.
    made.categories_ = categories
    for found, once in zip(made._infrequent_indices, rare, strict=True):
        if (None if found is None else found.tolist()) != once:
            refuse_file(at, f"{once!r:.60} for rare categories")
    width = made.transform(samples[:1]).shape[1]  # before it has names that these have not
    names = reader.decode(about.get("names"), at)
    if names is not None:
        if not (isinstance(names, np.ndarray) and names.shape == (n,)):
            refuse_file(at, f"{names!r:.60} for names")
        made.feature_names_in_ = names
    return made, width
