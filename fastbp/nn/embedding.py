"""Integers as vectors, and what tells positions apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _core, ops
from fastbp.nn.initializers import Normal
from fastbp.nn.module import Module
from fastbp.nn.shapes import at_least_one, expect


class Embedding(Module):
    """y = weight[x]: a row of a table for each integer.

    Parameters
    ----------
    num_embeddings : int
        Rows: x is from 0 to below it, or counts from the end as NumPy's indices do.
    embedding_dim : int
        The width of y.
    padding_idx : int, default=None
        The row that is read as zeros and that training leaves alone.
    init : str, float, Initializer or ndarray, default=Normal(1)
        What weight (num_embeddings, embedding_dim) starts from. The default gives each vector the
        mean square 1 that layers behind it are made for; an array of that shape holds vectors
        trained elsewhere.

    Notes
    -----
    x is (n, ...) of integers, y (n, ..., embedding_dim). To build, pass an array of integers, or
    `nn.Input(shape, "index")`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> tokens = np.array([[2, 0, 1], [1, 1, 0]])
    >>> nn.Embedding(3, 4).build(tokens)(tokens).shape
    (2, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        init: Any = Normal(1.0),  # noqa: B008  # a frozen value
    ) -> None:
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.init = init

    def forward(self, x: Any) -> Any:
        at_least_one(self, "num_embeddings", "embedding_dim")
        w = self.parameter("weight", (self.num_embeddings, self.embedding_dim), self.init)
        y = ops.embedding(x, w)
        if self.padding_idx is None:
            return y
        if not 0 <= self.padding_idx < self.num_embeddings:
            raise ValueError(
                f"Embedding: padding_idx: found {self.padding_idx}, wanted one from 0 to "
                f"{self.num_embeddings - 1}"
            )
        counts = np.ones((self.num_embeddings, 1), w.dtype)
        counts[self.padding_idx] = 0.0
        return y * ops.embedding(x, counts)


class SinusoidalEncoding(Module):
    """x + P, where P[t, 2 i] = sin(t / base**(2 i / width)), P[t, 2 i + 1] = cos of the same.

    Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762. Nothing is learnt.

    Parameters
    ----------
    base : float, default=10000.0
        Above 1: wavelengths go from 2 pi to 2 pi base.

    Notes
    -----
    x is (n, length, width).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.SinusoidalEncoding().build((3, 2))
    >>> layer(np.zeros((1, 3, 2), np.float32)).data[0, 1].round(4).tolist()
    [0.8414999842643738, 0.5403000116348267]
    """

    def __init__(self, *, base: float = 10000.0) -> None:
        self.base = base

    def forward(self, x: Any) -> Any:
        expect(self, x, 3, "wanted (n, length, width)")
        if not self.base > 1:
            raise ValueError(f"SinusoidalEncoding: base: found {self.base!r}, wanted more than 1")
        return x + _waves(x.shape[1], x.shape[2], self.base).astype(x.dtype)


def _waves(length: int, width: int, base: float) -> NDArray[np.float64]:
    place = np.arange(width)
    angles = np.arange(length)[:, None] / base ** (place // 2 * 2 / width)
    # In turns of pi, of which a sine is half a one behind its cosine.
    return _core.elementary("cospi", angles / np.pi - np.where(place % 2 == 0, 0.5, 0.0))


class LearntEncoding(Module):
    """x + weight: a vector for each position, learnt.

    Parameters
    ----------
    init : str, float, Initializer or ndarray, default=Normal(0.02)
        What weight (length, width) starts from: by default vectors that are small beside the
        embeddings that they are added to (Radford et al. 2018, GPT).

    Notes
    -----
    x is (n, length, width).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.LearntEncoding().build((3, 2))
    >>> layer.parameters()["weight"].shape
    (3, 2)
    """

    def __init__(self, *, init: Any = Normal(0.02)) -> None:  # noqa: B008  # a frozen value
        self.init = init

    def forward(self, x: Any) -> Any:
        expect(self, x, 3, "wanted (n, length, width)")
        return x + self.parameter("weight", x.shape[1:], self.init)
