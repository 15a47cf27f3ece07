"""The parameters of training: what each may be, checked before anything else.

Every error names whose parameter it is, its name, what was wanted and what was found. Whether
parameters fit the data is not decided here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import get_scorer_names

from fastbp.nn.initializers import INITIALIZERS
from fastbp.nn.rows import rows
from fastbp.ops.running import REALS
from fastbp.optim import ReduceOnPlateau, Schedule
from fastbp.train.notices import warn

STOCHASTIC_SOLVERS = ("sgd", "adam", "adamw")

# The engine counts units in 32 bits.
_MOST_UNITS = 2**31 - 1


class Option(NamedTuple):
    """A parameter's rule: a sentence that ends "must be ...", and its test."""

    wanted: str
    allows: Callable[[Any], bool]


def _is_bool(value: object) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_int(value: object, low: int) -> bool:
    return isinstance(value, Integral) and not _is_bool(value) and int(value) >= low


def _integer(low: int) -> Option:
    return Option(f"an int of at least {low}", lambda value: _is_int(value, low))


def _below(end: int) -> Option:
    return Option(f"an int in [0, {end - 1}]", lambda value: _is_int(value, 0) and int(value) < end)


def _real(
    low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> Option:
    left, right = "(" if open_low else "[", ")" if open_high or math.isinf(high) else "]"

    def allows(value: object) -> bool:
        if not isinstance(value, Real) or _is_bool(value) or not math.isfinite(value):
            return False
        number = float(value)
        above = number > low if open_low else number >= low
        below = number < high if open_high else number <= high
        return above and below

    return Option(f"a finite number in {left}{low:g}, {high:g}{right}", allows)


def _one_of(*values: object) -> Option:
    return Option(
        "one of " + ", ".join(repr(value) for value in values),
        lambda value: (value is None or isinstance(value, str)) and value in values,
    )


def _either(number: Option, *values: object) -> Option:
    words = _one_of(*values)
    return Option(
        f"{number.wanted}, or {words.wanted.removeprefix('one of ')}",
        lambda value: number.allows(value) or words.allows(value),
    )


def _is_layers(value: object) -> bool:
    # Nothing that has no order, or that looking at would use up.
    if isinstance(value, np.ndarray):
        listed = value.ndim == 1
    else:
        listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    # mypy does not follow `listed`.
    units: list[Any] = list(value) if listed else [value]  # type: ignore[call-overload]
    return all(_is_int(n, 1) and n <= _MOST_UNITS for n in units)


def _each(one: Option, wanted: str) -> Option:
    """What the rule allows, or a list or tuple of such."""

    def allows(value: object) -> bool:
        return all(map(one.allows, value if isinstance(value, (list, tuple)) else [value]))

    return Option(
        f"{one.wanted}, or a list or tuple of {wanted}, one for each hidden layer", allows
    )


def _is_dtype(value: object) -> bool:
    try:  # what is no dtype raises, which is the question that mypy would not have asked
        return value is None or np.dtype(value) in REALS  # type: ignore[call-overload]
    except TypeError:
        return False


_FLAG = Option("a bool", _is_bool)

OPTIONS = {
    "hidden_layer_sizes": Option(
        f"an int in [1, {_MOST_UNITS}], or a list, tuple or 1-D array of such", _is_layers
    ),
    "activation": _each(_one_of(*rows("activation")), "these names"),
    "dropout": _each(_real(0, 1, open_high=True), "such"),
    "batch_norm": _FLAG,
    "layer_norm": _FLAG,
    "residual": _FLAG,
    "solver": _one_of(*STOCHASTIC_SOLVERS, "lbfgs"),
    "alpha": _real(0),
    "batch_size": _either(_integer(1), "auto"),
    "accumulate": _integer(1),
    "clip_norm": _either(_real(0, open_low=True), None),
    "clip_value": _either(_real(0, open_low=True), None),
    "memory_limit": _either(_integer(1), None),
    "schedule": Option(
        "a Schedule or a ReduceOnPlateau of fastbp.optim, or None",
        lambda value: value is None or isinstance(value, (Schedule, ReduceOnPlateau)),
    ),
    "weight_decay": _either(_real(0), None),
    "label_smoothing": _real(0, 1, open_high=True),
    "learning_rate": _one_of("constant", "invscaling", "adaptive"),
    "learning_rate_init": _real(0, open_low=True),
    "power_t": _real(0),
    "max_iter": _integer(1),
    "max_epochs": _integer(1),
    "max_seconds": _either(_real(0, open_low=True), None),
    "shuffle": _FLAG,
    "random_state": Option(
        "an int in [0, 4294967295], a numpy.random.RandomState, or None",
        lambda value: (
            value is None or isinstance(value, np.random.RandomState) or _below(2**32).allows(value)
        ),
    ),
    "seed": _either(_below(2**64), None),
    "tol": _real(0),
    "verbose": Option("a bool or an int of at least 0", lambda v: _is_bool(v) or _is_int(v, 0)),
    "warm_start": _FLAG,
    "momentum": _real(0, 1),
    "nesterovs_momentum": _FLAG,
    "early_stopping": _FLAG,
    "validation_fraction": _real(0, 1, open_high=True),
    "beta_1": _real(0, 1, open_high=True),
    "beta_2": _real(0, 1, open_high=True),
    "epsilon": _real(0, open_low=True),
    "n_iter_no_change": Option(
        "an int of at least 1, or numpy.inf",
        lambda value: _is_int(value, 1) or (isinstance(value, Real) and value == math.inf),
    ),
    "max_fun": _integer(1),
    "weight_init": _one_of(*INITIALIZERS),
    "mask_value": Option(
        "a finite number or None",
        lambda value: value is None or _real(-math.inf).allows(value),
    ),
    "n_threads": _either(_integer(1), None),
    "dtype": Option("float32, float64 (a name or a NumPy dtype) or None", _is_dtype),
    "history": _one_of("epoch", "step"),
    "class_weight": Option(
        "a dict of weights by class, 'balanced' or None",
        lambda value: value in (None, "balanced") or isinstance(value, Mapping),
    ),
    "standardize": _FLAG,
    "allow_nan": _FLAG,
    "categorical_features": Option(
        "'from_dtype', a mask, indices or names of columns, or None",
        lambda value: (
            value is None
            or (isinstance(value, str) and value == "from_dtype")
            or (isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) == 1)
        ),
    ),
    "calibration": _one_of("temperature", None),
    "validation_cv": Option(
        "a splitter, with a method split, a pair of index arrays, or None",
        lambda value: (
            value is None
            or (hasattr(value, "split") and not isinstance(value, (str, bytes, type)))
            or (isinstance(value, (tuple, list)) and len(value) == 2)
        ),
    ),
    "scoring": Option(
        "'loss', the name of one of scikit-learn's scorers, a callable or None",
        lambda value: (
            value is None
            or callable(value)
            or (isinstance(value, str) and value in ("loss", *get_scorer_names()))
        ),
    ),
    "precision": _one_of("full", "bf16", "fp16"),
}
"""The rule of each parameter, whoever has it. Those of losses, optimisers and rows' own parameters
need the table: see `estimators.losses`, `rules` and `nn.rows.check_attributes`."""


def batch_size_of(given: int | str, n_samples: int) -> int:
    """The samples of a step, where "auto" is the smaller of 200 and all; a warning for too many."""
    if isinstance(given, str):
        return min(200, n_samples)
    if given > n_samples:
        warn(
            f"batch_size={given} is larger than the number of training samples; all {n_samples}"
            " make one batch."
        )
    return min(int(given), n_samples)


def check_options(owner: str, given: Mapping[str, object]) -> None:
    """Raise a ValueError for the first of the owner's parameters that its rule refuses."""
    for name, value in given.items():
        option = OPTIONS.get(name)
        if option is not None and not option.allows(value):
            raise ValueError(
                f"The {name!r} parameter of {owner} must be {option.wanted}; got {value!r} instead."
            )
