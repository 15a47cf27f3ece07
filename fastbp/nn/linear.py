"""The dense layer."""

from __future__ import annotations

from typing import Any

from fastbp import ops
from fastbp.nn.module import Module


class Linear(Module):
    """y = x W + b, at each position of each sample.

    Parameters
    ----------
    out_features : int
        The width of y. That of x is found out when the network is built.
    bias : bool, default=True
        Whether b is added.
    init : str, float or Initializer, default="he_uniform"
        What W (in_features, out_features) starts from. The default keeps the
        variance of activations through relu layers (He et al. 2015, arXiv:1502.01852).
    bias_init : str, float or Initializer, default="zeros"
        What b (out_features,) starts from.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.Linear(3).build(5)(np.ones((2, 5), np.float32)).shape
    (2, 3)
    """

    def __init__(
        self,
        out_features: int,
        *,
        bias: bool = True,
        init: Any = "he_uniform",
        bias_init: Any = "zeros",
    ) -> None:
        self.out_features = out_features
        self.bias = bias
        self.init = init
        self.bias_init = bias_init

    def forward(self, x: Any) -> Any:
        w = self.parameter("weight", (x.shape[-1], self.out_features), self.init)
        if not self.bias:
            return ops.linear(x, w)
        return ops.linear(x, w, self.parameter("bias", (self.out_features,), self.bias_init))
