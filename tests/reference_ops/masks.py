"""Random masks."""

import numpy as np

from reference_ops.philox import mask_draws


def kept(shape, p, draws):
    """Where elements are kept, of samples from draws[3] or 0 on."""
    first = draws[3] if len(draws) > 3 else 0
    n = int(np.prod(shape))
    positions = first * (n // max(1, shape[0])) + np.arange(n)
    return mask_draws(*draws[:3], positions).reshape(shape) >= round(p * 2**32)


def dropout(x, *, draws, training, p=0.5):
    return np.where(kept(x.shape, p, draws), x / (1 - p), 0) if training else x


def alpha_dropout(x, *, draws, training, p=0.5):
    if not training:
        return x
    q = 1 - p
    limit = -1.7580993408473768  # of selu for -infinity
    a = 1 / np.sqrt(q + limit**2 * q * (1 - q))
    b = -a * (1 - q) * limit
    return a * np.where(kept(x.shape, p, draws), x, limit) + b


OPS = {"dropout": dropout, "alpha_dropout": alpha_dropout}
