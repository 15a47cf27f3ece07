"""BLAS on one thread while the engine calls it from threads of its own.

A BLAS library's thread limit belongs to the whole process, and calls into the engine may overlap:
so the first one in flight sets the limit and the last one puts it back, whichever that is.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_in_flight = 0
_limiter: Any = None


@functools.cache
def _controller() -> Any:
    # Looking through the libraries of the process takes milliseconds: once. The BLAS that matters,
    # SciPy's, is loaded with the engine.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread(wanted: bool) -> Iterator[None]:
    """Within, BLAS runs on the thread that calls it. Does nothing unless `wanted`."""
    global _in_flight, _limiter
    if not wanted:
        yield
        return
    with _lock:
        if _in_flight == 0:
            _limiter = _controller().limit(limits=1)
        _in_flight += 1
    try:
        yield
    finally:
        with _lock:
            _in_flight -= 1
            if _in_flight == 0:
                _limiter.restore_original_limits()
                _limiter = None
