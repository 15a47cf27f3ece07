"""Who may train an estimator or a network, and who may look at it, while several threads use it.

Take `swapping` from this module at each use: a forked child has locks of its own.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_in_training: dict[int, object] = {}
_guard = threading.Lock()

# Held while an estimator takes its new weights, and while a reader gathers what belongs together.
swapping = threading.RLock()


@contextmanager
def exclusively(trained: object, name: str) -> Iterator[None]:
    """Hold what is trained, which goes by that name; a RuntimeError if another thread does."""
    # The hold is entered, and taken out, by a token of its own inside the `try`: a Ctrl-C between
    # any two lines leaves no estimator held for good.
    hold = object()
    try:
        with _guard:
            if _in_training.setdefault(id(trained), hold) is not hold:
                raise RuntimeError(f"This {name} is being trained by another thread; use a clone.")
        yield
    finally:
        with _guard:
            if _in_training.get(id(trained)) is hold:
                del _in_training[id(trained)]


def _start_anew_in_child() -> None:
    """After a fork: the parent's other threads, and so their locks, are not in the child."""
    global _guard, swapping
    _guard, swapping = threading.Lock(), threading.RLock()
    _in_training.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
