"""Convolutions over sequences and images, channels last."""

from __future__ import annotations

from typing import Any

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.nn.shapes import at_least_one, each, expect


class Conv1d(Module):
    """y[i] = sum over taps k of x[stride i + dilation k - padding] W[k], plus b.

    Parameters
    ----------
    out_channels : int
        The number of filters.
    kernel_size : int
        Taps of each filter.
    stride : int, default=1
        Positions from one window to the next.
    padding : int or {"valid", "same"}, default=0
        Zeros before and after each sample. "same" keeps the length, with stride 1 and where
        dilation * (kernel_size - 1) is even; "valid" is 0.
    dilation : int, default=1
        Positions from one tap to the next.
    groups : int, default=1
        Equal parts of the channels, each with filters of its own; a divisor of both numbers of
        channels.
    bias : bool, default=True
        Whether b is added.
    init : str, float, Initializer or ndarray, default="he_uniform"
        What W (kernel_size, in_channels / groups, out_channels) starts from; b starts from zeros.
        The default keeps the mean square of activations through relu layers (He et al. 2015,
        arXiv:1502.01852).

    Notes
    -----
    x is (n, length, in_channels), channels last (PyTorch has them second), and y (n, length',
    out_channels) with length' = (length + 2 padding - dilation (kernel_size - 1) - 1) // stride +
    1. As in the field, the kernel is not turned round.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.Conv1d(4, 3, stride=2).build((9, 2))(np.ones((5, 9, 2), np.float32)).shape
    (5, 4, 4)
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        init: Any = "he_uniform",
    ) -> None:
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.bias = bias
        self.init = init

    def forward(self, x: Any) -> Any:
        expect(self, x, 3, "wanted (n, length, channels)")
        return _convolve(self, x, 1)


class Conv2d(Module):
    """y[i, j] = sum over taps of x[stride (i, j) + dilation tap - padding] W[tap], plus b.

    LeCun et al. 1998, "Gradient-based learning applied to document recognition".

    Parameters
    ----------
    out_channels : int
        The number of filters.
    kernel_size, stride, padding, dilation : int or tuple of two int
        As of `Conv1d`, for the height and the width; padding also "valid" or "same".
    groups : int, default=1
        Equal parts of the channels, each with filters of its own: as many as there are channels
        make a depthwise convolution.
    bias : bool, default=True
        Whether b is added.
    init : str, float, Initializer or ndarray, default="he_uniform"
        What W (height, width, in_channels / groups, out_channels) starts from; b starts from zeros.
        For the default see `Conv1d`.

    Notes
    -----
    x is (n, height, width, in_channels), channels last (PyTorch has them second), and y (n,
    height', width', out_channels).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.Conv2d(16, 3, padding="same").build((28, 28, 1))
    >>> layer(np.ones((2, 28, 28, 1), np.float32)).shape
    (2, 28, 28, 16)
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: Any = "he_uniform",
    ) -> None:
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.bias = bias
        self.init = init

    def forward(self, x: Any) -> Any:
        expect(self, x, 4, "wanted (n, height, width, channels)")
        return _convolve(self, x, 2)


def _convolve(layer: Any, x: Any, n: int) -> Any:
    """Either layer, over n axes."""
    at_least_one(layer, "out_channels", "groups")
    name, channels, groups = type(layer).__name__, x.shape[-1], layer.groups
    kernel, stride, dilation = (
        each(getattr(layer, option), n, f"{name}: {option}")
        for option in ("kernel_size", "stride", "dilation")
    )
    padding = _padding(layer, n, kernel, stride, dilation)
    if channels % groups or layer.out_channels % groups:
        raise ValueError(
            f"{name}: groups: found {groups}, wanted a divisor of the {channels} channels of the "
            f"input and of the {layer.out_channels} of the output"
        )
    shape = (*kernel, channels // groups, layer.out_channels)
    w = layer.parameter("weight", shape, layer.init)
    b = layer.parameter("bias", (layer.out_channels,)) if layer.bias else None
    return ops.conv(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _padding(
    layer: Any, n: int, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    name, given = type(layer).__name__, layer.padding
    if given == "valid":
        return (0,) * n
    if given != "same":
        if isinstance(given, str):
            raise ValueError(f"{name}: padding: found {given!r}, wanted ints, 'valid' or 'same'")
        return each(given, n, f"{name}: padding")
    around = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(zeros % 2 for zeros in around) or stride != (1,) * n:
        raise ValueError(
            f"{name}: padding: found 'same' with kernel_size {layer.kernel_size}, dilation "
            f"{layer.dilation} and stride {layer.stride}, wanted stride 1 and an even "
            "dilation * (kernel_size - 1), so that both sides get as much"
        )
    return tuple(zeros // 2 for zeros in around)
