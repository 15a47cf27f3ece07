"""The network of a multilayer perceptron: linear layers with one activation between them.

Starting weights are scikit-learn's in distribution. Labels, losses and training are others' affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Self

import numpy as np

from fastbp.estimators.built import BuiltNetwork
from fastbp.nn.containers import Sequential
from fastbp.nn.initializers import INITIALIZERS, Constant, Initializer, Uniform, VarianceScaling
from fastbp.nn.linear import Linear
from fastbp.nn.made import activation_of
from fastbp.nn.module import Module
from fastbp.nn.parameter import Array
from fastbp.nn.tracing import Input

Row = tuple[str, Mapping[str, float]]

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
    activation, loss : tuple of (str, dict of str to float)
        A row of the engine's table and those of its attributes that are not at their default.
    weight_init : str
        A name of `nn.init`.
    seed : int
        Of starting weights.
    dtype : float32 or float64
    sparse : bool, default=False
        Whether the samples at hand are CSR.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.estimators.multilayer import MultilayerNetwork
    >>> rows = ("tanh", {}), ("squared_error", {})
    >>> network = MultilayerNetwork((2, 3, 1), *rows, "he_normal", 0, np.dtype("float32"))
    >>> network.settle().size
    13
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        activation: Row,
        loss: Row,
        weight_init: str,
        seed: int,
        dtype: np.dtype[Any],
        *,
        sparse: bool = False,
    ) -> None:
        self.sizes, self.activation = sizes, activation
        name, attributes = activation
        layers: list[Module] = []
        for n_in, n_out in pairwise(sizes):
            if layers and name != "identity":
                layers.append(activation_of(name, "activation").set_params(**attributes))
            weight, bias = _starts(weight_init, name, n_in, n_out)
            layers.append(Linear(n_out, init=weight, bias_init=bias))
        module = Sequential(*layers)
        traced = module._build(Input(sizes[:1], "sparse" if sparse else "real"), seed, dtype)
        super().__init__(module, loss, None, sizes[-1], traced)

    def lying_in(self, flat: Array) -> Self:
        """This network with the weights that are in an array."""
        self.home.lie_in(flat)
        return self

    def settle(self) -> Array:
        return self.home.settle()

    def samples(self, X: Any) -> Any:
        """As they are: estimators have checked them, and plans take any strides."""
        return X
