"""How many threads a call may use.

Limits are obeyed, never set: the argument first, then what the OpenMP runtime grants (which holds
`OMP_NUM_THREADS`, threadpoolctl's limits, and the share that joblib gives its worker processes),
the CPU affinity and the cgroup quota, and the share of a thread pool's worker. Results do not
depend on the count.
"""

import functools
import multiprocessing.dummy
import os
import threading

import joblib

from fastbp import _core
from fastbp.train.notices import warn

# The process that was last told of its fork; a child that forks has a child to be told as well.
_told = 0


def resolve(n_threads: int | None) -> int:
    """The number of threads for one call into the engine.

    Parameters
    ----------
    n_threads : int or None
        A number is taken literally. None means as many as the surroundings grant: the least of the
        OpenMP limit of the calling thread and the usable cores; in a worker thread of joblib's
        threading back end, or of any `multiprocessing.pool.ThreadPool`, that number divided by the
        count of such workers. In a process that was forked after fastbp was imported it means one,
        with a UserWarning the first time.

    Returns
    -------
    count : int
        At least 1.

    Examples
    --------
    >>> from fastbp.train.threads import resolve
    >>> resolve(3)
    3
    >>> resolve(None) >= 1
    True
    """
    if n_threads is not None:
        return n_threads
    if _core.in_forked_child():
        _tell_of_fork()
        return 1
    granted = min(_core.max_threads(), _usable_cores())
    return max(1, granted // _pool_workers())


def _tell_of_fork() -> None:
    global _told
    if _told == os.getpid():
        return
    _told = os.getpid()
    warn(
        "This process was forked, and threads do not survive a fork: fastbp runs on one thread here"
        " (with the same results). Start processes by spawn, or through joblib's loky back end."
    )


def _usable_cores() -> int:
    """Cores that affinity and cgroup quota leave to this process."""
    if hasattr(os, "sched_getaffinity"):
        return _cores_of(frozenset(os.sched_getaffinity(0)))
    return _cores_of(frozenset())


@functools.lru_cache(maxsize=8)
def _cores_of(affinity: frozenset[int]) -> int:
    # Reads cgroup files, 30 us each time; a quota does not change under a running process, whereas
    # the affinity may, and is therefore the key.
    return int(joblib.cpu_count())


def _pool_workers() -> int:
    """Workers of thread pools, if the caller is one of them, else 1.

    joblib's threading back end does not tell its workers how many they are; they are threads of a
    class of their own, and countable.
    """
    worker = multiprocessing.dummy.Process
    if not isinstance(threading.current_thread(), worker):
        return 1
    return sum(isinstance(thread, worker) for thread in threading.enumerate())
