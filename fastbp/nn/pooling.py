"""Poolings of sequences and images, channels last: over windows, and over all positions."""

from __future__ import annotations

import math
from typing import Any

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.nn.shapes import each, expect


class MaxPool1d(Module):
    """The largest element of each window of a sequence, in each channel.

    Parameters
    ----------
    kernel_size : int
        Positions of a window.
    stride : int, default=None
        Positions from one window to the next; None is kernel_size.
    padding : int, default=0
        Positions before and after each sample that no window takes its largest element from; at
        most half of kernel_size.

    Notes
    -----
    x is (n, length, channels), channels last, and y (n, (length + 2 padding - kernel_size) //
    stride + 1, channels). Of equal elements the first gets the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.MaxPool1d(2).build((6, 3))(np.ones((4, 6, 3), np.float32)).shape
    (4, 3, 3)
    """

    def __init__(self, kernel_size: int, *, stride: int | None = None, padding: int = 0) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding

    def forward(self, x: Any) -> Any:
        expect(self, x, 3, "wanted (n, length, channels)")
        return ops.max_pool(x, **_windows(self, 1))


class MaxPool2d(Module):
    """The largest element of each window of an image, in each channel.

    Parameters
    ----------
    kernel_size, stride, padding : int or tuple of two int
        As of `MaxPool1d`, for the height and the width.

    Notes
    -----
    x is (n, height, width, channels), channels last.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.MaxPool2d(2).build((6, 8, 3))(np.ones((4, 6, 8, 3), np.float32)).shape
    (4, 3, 4, 3)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding

    def forward(self, x: Any) -> Any:
        expect(self, x, 4, "wanted (n, height, width, channels)")
        return ops.max_pool(x, **_windows(self, 2))


class AvgPool1d(Module):
    """The mean of each window of a sequence, in each channel.

    Parameters
    ----------
    kernel_size, stride, padding : int
        As of `MaxPool1d`.
    count_include_pad : bool, default=True
        Whether padding counts, as zeros.

    Notes
    -----
    x is (n, length, channels), channels last.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.AvgPool1d(3, stride=1).build((6, 2))(np.ones((4, 6, 2), np.float32)).shape
    (4, 4, 2)
    """

    def __init__(
        self,
        kernel_size: int,
        *,
        stride: int | None = None,
        padding: int = 0,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        expect(self, x, 3, "wanted (n, length, channels)")
        counted = self.count_include_pad
        return ops.average_pool(x, **_windows(self, 1), count_include_pad=counted)


class AvgPool2d(Module):
    """The mean of each window of an image, in each channel.

    Parameters
    ----------
    kernel_size, stride, padding : int or tuple of two int
        As of `MaxPool1d`, for the height and the width.
    count_include_pad : bool, default=True
        Whether padding counts, as zeros.

    Notes
    -----
    x is (n, height, width, channels), channels last.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.AvgPool2d((2, 1)).build((6, 8, 3))(np.ones((4, 6, 8, 3), np.float32)).shape
    (4, 3, 8, 3)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        expect(self, x, 4, "wanted (n, height, width, channels)")
        counted = self.count_include_pad
        return ops.average_pool(x, **_windows(self, 2), count_include_pad=counted)


def _windows(layer: Any, n: int) -> dict[str, Any]:
    """The options of a pooling over n axes, as its row takes them."""
    name = type(layer).__name__
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return {
        "kernel": each(layer.kernel_size, n, f"{name}: kernel_size"),
        "stride": each(stride, n, f"{name}: stride"),
        "padding": each(layer.padding, n, f"{name}: padding"),
    }


# --------------------------------------------------------------------------------- whole samples


class GlobalAvgPool(Module):
    """The mean over all positions, in each channel (Lin, Chen and Yan 2013, arXiv:1312.4400).

    Notes
    -----
    x is (n, ..., channels), channels last, with at least one axis of positions, and y (n,
    channels).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.GlobalAvgPool().build((6, 8, 3))(np.ones((4, 6, 8, 3), np.float32)).shape
    (4, 3)
    """

    def forward(self, x: Any) -> Any:
        return ops.mean(x, _positions(self, x))


class GlobalMaxPool(Module):
    """The largest element over all positions, in each channel.

    Notes
    -----
    x is (n, ..., channels), channels last, with at least one axis of positions, and y (n,
    channels).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.GlobalMaxPool().build((6, 3))(np.ones((4, 6, 3), np.float32)).shape
    (4, 3)
    """

    def forward(self, x: Any) -> Any:
        return ops.max(x, _positions(self, x))


def _positions(layer: Module, x: Any) -> tuple[int, ...]:
    """The axes between that of the samples and that of the channels."""
    if len(x.shape) < 3:
        raise ValueError(
            f"{type(layer).__name__}: found an input of shape {x.shape}, wanted positions between "
            "samples and channels: (n, length, channels) or (n, height, width, channels)"
        )
    return tuple(range(1, len(x.shape) - 1))


class Flatten(Module):
    """Each sample as one row: (n, ...) becomes (n, features), the last axis running fastest.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.Flatten().build((6, 8, 3))(np.ones((4, 6, 8, 3), np.float32)).shape
    (4, 144)
    """

    def forward(self, x: Any) -> Any:
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
