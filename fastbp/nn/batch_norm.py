"""Normalisation by the moments of a batch, which running ones stand for outside of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.nn.norms import affine
from fastbp.nn.runs import current
from fastbp.nn.shapes import expect


class BatchNorm1d(Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, of each channel over the whole batch.

    Ioffe and Szegedy 2015, arXiv:1502.03167. In training the moments are those of the batch, over
    samples and positions, with the biased variance; they depend on all samples alike, also on
    padding and whatever the samples' weights. Otherwise they are running_moments, which in training
    move by a share of momentum towards those of each batch, with the unbiased variance. Where these
    are frozen (`freeze`), they are taken in training too.

    Parameters
    ----------
    eps : float, default=1e-5
        Above 0: keeps what varies little from being blown up.
    momentum : float, default=0.1
        In [0, 1]: the share of a batch in the running moments.
    affine : bool, default=True
        Whether weight and bias (channels,) are learnt; they start from ones and zeros, so that the
        layer starts as nothing but its formula.

    Notes
    -----
    x is (n, channels) or (n, length, channels), channels last. running_moments (2, channels), mean
    and variance, starts from 0 and 1; a batch of one row, which has no unbiased variance, leaves it
    as it is. Accumulated batches are not one large batch: each has moments of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.BatchNorm1d(momentum=0.5).build(1, dtype=np.float64)
    >>> layer(np.array([[1.0], [3.0]])).data.round(4).tolist()
    [[-1.0], [1.0]]
    >>> layer.parameters()["running_moments"].data.tolist()
    [[1.0], [1.5]]
    """

    def __init__(self, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        self.eps = eps
        self.momentum = momentum
        self.affine = affine

    def forward(self, x: Any) -> Any:
        if len(x.shape) != 2:
            expect(self, x, 3, "wanted (n, channels) or (n, length, channels)")
        return _normalise(self, x)


class BatchNorm2d(Module):
    """`BatchNorm1d` of images: over samples, height and width.

    Parameters
    ----------
    eps, momentum, affine
        As of `BatchNorm1d`.

    Notes
    -----
    x is (n, height, width, channels), channels last.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.BatchNorm2d().build((5, 6, 3))(np.ones((4, 5, 6, 3), np.float32)).shape
    (4, 5, 6, 3)
    """

    def __init__(self, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        self.eps = eps
        self.momentum = momentum
        self.affine = affine

    def forward(self, x: Any) -> Any:
        expect(self, x, 4, "wanted (n, height, width, channels)")
        return _normalise(self, x)


def _normalise(layer: Any, x: Any) -> Any:
    channels, momentum = x.shape[-1], layer.momentum
    if not 0 <= momentum <= 1:
        name = type(layer).__name__
        raise ValueError(f"{name}: momentum: found {momentum!r}, wanted a number from 0 to 1")

    moments = current(type(layer).__name__).follow(
        layer,
        "running_moments",
        "moments",
        x,
        init=np.repeat([[0.0], [1.0]], channels, axis=1),
        momentum=float(momentum),
    )
    scaled = affine(layer, channels) if layer.affine else ()
    return ops.normalize(x, moments, *scaled, epsilon=layer.eps)
