"""The network of a multilayer perceptron: linear layers, and what an architecture has after them.

Starting weights are scikit-learn's in distribution. Labels, losses and training are others' affair.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from fastbp.estimators.architecture import Architecture, Row
from fastbp.estimators.built import BuiltNetwork
from fastbp.nn.containers import Sequential
from fastbp.nn.initializers import INITIALIZERS, Constant, Initializer, Uniform, VarianceScaling
from fastbp.nn.linear import Linear
from fastbp.nn.module import Module
from fastbp.nn.parameter import Array
from fastbp.nn.tracing import Input

# scikit-learn draws biases too with its initialiser, and narrows its bounds by sqrt(3) for this
# activation; so does the same name here.
_AS_SKLEARN, _NARROW, _NARROWING = "glorot_uniform", "logistic", 1.0 / 3.0


def _starts(name: str, activation: str, n_in: int, n_out: int) -> tuple[Initializer, Initializer]:
    """What the weights and the biases of a layer start from.

    "glorot_uniform" is as in scikit-learn: both from (-b, b), b = sqrt(6 / (n_in + n_out)), or
    sqrt(2 / (n_in + n_out)) for logistic layers. With all others biases start at zero.
    """
    scaling = INITIALIZERS[name]
    if name != _AS_SKLEARN:
        return scaling, Constant(0.0)
    if activation == _NARROW:
        scaling = VarianceScaling(scaling.scale * _NARROWING, scaling.mode, scaling.uniform)
    return scaling, Uniform(float(np.sqrt(3.0 * scaling.variance(n_in, n_out))))


class MultilayerNetwork(BuiltNetwork):
    """A dense network with a loss, built.

    Parameters
    ----------
    sizes : tuple of int
        Units of every layer, the inputs first.
    architecture : Architecture
        What the hidden layers are made of.
    loss : tuple of (str, dict of str to float)
        A row of the engine's table and those of its attributes that are not at their default.
    weight_init : str
        A name of `nn.init`.
    seed : int
        Of starting weights.
    dtype : float32 or float64
    sparse : bool, default=False
        Whether the samples at hand are CSR.
    flat : ndarray of shape (n_params,), default=None
        What holds the weights, as they are there; None: they are drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.estimators.architecture import Architecture
    >>> from fastbp.estimators.multilayer import MultilayerNetwork
    >>> tanh = Architecture((("tanh", {}), ("tanh", {})), (0.0,))
    >>> loss = "squared_error", {}
    >>> network = MultilayerNetwork((2, 3, 1), tanh, loss, "he_normal", 0, np.dtype("float32"))
    >>> network.settle().size
    13
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        architecture: Architecture,
        loss: Row,
        weight_init: str,
        seed: int,
        dtype: np.dtype[Any],
        *,
        sparse: bool = False,
        flat: Array | None = None,
    ) -> None:
        self.sizes, self.architecture, self.weight_init = sizes, architecture, weight_init
        layers: list[Module] = []
        for place, (n_in, n_out) in enumerate(pairwise(sizes)):
            weight, bias = _starts(weight_init, architecture.activations[place][0], n_in, n_out)
            linear = Linear(n_out, init=weight, bias_init=bias)
            is_last = place == len(sizes) - 2
            layers += [linear] if is_last else architecture.hidden(place, linear, n_in)
        module = Sequential(*layers)
        given = Input(sizes[:1], "sparse" if sparse else "real")
        traced = module._build(given, seed, dtype, flat=flat)
        super().__init__(module, loss, None, sizes[-1], traced)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where in the buffer each linear layer's weights begin, which its biases follow."""
        linear = (one for one in self.module.modules().values() if isinstance(one, Linear))
        return tuple(one._parameters["weight"]._offset for one in linear)

    def settle(self) -> Array:
        return self.home.settle()

    def samples(self, X: Any) -> Any:
        """As they are: estimators have checked them, and plans take any strides."""
        return X
