"""Poolings: what windows of a padded array hold."""

import numpy as np

from reference_ops.convolution import each, windows


def _windows(x, kernel, stride, padding, fill):
    n = x.ndim - 2
    return windows(x, each(kernel, n), kernel if stride is None else stride, padding, fill=fill)


def max_pool(x, kernel, stride=None, padding=0):
    axes = tuple(range(2 - x.ndim, 0))
    return _windows(x, kernel, stride, padding, -np.inf).max(axes)


def average_pool(x, kernel, stride=None, padding=0, count_include_pad=1):
    axes = tuple(range(2 - x.ndim, 0))
    total = _windows(x, kernel, stride, padding, 0.0).sum(axes)
    fill = 1.0 if count_include_pad else 0.0
    return total / _windows(np.ones_like(x), kernel, stride, padding, fill).sum(axes)


OPS = {"max_pool": max_pool, "average_pool": average_pool}
