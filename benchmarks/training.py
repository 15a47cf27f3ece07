"""How long the engine's epochs take: training without validation of the data or label encoding."""

import numpy as np

from benchmarks.rivals import FASTBP, equal_threads, estimators
from benchmarks.shapes import SHAPES, SPARSE, skip_without_cores


class Training:
    """Time of the shape's epochs in float32, for each number of threads.

    Measures `_core.Training.run`: shuffle, gather, forward, loss, backward, update. Its limit: what
    an estimator adds before the first epoch is not in it (see `peers`), and a step of a shape whose
    plan finds threads not worth waking runs on fewer.
    """

    params = (list(SHAPES), [1, 2])
    param_names = ("shape", "threads")

    def setup(self, name, n_threads):
        from fastbp import _core

        skip_without_cores(n_threads)
        shape = SHAPES[name]
        plan = shape.plan()
        X, y = shape.data()
        states = np.zeros(
            (
                next(r["n_states"] for r in _core.table() if r["name"] == shape.solver),
                plan.n_params,
            ),
            dtype=plan.dtype,
        )
        self.training = _core.Training(
            plan,
            shape.weights(plan),
            X,
            shape.targets(plan, y),
            rule=shape.solver,
            states=states,
            alpha=1e-4,
            batch_size=shape.batch,
            n_threads=n_threads,
        )
        self.rates = np.full(shape.epochs, shape.rate)
        self.step = 0

    def time_training(self, name, n_threads):
        self.step = self.training.run(self.rates, step=self.step)["step"]


class SparseTraining:
    """Time of a `fit` on CSR samples, 1 % of 10,000 columns stored, 100 hidden units, one thread.

    Ten epochs of 4,000 samples, with validation, label encoding and the first weights. Its limit:
    of a step's time most is the update of a million weights, few of which the step's samples touch.
    """

    def setup(self):
        self.X, self.y = SPARSE.data()
        self.model = estimators(SPARSE, n_threads=1)[FASTBP]

    def time_fit(self):
        with equal_threads(1):
            self.model.fit(self.X, self.y)
