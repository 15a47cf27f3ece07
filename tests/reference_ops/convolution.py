"""Convolutions: windows of a padded array, and one sum of products for each group."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def each(number, n):
    """A number for each of n axes, of a list of one or n, or a number."""
    numbers = np.ravel(number)
    return [int(value) for value in (numbers if len(numbers) == n else np.repeat(numbers, n))]


def windows(x, kernel, stride, padding, dilation=1, fill=0.0):
    """x (n, axes..., c) as its windows (n, positions..., c, kernel...)."""
    n = len(kernel)
    stride, padding, dilation = each(stride, n), each(padding, n), each(dilation, n)
    x = np.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)], constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    views = sliding_window_view(x, reach, axis=tuple(range(1, n + 1)))
    steps = [slice(None, None, s) for s in stride]
    taps = [slice(None, None, d) for d in dilation]
    return views[(slice(None), *steps, slice(None), *taps)]


def conv(x, w, b=0.0, stride=1, padding=0, dilation=1, groups=1):
    n = w.ndim - 2
    views = windows(x, w.shape[:n], stride, padding, dilation)
    channels, outputs = w.shape[-2], w.shape[-1] // groups
    letters = "hw"[:n]
    product = f"...c{letters},{letters}co->...o"
    parts = []
    for g in range(groups):
        group = (Ellipsis, slice(g * channels, (g + 1) * channels), *[slice(None)] * n)
        parts.append(np.einsum(product, views[group], w[..., g * outputs : (g + 1) * outputs]))
    return np.concatenate(parts, axis=-1) + b


OPS = {"conv": conv}
