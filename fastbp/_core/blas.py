"""BLAS on one thread while the engine calls it from threads of its own.

A BLAS library's thread limit belongs to the whole process, and calls into the engine may overlap:
so the first one in flight sets the limit and the last one puts it back, whichever that is.
"""

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_in_flight: set[object] = set()
_limiter: Any = None


@functools.cache
def _controller() -> Any:
    # Looking through the libraries of the process takes milliseconds: once. The BLAS that matters,
    # SciPy's, is loaded with the engine.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread(wanted: bool) -> Iterator[None]:
    """Within, BLAS runs on the thread that calls it. Does nothing unless `wanted`."""
    global _limiter
    if not wanted:
        yield
        return
    # A call is entered, and taken out, by a token of its own inside the `try`: a Ctrl-C between any
    # two lines leaves no call behind that has ended.
    call = object()
    try:
        with _lock:
            _in_flight.add(call)
            if _limiter is None:
                _limiter = _controller().limit(limits=1)
        yield
    finally:
        with _lock:
            _in_flight.discard(call)
            if not _in_flight:
                _restore()


def _restore() -> None:
    global _limiter
    if _limiter is not None:
        _limiter.restore_original_limits()
        _limiter = None


def _start_anew_in_child() -> None:
    """After a fork: the calls of the parent's other threads do not go on in the child."""
    global _lock
    _lock = threading.Lock()  # another thread may have held it
    _in_flight.clear()
    _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
