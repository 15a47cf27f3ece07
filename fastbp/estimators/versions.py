"""Numbers that what outlives a process carries, so that another version knows what it reads.

A number grows where what was written before can no longer be read; versions of fastbp alone do not
tell. Knows nothing of what is written.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

STATE = 1
"""Of what estimators give pickle, copy, joblib and skops."""

FILE = 1
"""Of the files of `save`."""

_KEY = "_state_of"


@cache
def here() -> str:
    """The version of fastbp that runs."""
    return version("fastbp")


def stamped(state: dict[str, Any]) -> dict[str, Any]:
    """An estimator's state, with the number of its form and the version that made it."""
    return {**state, _KEY: (STATE, here())}


def checked(state: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The state without its number, or a ValueError where that is not of this version."""
    plain = dict(state)
    match plain.pop(_KEY, None):
        case (int(number), str(maker)) if number == STATE:
            return plain
        case (number, maker):
            made = f"a state of form {number!r}, made by fastbp {maker}"
        case _:
            made = "a state without a number, made before fastbp 0.1.0"
    raise ValueError(
        f"{owner}: found {made}; fastbp {here()} wants form {STATE}. Load it with the version that"
        " made it, and fit again or carry the weights over."
    )
