"""A grid search in company: processes, threads of joblib, and the engine's own threads.

    python -m benchmarks.company            some minutes
    python -m benchmarks.company --quick    a search of a second: its figures mean nothing

One search of `MLPClassifier` on the digits, 10 s or more by one core, in four ways that take turns:
one job on one thread, one job on all threads, and as many jobs as cores on one thread each, by loky
and by threads. Ratios are to the first; the pools are warm.
"""

import argparse
import os
import time
import warnings

import numpy as np
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from benchmarks.shapes import cores

ROUNDS = 3


def searches(n_seeds):
    """Functions that each run the whole search, by name."""
    from fastbp import MLPClassifier

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    grid = {"alpha": [1e-5, 1e-4, 1e-3, 1e-2], "random_state": range(n_seeds)}

    def search(n_jobs, n_threads, backend="loky"):
        model = MLPClassifier(
            (100,), max_iter=100, tol=0.0, n_iter_no_change=100, n_threads=n_threads
        )
        with parallel_config(backend):
            GridSearchCV(model, grid, cv=3, n_jobs=n_jobs).fit(X, y)

    many = cores()
    return {
        "1 job, 1 thread": lambda: search(1, 1),
        f"1 job, {many} threads": lambda: search(1, many),
        f"{many} jobs, loky": lambda: search(many, 1),
        f"{many} jobs, threading": lambda: search(many, 1, "threading"),
    }


def main():
    # Every search ends before training has converged, on purpose; workers inherit this.
    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.company")
    parser.add_argument("--quick", action="store_true", help="one round; the figures mean nothing")
    quick = parser.parse_args().quick
    functions = searches(1 if quick else 20)
    seconds = {name: [] for name in functions}
    for _ in range(1 if quick else ROUNDS + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    alone = np.array(seconds["1 job, 1 thread"][-ROUNDS:])
    for name, taken in seconds.items():
        ratio = alone / np.array(taken[-ROUNDS:])  # the first round warms the pools
        print(
            f"{name:22}{np.median(taken[-ROUNDS:]):7.2f} s"
            f"{np.median(ratio):7.2f} times as fast ({ratio.min():.2f}-{ratio.max():.2f})"
        )


if __name__ == "__main__":
    main()
