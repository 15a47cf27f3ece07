"""Scaled dot-product attention."""

import numpy as np


def attention(q, k, v, mask=None, *, heads=1, causal=0, scale=0.0):
    def apart(x):  # (n, length, width) as (n, heads, length, width of a head)
        return np.moveaxis(x.reshape(*x.shape[:2], heads, -1), 2, 1)

    queries, keys = q.shape[1], k.shape[1]
    allowed = np.ones((len(q), 1, queries, keys), bool)
    if causal:
        allowed &= np.arange(keys) <= np.arange(queries)[:, None]
    if mask is not None:
        allowed &= (mask != 0)[:, None, None, :]
    factor = scale or (q.shape[2] // heads) ** -0.5
    scores = np.where(allowed, factor * apart(q) @ np.swapaxes(apart(k), 2, 3), -np.inf)
    most = scores.max(axis=3, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(most), most, 0.0))
    total = e.sum(axis=3, keepdims=True)
    p = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    return np.moveaxis(p @ apart(v), 1, 2).reshape(q.shape)


def self_attention(qkv, mask=None, **attrs):
    return attention(*np.split(qkv, 3, axis=2), mask, **attrs)


OPS = {"attention": attention, "self_attention": self_attention}
