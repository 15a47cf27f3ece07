"""What a second thread, and all of them, bring to training."""

import numpy as np

from benchmarks.rivals import FASTBP, equal_threads, estimators, interleaved
from benchmarks.shapes import SHAPES, cores, skip_without_cores

ROUNDS = 5


class Scaling:
    """How many times as fast `fit` is on several threads as on one, in float32.

    The median over rounds in which both take turns. Its limit: it holds only where nothing else
    runs, since the threads of a step wait for each other; 1.0 where the plan finds a network too
    small for more than one thread.
    """

    params = (list(SHAPES), sorted({2, max(2, cores())}))
    param_names = ("shape", "threads")
    unit = "times as fast as one thread"

    def setup(self, name, n_threads):
        skip_without_cores(n_threads)
        shape = SHAPES[name]
        X, y = shape.data()
        self.runs = {}
        for count in (1, n_threads):
            model = estimators(shape, n_threads=count)[FASTBP]
            self.runs[count] = lambda model=model: model.fit(X, y)

    def track_speedup(self, name, n_threads):
        with equal_threads(n_threads):
            seconds = interleaved(self.runs, ROUNDS)
        return float(np.median(seconds[1] / seconds[n_threads]))
