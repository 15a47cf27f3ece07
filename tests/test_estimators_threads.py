"""Estimators and threads: how many they use, the same bits, forks, calls side by side."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from multiprocessing import get_context

import numpy as np
import pytest
from helpers import IRIS, fitted, over_estimators, same_history, short_training
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from fastbp import MLPClassifier, MLPRegressor, NonFiniteError, _core
from fastbp._core import blas
from fastbp.nn import locking
from fastbp.train import threads

pytestmark = short_training

X, Y = IRIS


# ----------------------------------------------------------------------------------------- how many


def test_threads_are_resolved(monkeypatch):
    assert threads.resolve(7) == 7
    monkeypatch.setattr(threads._core, "max_threads", lambda: 8)
    monkeypatch.setattr(threads, "_usable_cores", lambda: 6)
    assert threads.resolve(None) == 6
    monkeypatch.setattr(threads._core, "max_threads", lambda: 3)
    assert threads.resolve(None) == 3


def test_threads_obey_limits():
    with threadpool_limits(1):
        assert threads.resolve(None) == 1


def said_by(program, **environment):
    """What a Python program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


RESOLVED = "from fastbp.train import threads; print(threads.resolve(None))"


def test_threads_obey_omp_num_threads():
    assert said_by(RESOLVED, OMP_NUM_THREADS="1") == "1"


def test_threads_keep_to_the_quota():
    """Of a cgroup, which joblib reads, as it reads this variable: no test may set up a cgroup."""
    assert said_by(RESOLVED, LOKY_MAX_CPU_COUNT="1") == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_threads_keep_to_the_affinity():
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    assert said_by(one + RESOLVED) == "1"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by /proc")
@pytest.mark.parametrize(("hidden", "wakes"), [((8,), False), ((512, 512), True)])
def test_tiny_networks_wake_no_second_thread(hidden, wakes):
    program = f"""
import os, warnings
import numpy as np
from fastbp import MLPRegressor
warnings.simplefilter("ignore")
X = np.ones((64, 20), np.float32)
before = len(os.listdir("/proc/self/task"))
MLPRegressor({hidden}, max_iter=2, batch_size=32, n_threads=2).fit(X, X[:, 0])
print(len(os.listdir("/proc/self/task")) > before)
"""
    assert said_by(program) == str(wakes)


def blas_threads():
    return [lib["num_threads"] for lib in blas._controller().info()]


def test_blas_has_its_threads_back_after_a_fit_and_after_an_error(leave_more_to_blas):
    X, y = np.ones((40, 1030), np.float32), np.arange(40) % 2
    before = blas_threads()
    model = MLPClassifier((1100,), batch_size=20, max_iter=1).fit(X, y)
    assert model._network.plan().uses_blas
    assert blas_threads() == before
    with pytest.raises(NonFiniteError):
        MLPClassifier(
            (1100,), batch_size=20, max_iter=9, solver="sgd", learning_rate_init=1e30
        ).fit(X, y)
    assert blas_threads() == before


def test_threads_share_the_cores_among_joblibs_threads(monkeypatch):
    monkeypatch.setattr(threads._core, "max_threads", lambda: 8)
    monkeypatch.setattr(threads, "_usable_cores", lambda: 8)
    for n_jobs, share in ((2, 4), (3, 2), (16, 1)):
        work = Parallel(n_jobs, backend="threading")
        assert set(work(delayed(threads.resolve)(None) for _ in range(2 * n_jobs))) == {share}
    assert threads.resolve(None) == 8


def test_threads_share_the_cores_among_joblibs_processes():
    work = Parallel(2, backend="loky")
    assert work(delayed(threads.resolve)(None) for _ in range(2)) == [max(1, cpu_count() // 2)] * 2
    with parallel_config("loky", inner_max_num_threads=1):
        assert Parallel(2)(delayed(threads.resolve)(None) for _ in range(2)) == [1, 1]


@over_estimators
@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "lbfgs"])
def test_the_number_of_threads_changes_no_bit(kind, solver):
    models = [
        kind((70, 30), max_iter=4, solver=solver, random_state=0, n_threads=n).fit(X, Y)
        for n in (1, 2, 5)
    ]
    for model in models[1:]:
        assert np.array_equal(model._views.flat, models[0]._views.flat)
        assert same_history(model.history_, models[0].history_)
        assert np.array_equal(model.predict(X), models[0].predict(X))


# -------------------------------------------------------------------------------------------- forks


def warnings_of_resolve():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert threads.resolve(None) == 1
    return [str(warning.message) for warning in caught if warning.category is UserWarning]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, of fork with threads
def test_a_forked_child_trains_on_one_thread_with_the_same_bits():
    wanted = fitted(MLPRegressor, n_threads=2)  # the parent has a team, of which the child has none
    with get_context("fork").Pool(1) as pool:
        model = pool.apply_async(fitted, (MLPRegressor,)).get(timeout=60)
        told = [pool.apply_async(warnings_of_resolve).get(timeout=60) for _ in range(2)]
        asked = pool.apply_async(fitted, (MLPRegressor,), {"n_threads": 2})
        with pytest.raises(RuntimeError, match="fork"):
            asked.get(timeout=60)
    assert np.array_equal(model._views.flat, wanted._views.flat)
    assert told == [[], []]  # since the fit before was told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, of fork with threads
def test_a_forked_child_is_told_once():
    for _ in range(2):  # once a process
        with get_context("fork").Pool(1) as pool:
            told = [pool.apply_async(warnings_of_resolve).get(timeout=60) for _ in range(2)]
        (message,), nothing = told
        assert "spawn" in message
        assert "loky" in message
        assert not nothing
    assert not _core.in_forked_child()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python's own, of fork with threads
def test_a_child_forked_while_another_thread_trains_is_free():
    model = MLPRegressor(3, max_iter=1, warm_start=True, n_threads=1).fit(X, Y)
    before = blas_threads()
    entered, leave = threading.Event(), threading.Event()

    def work():
        with (
            locking.exclusively(model, "MLPClassifier"),
            blas.one_blas_thread(True),
            locking.swapping,
            locking._guard,
            blas._lock,
        ):
            entered.set()
            leave.wait(30)

    worker = threading.Thread(target=work)
    worker.start()
    entered.wait(30)
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            signal.alarm(20)  # instead of a deadlock
            restored = blas_threads() == before
            model.fit(X, Y)
            code = 0 if restored and not blas._in_flight and not locking._held else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    leave.set()
    worker.join()
    assert status == 0
    assert blas_threads() == before


# ------------------------------------------------------------------------------- calls side by side


@pytest.mark.threads
def test_a_second_training_call_meanwhile_is_an_error():
    inputs = np.random.default_rng(0).standard_normal((2000, 20))
    y = inputs[:, 0]
    model = MLPRegressor((50,), max_iter=10**6, n_iter_no_change=np.inf, random_state=0)
    model.partial_fit(inputs, y)
    begun, stop = threading.Event(), threading.Event()

    class Endless:
        """Features whose check keeps `fit` waiting."""

        shape = inputs.shape

        def __len__(self):
            return len(inputs)

        def __array__(self, dtype=None, copy=None):
            begun.set()
            stop.wait(60)
            return inputs

    thread = threading.Thread(target=model.partial_fit, args=(Endless(), y))
    thread.start()
    try:
        assert begun.wait(60)
        for call in (model.fit, model.partial_fit):
            with pytest.raises(RuntimeError, match="being trained by another thread"):
                call(inputs, y)
        model.predict(inputs)
        clone(model).set_params(max_iter=1).fit(inputs, y)
    finally:
        stop.set()
        thread.join()
    model.partial_fit(inputs, y)


@pytest.mark.threads
def test_predict_from_many_threads():
    model = MLPClassifier((30, 30), max_iter=3, random_state=0).fit(X, Y)
    wanted = model.predict_proba(X)
    wrong = []

    def work(i):
        for _ in range(50):
            part = slice(i, None, 3)
            if not np.array_equal(model.predict_proba(X[part]), wanted[part]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
