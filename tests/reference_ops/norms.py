"""Normalisation."""

import numpy as np


def layer_norm(x, gain=1.0, bias=0.0, *, epsilon=1e-5):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gain + bias


def rms_norm(x, gain=1.0, *, epsilon=1e-6):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * gain


def group_norm(x, gain=1.0, bias=0.0, *, groups, epsilon=1e-5):
    apart = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, variance = apart.mean((1, 3), keepdims=True), apart.var((1, 3), keepdims=True)
    return ((apart - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * gain + bias


def normalize(x, moments, gain=1.0, bias=0.0, *, epsilon=1e-5):
    mean, variance = moments
    return (x - mean) / np.sqrt(variance + epsilon) * gain + bias


def moments(x):
    over = tuple(range(x.ndim - 1))
    return np.stack([x.mean(over), x.var(over)])


OPS = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "normalize": normalize,
    "moments": moments,
}
