"""How many times as fast as its peers fastbp is: ratios, which outlast machines."""

import numpy as np

from benchmarks.rivals import (
    FASTBP,
    NUMPY,
    SKLEARN,
    assert_agreement,
    equal_threads,
    interleaved,
    prediction,
    training,
)
from benchmarks.shapes import SHAPES

ROUNDS = 5


class Peers:
    """`fit` in float32 against scikit-learn's, and against a plain NumPy class.

    A ratio is the median over rounds in which the two take turns, in one process, on one thread
    each, after their losses were seen to agree. Whole calls are compared: validation and label
    encoding are in the two estimators' times, and not in the NumPy class's. Its limits: few epochs
    of synthetic data, where a longer `fit` would give more weight to the engine; and one thread,
    since the peers' times on several swing with all that runs beside them (`benchmarks.table` has
    several).
    """

    params = (list(SHAPES), [SKLEARN, NUMPY])
    param_names = ("shape", "peer")
    unit = "times as fast as the peer"

    def setup(self, name, peer):
        shape = SHAPES[name]
        with equal_threads(1):
            assert_agreement(shape)
            runs = training(shape, *shape.data())
        self.runs = {key: runs[key] for key in (FASTBP, peer)}

    def track_ratio(self, name, peer):
        with equal_threads(1):
            seconds = interleaved(self.runs, ROUNDS)
        return float(np.median(seconds[peer] / seconds[FASTBP]))


class PredictPeers:
    """`predict` of 100,000 rows, and of one, by 54-256-256-7 in float32: as `Peers`, one thread.

    Its limit: for a single row this is the estimators' validation far more than the network.
    """

    params = ([1, 100_000], [SKLEARN, NUMPY])
    param_names = ("rows", "peer")
    unit = "times as fast as the peer"

    def setup(self, rows, peer):
        with equal_threads(1):
            runs = prediction(SHAPES["54-256-256-7"], rows, calls=100 if rows == 1 else 1)
        self.runs = {key: runs[key] for key in (FASTBP, peer)}

    def track_ratio(self, rows, peer):
        with equal_threads(1):
            seconds = interleaved(self.runs, ROUNDS)
        return float(np.median(seconds[peer] / seconds[FASTBP]))
