"""What is left where there is nothing to compute: a step of the smallest network, a fit of iris,
ops on tensors of a few elements."""

import time
import warnings

import numpy as np
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

STEPS = 1_000_000


class Step:
    """Microseconds of one training step of a 1-1-1 network: batch of 1, relu, Adam, one thread.

    One epoch over a million rows, divided by a million: gather, forward, loss, backward, update and
    counters. Its limit: rows are visited in a shuffled order, so a part is waiting for memory.
    """

    unit = "microseconds a step"
    timeout = 120

    def setup(self):
        from fastbp import _core

        layers = [("linear", {"units": 1}), ("relu", {}), ("linear", {"units": 1})]
        plan = _core.Plan(1, layers, ("squared_error", {}), dtype=np.float32)
        X = np.random.default_rng(0).standard_normal((STEPS, 1), dtype=np.float32)
        states = np.zeros((2, plan.n_params), np.float32)
        params = np.full(plan.n_params, 0.5, np.float32)
        self.training = _core.Training(
            plan, params, X, X**2, rule="adam", states=states, batch_size=1, alpha=1e-4
        )

    def track_step(self):
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            self.training.run(np.array([1e-3]))
            seconds.append(time.perf_counter() - started)
        return min(seconds) / STEPS * 1e6


class Iris:
    """`fit` of iris: 4-10-3, batch of 32, 200 epochs, one thread.

    Its limit: of the time some 1.5 ms are scikit-learn's validation and the encoding of labels.
    """

    def setup(self):
        from fastbp import MLPClassifier

        self.samples = load_iris(return_X_y=True)
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 epochs, on purpose
        self.model = MLPClassifier(
            (10,), batch_size=32, max_iter=200, n_iter_no_change=200, tol=0.0, n_threads=1
        )

    def time_fit(self):
        self.model.fit(*self.samples)


class Ops:
    """One op on tensors (3, 4), by itself and with its record; its backward in a chain of 100.

    Its limit: the engine's own part, with NumPy's array for the result, is about 0.7 us.
    """

    def setup(self):
        from fastbp import Tensor

        self.x = Tensor(np.ones((3, 4)), requires_grad=True)
        self.y = Tensor(np.ones((3, 4)))

    def time_add(self):
        self.y + self.y

    def time_add_recorded(self):
        self.x + self.y

    def time_add_a_number(self):
        self.y + 1.0

    def time_chain_of_100_and_backward(self):
        h = self.x
        for _ in range(100):
            h = h + self.y
        h.backward(self.y.data, accumulate=False)
