"""Who may train or change an estimator or a network, or look at it, while several threads use it.

Take `swapping` from this module at each use: a forked child has locks of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Hold:
    """Which thread holds something, and what is being done to it."""

    def __init__(self, doing: str) -> None:
        self.doing, self.thread = doing, threading.get_ident()

    def admits(self, other: _Hold) -> bool:
        """Whether it may be held for the other at the same time."""
        return self.thread == other.thread and "trained" not in (self.doing, other.doing)


_held: dict[int, _Hold] = {}
_guard = threading.Lock()

# Held while an estimator takes its new weights, and while a reader gathers what belongs together.
swapping = threading.RLock()


@contextmanager
def exclusively(thing: object, name: str, doing: str = "trained") -> Iterator[None]:
    """Hold what goes by that name, to have something done to it.

    A RuntimeError if it is held already, unless this thread does so and is not training it: what
    changes a network may change parts of it.
    """
    # The hold is entered, and taken out, by a token of its own inside the `try`: a Ctrl-C between
    # any two lines leaves nothing held for good.
    hold = _Hold(doing)
    try:
        with _guard:
            before = _held.setdefault(id(thing), hold)
            if before is not hold and not before.admits(hold):
                whose = "this" if before.thread == hold.thread else "another"
                raise RuntimeError(
                    f"This {name} is being {before.doing} by {whose} thread; use a clone."
                )
        yield
    finally:
        with _guard:
            if _held.get(id(thing)) is hold:
                del _held[id(thing)]


def _start_anew_in_child() -> None:
    """After a fork: the parent's other threads, and so their locks, are not in the child."""
    global _guard, swapping
    _guard, swapping = threading.Lock(), threading.RLock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
