"""Groups of parameters: rates and decays of their own, by the names of what they are of.

A factor is told by a pattern of names, as `Module.freeze` takes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from fastbp.nn.module import is_below


def factors_of(
    given: Mapping[str, Any] | None, names: Sequence[str], argument: str
) -> tuple[float, ...] | None:
    """A factor for each name: of the last pattern that names it, or 1; None where none is given.

    Raises a ValueError that names `argument` where a pattern names nothing, or a factor is no
    number of at least 0.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ValueError(f"{argument}: found {given!r}, wanted a dict of numbers by name, or None")
    found = dict.fromkeys(names, 1.0)
    for pattern, factor in given.items():
        if not isinstance(pattern, str):
            raise ValueError(f"{argument}: found {pattern!r} for a name, wanted a str")
        if not isinstance(factor, Real) or not 0 <= float(factor) < math.inf:
            raise ValueError(f"{argument}[{pattern!r}]: found {factor!r}, wanted a number >= 0")
        below = [name for name in names if is_below(name, pattern)]
        if not below:
            raise ValueError(
                f"{argument}: found {pattern!r}, wanted a part or a parameter, of {[*names]}"
            )
        found.update(dict.fromkeys(below, float(factor)))
    return tuple(found.values())
