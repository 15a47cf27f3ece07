"""Reductions along axes."""

import numpy as np


def reduction(function):
    def reduced(x, axes=(), keepdims=0):
        return function(x, axis=tuple(map(int, axes)) or None, keepdims=bool(keepdims))

    return reduced


def log_sum_exp(x, axis, keepdims):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


OPS = {
    "sum": reduction(np.sum),
    "mean": reduction(np.mean),
    "max": reduction(np.max),
    "min": reduction(np.min),
    "logsumexp": reduction(log_sum_exp),
}
