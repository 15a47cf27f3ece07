"""How long prediction takes."""

from benchmarks.rivals import FASTBP, equal_threads, estimators
from benchmarks.shapes import SHAPES, skip_without_cores

SHAPE = SHAPES["54-256-256-7"]
MILLION = 1_000_000


class PredictMillion:
    """`predict_proba` of a million rows by 54-256-256-7 in float32, in one call.

    Its limit: the rows lie in memory beforehand, 216 MB of them.
    """

    params = ([1, 2],)
    param_names = ("threads",)

    def setup(self, n_threads):
        skip_without_cores(n_threads)
        self.X, y = SHAPE.data(n_samples=MILLION)
        self.model = estimators(SHAPE, epochs=1, n_threads=n_threads)[FASTBP]
        with equal_threads(1):
            self.model.fit(self.X[: SHAPE.batch], y[: SHAPE.batch])

    def time_rows(self, n_threads):
        self.model.predict_proba(self.X)


class PredictOne:
    """One row by 54-256-256-7 in float32: through the estimator, and through its plan alone.

    The difference is what scikit-learn's validation costs. The limit of both: a call packs the
    weights anew, and in a loop like this one they are always in cache.
    """

    def setup(self):
        X, y = SHAPE.data(n_samples=SHAPE.batch)
        self.row = X[:1]
        self.model = estimators(SHAPE, epochs=1, n_threads=1)[FASTBP]
        with equal_threads(1):
            self.model.fit(X, y)
        self.plan = SHAPE.plan()
        self.weights = SHAPE.weights(self.plan)

    def time_estimator(self):
        self.model.predict_proba(self.row)

    def time_plan(self):
        self.plan.predict(self.weights, self.row)
