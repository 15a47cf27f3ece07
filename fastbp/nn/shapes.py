"""What layers ask of the shapes of their inputs, and what options say for each axis."""

from __future__ import annotations

from typing import Any

import numpy as np


def expect(layer: object, x: Any, ndim: int, wanted: str) -> None:
    """Refuses an input of another number of axes, by the name of the layer."""
    if len(x.shape) != ndim:
        raise ValueError(f"{type(layer).__name__}: found an input of shape {x.shape}, {wanted}")


def expect_width(layer: object, x: Any, least: int = 2) -> int:
    """The width of an input that has channels along its last axis, behind that of the samples."""
    if len(x.shape) < least:
        axes = "(n, features)" if least == 2 else "(n, positions, features)"
        raise ValueError(
            f"{type(layer).__name__}: found an input of shape {x.shape}, wanted at least {axes}"
        )
    return int(x.shape[-1])


def each(value: Any, n: int, what: str) -> tuple[int, ...]:
    """An option of n axes: one number for all of them, or as many."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
    if len(given) != n or not all(isinstance(one, (int, np.integer)) for one in given):
        numbers = "an int" if n == 1 else f"an int or {n} of them"
        raise ValueError(f"{what}: found {value!r}, wanted {numbers}")
    return tuple(map(int, given))


def choose(value: Any, choices: tuple[str, ...], what: str) -> None:
    """Refuses what is none of the choices."""
    if value not in choices:
        raise ValueError(f"{what}: found {value!r}, wanted one of {', '.join(map(repr, choices))}")


def at_least_one(layer: object, *options: str) -> None:
    """Refuses sizes and numbers that are no int of at least 1, by their names."""
    for option in options:
        value = getattr(layer, option)
        if not isinstance(value, (int, np.integer)) or value < 1:
            what = f"{type(layer).__name__}: {option}"
            raise ValueError(f"{what}: found {value!r}, wanted an int of at least 1")
