"""Ops that move elements."""

import numpy as np


def reshape(x, shape):
    return x.reshape(shape)


def transpose(x, axes):
    return x.transpose(axes)


def index(x, starts, steps, counts):
    slices = []
    for start, step, count in zip(starts, steps, counts, strict=True):
        stop = start + step * count
        slices.append(slice(start, None if stop < 0 else stop, step) if count else slice(0))
    return x[tuple(slices)]


def pad(x, before, after, value=0.0):
    if x.ndim == 0:  # which NumPy refuses
        return x
    return np.pad(x, tuple(zip(before, after, strict=True)), constant_values=value)


def concatenate(*parts, axis=0):
    return np.concatenate(parts, axis)


def broadcast(x, shape):
    return np.broadcast_to(x, shape)


OPS = {
    "reshape": reshape,
    "transpose": transpose,
    "index": index,
    "pad": pad,
    "concatenate": concatenate,
    "broadcast": broadcast,
}
