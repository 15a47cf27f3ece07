"""Attention, and the block of a transformer that is made of it."""

from __future__ import annotations

from typing import Any

from fastbp import ops
from fastbp.nn.dropout import Dropout
from fastbp.nn.initializers import Blocks
from fastbp.nn.made import activation_of
from fastbp.nn.module import Module
from fastbp.nn.norms import LayerNorm
from fastbp.nn.shapes import at_least_one, expect


class MultiheadAttention(Module):
    """Each position's mean of values, weighted by how its query meets the keys, in several heads.

    softmax(q k^T / sqrt(width / num_heads)) v for each head, with q, k and v linear in the inputs,
    and a linear layer over all heads (Vaswani et al. 2017, arXiv:1706.03762). Memory grows with the
    length, not with its square: backward forms the weights again.

    Parameters
    ----------
    num_heads : int
        A divisor of the width.
    causal : bool, default=False
        Whether position i attends to keys 0 to i alone.
    bias : bool, default=True
        Whether the linear layers have biases, which start from zeros.
    init : str, float or Initializer, default="glorot_uniform"
        What the weights of q, k, v and of the output start from, each as a matrix of its own.
        The default is the paper's: nothing but a softmax between the layers bends what they pass.

    Notes
    -----
    Called with query (n, length, width) alone it attends to itself; else with key (n, keys,
    features) and value (n, keys, features'), of which value is key where it is left out. mask (n,
    keys) has 1 for each key that counts and 0 for padding, the opposite of PyTorch's
    `key_padding_mask`; a query that has no key gets zeros. The result has the shape of query.
    Parameters are in_proj_weight (width, 3 width), the weights of q, k and v side by side, or
    q_proj_weight, k_proj_weight and v_proj_weight where there is a key, and out_proj_weight.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.MultiheadAttention(2).build({"query": (5, 8), "mask": (5,)})
    >>> x, mask = np.ones((3, 5, 8), np.float32), np.ones((3, 5), np.float32)
    >>> layer(x, mask=mask).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        *,
        causal: bool = False,
        bias: bool = True,
        init: Any = "glorot_uniform",
    ) -> None:
        self.num_heads = num_heads
        self.causal = causal
        self.bias = bias
        self.init = init

    def forward(self, query: Any, key: Any = None, value: Any = None, mask: Any = None) -> Any:
        expect(self, query, 3, "wanted query of shape (n, length, width)")
        width = query.shape[2]
        at_least_one(self, "num_heads")
        if width % self.num_heads:
            raise ValueError(
                f"MultiheadAttention: num_heads: found {self.num_heads}, wanted a divisor of the "
                f"width {width}"
            )
        if key is None:
            if value is not None:
                raise TypeError("MultiheadAttention: found a value without a key, wanted both")
            packed = self._linear("in_proj", query, 3 * width, Blocks(self.init, 3))
            heads = {"heads": self.num_heads, "causal": self.causal}
            y = ops.self_attention(packed, mask, **heads)
        else:
            y = self._attend(query, key, key if value is None else value, mask)
        return self._linear("out_proj", y, width, self.init)

    def _attend(self, query: Any, key: Any, value: Any, mask: Any) -> Any:
        for x, name in ((key, "key"), (value, "value")):
            expect(self, x, 3, f"wanted {name} of shape (n, keys, features)")
        q, k, v = (
            self._linear(f"{name}_proj", x, query.shape[2], self.init)
            for name, x in (("q", query), ("k", key), ("v", value))
        )
        return ops.attention(q, k, v, mask, heads=self.num_heads, causal=self.causal)

    def _linear(self, name: str, x: Any, width: int, init: Any) -> Any:
        return linear(self, name, x, width, init, bias=self.bias)


class TransformerBlock(Module):
    """Attention, then two linear layers at each position, each beside a way past it.

    x + attention(norm(x)), then x + linear2(activation(linear1(norm(x)))): the norm first, which
    keeps deep stacks trainable without warm-up (Xiong et al. 2020, arXiv:2002.04745). With
    norm_first=False it is norm(x + attention(x)) and so on, as in Vaswani et al. 2017. A stack of
    blocks with the norm first ends with a norm of its own.

    Parameters
    ----------
    num_heads : int
        A divisor of the width.
    dim_feedforward : int, default=None
        Units between the linear layers; None is 4 times the width.
    dropout : float, default=0.0
        In [0, 1): of what each half adds to x, and behind the activation. (Not of the weights of
        attention, which are nowhere as a whole.)
    activation : str or Module, default="gelu"
        The name of an activation's row, or a module.
    norm_first : bool, default=True
    causal : bool, default=False
        Whether position i attends to positions 0 to i alone.
    bias : bool, default=True
        Whether the linear layers have biases.
    init : str, float or Initializer, default="glorot_uniform"
        What all weights start from; as of `MultiheadAttention`.

    Notes
    -----
    x is (n, length, width), mask, a further input, (n, length) with 0 for padding.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> network = nn.Sequential(nn.TransformerBlock(2, causal=True), nn.LayerNorm()).build((5, 8))
    >>> network(np.ones((3, 5, 8), np.float32)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        dim_feedforward: int | None = None,
        *,
        dropout: float = 0.0,
        activation: Any = "gelu",
        norm_first: bool = True,
        causal: bool = False,
        bias: bool = True,
        init: Any = "glorot_uniform",
    ) -> None:
        self.num_heads = num_heads
        self.dim_feedforward = dim_feedforward
        self.dropout = dropout
        self.activation = activation
        self.norm_first = norm_first
        self.causal = causal
        self.bias = bias
        self.init = init
        self.self_attn = MultiheadAttention(num_heads, causal=causal, bias=bias, init=init)
        self.norm1, self.norm2 = LayerNorm(bias=bias), LayerNorm(bias=bias)
        self._activation = activation_of(activation, "TransformerBlock: activation")

    def forward(self, x: Any, mask: Any = None) -> Any:
        expect(self, x, 3, "wanted (n, length, width)")
        if self.dim_feedforward is not None:
            at_least_one(self, "dim_feedforward")
        if self.norm_first:
            x = x + self._drop(self.self_attn(self.norm1(x), mask=mask))
            return x + self._drop(self._feedforward(self.norm2(x)))
        x = self.norm1(x + self._drop(self.self_attn(x, mask=mask)))
        return self.norm2(x + self._drop(self._feedforward(x)))

    def _feedforward(self, x: Any) -> Any:
        width = x.shape[2]
        units = 4 * width if self.dim_feedforward is None else self.dim_feedforward
        y = self._activation(linear(self, "linear1", x, units, self.init, bias=self.bias))
        return linear(self, "linear2", self._drop(y), width, self.init, bias=self.bias)

    def _drop(self, x: Any) -> Any:
        return Dropout(self.dropout)(x) if self.dropout else x


def linear(module: Module, name: str, x: Any, width: int, init: Any, *, bias: bool) -> Any:
    """x W + b with parameters of the module, where the width is known in forward alone."""
    w = module.parameter(f"{name}_weight", (x.shape[-1], width), init)
    return ops.linear(x, w, module.parameter(f"{name}_bias", (width,)) if bias else None)
