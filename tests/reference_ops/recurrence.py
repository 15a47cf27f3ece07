"""Recurrent layers, step by step."""

import numpy as np


def logistic(a):
    return 1 / (1 + np.exp(-a))


def scan(step, states, p, mask, reverse):
    """The first state after each step; `step` maps the input's share and states to new states."""
    n, steps, _ = p.shape
    found = np.zeros((n, steps, states[0].shape[1]))
    order = range(steps)
    for t in reversed(order) if reverse else order:
        after = step(p[:, t], *states)
        if mask is not None and mask.size:
            runs = mask[:, t, None] != 0
            after = [np.where(runs, new, old) for new, old in zip(after, states, strict=True)]
        states = after
        found[:, t] = states[0]
    return found


def zeros(p, w):
    return np.zeros((len(p), len(w)))


def rnn(p, w, mask=None, nonlinearity=0, reverse=0):
    def step(p, h):
        a = p + h @ w
        return (np.maximum(a, 0) if nonlinearity else np.tanh(a),)

    return scan(step, (zeros(p, w),), p, mask, reverse)


def lstm(p, w, mask=None, reverse=0):
    def step(p, h, c):
        i, f, g, o = np.split(p + h @ w, 4, axis=1)
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        return logistic(o) * np.tanh(c), c

    return scan(step, (zeros(p, w), zeros(p, w)), p, mask, reverse)


def gru(p, w, bn=None, mask=None, reverse=0):
    def step(p, h):
        hr, hz, hn = np.split(h @ w, 3, axis=1)
        pr, pz, pn = np.split(p, 3, axis=1)
        bias = bn if bn is not None and bn.size else 0.0
        r, z = logistic(pr + hr), logistic(pz + hz)
        n = np.tanh(pn + r * (hn + bias))
        return ((1 - z) * n + z * h,)

    return scan(step, (zeros(p, w),), p, mask, reverse)


OPS = {"rnn": rnn, "lstm": lstm, "gru": gru}
