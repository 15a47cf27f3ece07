"""Normalisation of each sample by itself: no sample depends on another."""

from __future__ import annotations

from typing import Any

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.nn.shapes import at_least_one, expect_width


class LayerNorm(Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, over the features of each position.

    Ba, Kiros and Hinton 2016, arXiv:1607.06450. The variance is the mean squared distance from the
    mean.

    Parameters
    ----------
    eps : float, default=1e-5
        Above 0: keeps what varies little from being blown up.
    elementwise_affine : bool, default=True
        Whether weight and bias (features,) are learnt; they start from ones and zeros, so that the
        layer starts as nothing but its formula.
    bias : bool, default=True
        Whether there is a bias beside the weight.

    Notes
    -----
    x is (n, ..., features).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.LayerNorm().build(2, dtype=np.float64)(np.array([[3.0, 5.0]])).data.round(4).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self, *, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.bias = bias

    def forward(self, x: Any) -> Any:
        width = expect_width(self, x)
        return ops.layer_norm(x, *_affine(self, width, self.bias), epsilon=self.eps)


class RMSNorm(Module):
    """y = x / sqrt(mean square + eps) * weight, over the features of each position.

    Zhang and Sennrich 2019, arXiv:1910.07467.

    Parameters
    ----------
    eps : float, default=1e-6
        Above 0.
    elementwise_affine : bool, default=True
        Whether weight (features,) is learnt; it starts from ones.

    Notes
    -----
    x is (n, ..., features).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.RMSNorm().build(2, dtype=np.float64)(np.array([[3.0, 3.0]])).data.round(4).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, *, eps: float = 1e-6, elementwise_affine: bool = True) -> None:
        self.eps = eps
        self.elementwise_affine = elementwise_affine

    def forward(self, x: Any) -> Any:
        width = expect_width(self, x)
        return ops.rms_norm(x, *_affine(self, width, bias=False), epsilon=self.eps)


class GroupNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over positions and a group of channels.

    Wu and He 2018, arXiv:1803.08494. One group is layer normalisation of images, as many as there
    are channels instance normalisation.

    Parameters
    ----------
    num_groups : int
        Equal parts of the channels: a divisor of their number.
    eps : float, default=1e-5
        Above 0.
    affine : bool, default=True
        Whether weight and bias (channels,) are learnt; they start from ones and zeros.

    Notes
    -----
    x is (n, ..., channels), channels last.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.GroupNorm(2).build((5, 5, 6))(np.ones((3, 5, 5, 6), np.float32)).shape
    (3, 5, 5, 6)
    """

    def __init__(self, num_groups: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        self.num_groups = num_groups
        self.eps = eps
        self.affine = affine

    def forward(self, x: Any) -> Any:
        channels = expect_width(self, x)
        at_least_one(self, "num_groups")
        if channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_groups: found {self.num_groups}, wanted a divisor of the "
                f"{channels} channels"
            )
        scaled = affine(self, channels) if self.affine else ()
        return ops.group_norm(x, *scaled, groups=self.num_groups, epsilon=self.eps)


def affine(layer: Module, width: int) -> tuple[Any, Any]:
    """The learnt scale and shift of each channel."""
    return layer.parameter("weight", (width,), 1.0), layer.parameter("bias", (width,))


def _affine(layer: Any, width: int, bias: bool) -> tuple[Any, ...]:
    if not layer.elementwise_affine:
        return ()
    return affine(layer, width) if bias else (layer.parameter("weight", (width,), 1.0),)
