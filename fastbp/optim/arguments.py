"""Arguments of schedules: each is checked when the schedule is made, and kept as a float or int.

The errors name the schedule, the argument, what was wanted and what was found.
"""

import math
from numbers import Integral, Real


def refuse(owner: object, name: str, wanted: str, found: object) -> None:
    """Raise the ValueError that an argument of `owner` deserves."""
    raise ValueError(f"{type(owner).__name__}: {name} must be {wanted}; got {found!r} instead.")


def keep_real(
    owner: object,
    name: str,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Check that a field of a frozen dataclass is a finite number of a range; make it a float."""
    value = getattr(owner, name)
    left, right = "(" if open_low else "[", ")" if open_high or math.isinf(high) else "]"
    wanted = f"a finite number in {left}{low:g}, {high:g}{right}"
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        refuse(owner, name, wanted, value)
    number = float(value)
    above = number > low if open_low else number >= low
    below = number < high if open_high else number <= high
    if not (above and below):
        refuse(owner, name, wanted, value)
    object.__setattr__(owner, name, number)


def keep_whole(owner: object, name: str, low: int) -> None:
    """Check that a field of a frozen dataclass is a whole number of at least `low`; make it int."""
    value = getattr(owner, name)
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < low:
        refuse(owner, name, f"a whole number of at least {low}", value)
    object.__setattr__(owner, name, int(value))


def keep_one_of(owner: object, name: str, *words: str) -> None:
    """Check that a field is one of some words."""
    value = getattr(owner, name)
    if not isinstance(value, str) or value not in words:
        refuse(owner, name, "one of " + ", ".join(repr(word) for word in words), value)
