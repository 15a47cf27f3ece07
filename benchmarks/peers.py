"""How many times as fast as its peers fastbp is: ratios, which outlast machines."""

import numpy as np

from benchmarks.rivals import (
    FASTBP,
    PEERS,
    equal_threads,
    interleaved,
    prediction,
    ratios,
    training,
)
from benchmarks.shapes import LIGHT, SHAPES

ROUNDS = 5


class _Ratio:
    """How many times as fast as a peer fastbp is, by the functions of `rivals`, on one thread."""

    unit = "times as fast as the peer"

    def setup(self, work, peer):
        with equal_threads(1):
            runs = self.rivals(work)
        self.runs = {name: runs[name] for name in (FASTBP, peer)}

    def track_ratio(self, work, peer):
        with equal_threads(1):
            seconds = interleaved(self.runs, ROUNDS)
        return float(np.median(ratios(seconds, peer)))


class Peers(_Ratio):
    """`fit` in float32 against scikit-learn's, and against a plain NumPy class.

    A ratio is the median over rounds in which the two take turns, in one process, on one thread
    each, after their losses were seen to agree. Whole calls are compared: validation and label
    encoding are in the two estimators' times, and not in the NumPy class's. Its limits: few epochs
    of synthetic data, where a longer `fit` would give more weight to the engine; and one thread,
    since the peers' times on several swing with all that runs beside them (`benchmarks.table` has
    several).
    """

    params = (LIGHT, list(PEERS))
    param_names = ("shape", "peer")

    def rivals(self, name):
        return training(SHAPES[name], 1)


class PredictPeers(_Ratio):
    """`predict` of 100,000 rows, and of one, by 54-256-256-7 in float32: as `Peers`, one thread.

    Its limit: for a single row this is the estimators' validation far more than the network.
    """

    params = ([1, 100_000], list(PEERS))
    param_names = ("rows", "peer")

    def rivals(self, rows):
        return prediction(SHAPES["54-256-256-7"], rows, 1, calls=100 if rows == 1 else 1)
