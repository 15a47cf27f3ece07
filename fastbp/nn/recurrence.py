"""Recurrent layers: the same weights from step to step, forward or in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp import ops
from fastbp.nn.dropout import Dropout
from fastbp.nn.initializers import Blocks
from fastbp.nn.module import Module
from fastbp.nn.shapes import at_least_one, choose, expect

_NONLINEARITIES = ("tanh", "relu")


class RNN(Module):
    """h[t] = tanh(x[t] W + b + h[t - 1] U), from h = 0 (Elman 1990).

    Parameters
    ----------
    hidden_size : int
        The width of h.
    num_layers : int, default=1
        Layers on top of each other, each over all steps of the one below.
    nonlinearity : {"tanh", "relu"}, default="tanh"
    bias : bool, default=True
        Whether b is added.
    dropout : float, default=0.0
        In [0, 1): of what passes from one layer to the next.
    bidirectional : bool, default=False
        Whether each layer also runs from the last step to the first, with weights of its own; the
        results of both lie side by side.
    output : {"all", "last"}, default="all"
        The states of the highest layer after each step, (n, steps, width), or those in which its
        directions end, (n, width): after the last step, backwards after the first.
    init : str, float or Initializer, default="glorot_uniform"
        What W starts from. The default keeps the mean square of what tanh and logistic bend
        (Glorot and Bengio 2010); b starts from zeros.
    recurrent_init : str, float or Initializer, default="orthogonal"
        What U starts from: an orthogonal matrix neither stretches nor shrinks a state, however many
        steps it passes (Saxe et al. 2014, arXiv:1312.6120).

    Notes
    -----
    x is (n, steps, features). mask, a further input of shape (n, steps), is 0 where the state stays
    as it is: of sequences of different lengths, padded at the end, the last state then is that
    after the last step that counts. Gradients through many steps vanish or explode (Bengio, Simard
    and Frasconi 1994): see `LSTM`, and clip them. Parameters of layer k are weight_ih_lk (features,
    hidden), weight_hh_lk and bias_lk, those of the other direction end in _reverse.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.RNN(4, num_layers=2, bidirectional=True).build((6, 3))
    >>> layer(np.ones((5, 6, 3), np.float32)).shape
    (5, 6, 8)
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        output: str = "all",
        init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.nonlinearity = nonlinearity
        self.bias = bias
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.output = output
        self.init = init
        self.recurrent_init = recurrent_init

    def forward(self, x: Any, mask: Any = None) -> Any:
        choose(self.nonlinearity, _NONLINEARITIES, "RNN: nonlinearity")
        bent = _NONLINEARITIES.index(self.nonlinearity)

        def scan(p: Any, name: str, reverse: bool) -> Any:
            return ops.rnn(p, _recurrent(self, name, 1), mask, nonlinearity=bent, reverse=reverse)

        return _run(self, x, (0.0,), scan)


class LSTM(Module):
    """Recurrent layers with a memory that gates write, keep and read.

    c = f c + i g and h = o tanh(c), with the gates i, f, o logistic and g tanh, each of x W + b + h
    U (Hochreiter and Schmidhuber 1997; the gate f of Gers, Schmidhuber and Cummins 2000).

    Parameters
    ----------
    hidden_size, num_layers, bias, dropout, bidirectional, output
        As of `RNN`.
    init, recurrent_init : str, float or Initializer
        As of `RNN`, of the matrix of each gate apart.
    forget_bias : float, default=1.0
        What b of the gate f starts from: above 0 the memory is kept at first, so that gradients
        reach back over many steps (Jozefowicz, Zaremba and Sutskever 2015).

    Notes
    -----
    Inputs, results and parameters are as those of `RNN`, with the gates i, f, g, o side by side in
    weight_ih (features, 4 hidden), weight_hh and bias. PyTorch has a second bias, of no effect.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> layer = nn.LSTM(4, output="last").build({"x": (6, 3), "mask": (6,)})
    >>> x, mask = np.ones((5, 6, 3), np.float32), np.ones((5, 6), np.float32)
    >>> layer(x=x, mask=mask).shape
    (5, 4)
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        output: str = "all",
        init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
        forget_bias: float = 1.0,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.output = output
        self.init = init
        self.recurrent_init = recurrent_init
        self.forget_bias = forget_bias

    def forward(self, x: Any, mask: Any = None) -> Any:
        def scan(p: Any, name: str, reverse: bool) -> Any:
            return ops.lstm(p, _recurrent(self, name, 4), mask, reverse=reverse)

        return _run(self, x, (0.0, self.forget_bias, 0.0, 0.0), scan)


class GRU(Module):
    """Recurrent layers whose gates say how much of the state is new.

    h = (1 - z) n + z h with n = tanh(x W + b + r (h U + bn)) and the gates r, z logistic of x W + b
    + h U (Cho et al. 2014, arXiv:1406.1078, with the reset gate behind the product, as in PyTorch
    and cuDNN).

    Parameters
    ----------
    hidden_size, num_layers, bias, dropout, bidirectional, output
        As of `RNN`.
    init, recurrent_init : str, float or Initializer
        As of `RNN`, of the matrix of each gate apart.

    Notes
    -----
    Inputs, results and parameters are as those of `RNN`, with the gates r, z, n side by side in
    weight_ih (features, 3 hidden), weight_hh and bias, and bias_hn (hidden,) for bn.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.GRU(4).build((6, 3))(np.ones((5, 6, 3), np.float32)).shape
    (5, 6, 4)
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        output: str = "all",
        init: Any = "glorot_uniform",
        recurrent_init: Any = "orthogonal",
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.output = output
        self.init = init
        self.recurrent_init = recurrent_init

    def forward(self, x: Any, mask: Any = None) -> Any:
        def scan(p: Any, name: str, reverse: bool) -> Any:
            w = _recurrent(self, name, 3)
            bn = None
            if self.bias:
                bn = self.parameter(f"bias_hn_{name}", (self.hidden_size,))
            elif mask is not None:
                bn = np.zeros(0, p.dtype)  # what the row takes for none before a mask
            return ops.gru(p, w, bn, mask, reverse=reverse)

        return _run(self, x, (0.0, 0.0, 0.0), scan)


def _recurrent(layer: Any, name: str, gates: int) -> Any:
    h = layer.hidden_size
    return layer.parameter(f"weight_hh_{name}", (h, gates * h), Blocks(layer.recurrent_init, gates))


def _run(layer: Any, x: Any, biases: tuple[float, ...], scan: Callable[..., Any]) -> Any:
    """All layers and directions; `scan` runs one over what the inputs add to its gates.

    `biases` are what the gates' b start from.
    """
    kind = type(layer).__name__
    expect(layer, x, 3, "wanted (n, steps, features)")
    choose(layer.output, ("all", "last"), f"{kind}: output")
    at_least_one(layer, "hidden_size", "num_layers")
    gates, width = len(biases), len(biases) * layer.hidden_size
    directions = (False, True) if layer.bidirectional else (False,)
    for level in range(layer.num_layers):
        if level > 0 and layer.dropout:
            x = Dropout(layer.dropout)(x)
        made = []
        for reverse in directions:
            name = f"l{level}_reverse" if reverse else f"l{level}"
            init = Blocks(layer.init, gates)
            w = layer.parameter(f"weight_ih_{name}", (x.shape[2], width), init)
            b = None
            if layer.bias:
                b = layer.parameter(f"bias_{name}", (width,), np.repeat(biases, layer.hidden_size))
            made.append(scan(ops.linear(x, w, b), name, reverse))
        if layer.output == "last" and level == layer.num_layers - 1:
            ends = (0 if reverse else -1 for reverse in directions)
            made = [ops.pick(h, (slice(None), end)) for h, end in zip(made, ends, strict=True)]
        x = ops.concatenate(made, axis=-1) if len(made) > 1 else made[0]
    return x
