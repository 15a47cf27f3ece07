"""How much memory training and prediction take."""

from benchmarks.rivals import FASTBP, equal_threads, estimators
from benchmarks.shapes import SHAPES


class Training:
    """Memory of one `fit`, by two measures.

    `peakmem_fit` is the most that the whole process held: Python, the libraries (some 150 MB) and
    the data are in it, so that only a difference between commits tells something. `track_plan` is
    what the plan says beforehand for parameters, optimiser and scratch.
    """

    params = (list(SHAPES),)
    param_names = ("shape",)

    def setup(self, name):
        shape = SHAPES[name]
        self.X, self.y = shape.data()
        self.model = estimators(shape, epochs=1, n_threads=1)[FASTBP]

    def peakmem_fit(self, name):
        with equal_threads(1):
            self.model.fit(self.X, self.y)

    def track_plan(self, name):
        shape = SHAPES[name]
        return shape.plan().memory(
            shape.batch, rule=shape.solver, n_samples=shape.n_samples, n_threads=1
        )["total"]

    track_plan.unit = "bytes"


class Prediction:
    """The most that the process held while 54-256-256-7 predicts a million rows in one call.

    216 MB of it are the rows and 28 MB the result. The limit: see `Training`.
    """

    def setup(self):
        shape = SHAPES["54-256-256-7"]
        self.X, y = shape.data(n_samples=1_000_000)
        self.model = estimators(shape, epochs=1, n_threads=1)[FASTBP]
        with equal_threads(1):
            self.model.fit(self.X[: shape.batch], y[: shape.batch])

    def peakmem_predict_million(self):
        self.model.predict_proba(self.X)
