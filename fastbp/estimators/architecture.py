"""What the hidden layers of a multilayer perceptron are made of, by an estimator's parameters.

A hidden layer is Linear, then a norm, the activation and Dropout, each where it is asked for. Which
weights it starts from is told in multilayer.py; labels and training are others' affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from fastbp.nn.batch_norm import BatchNorm1d
from fastbp.nn.containers import Residual, Sequential
from fastbp.nn.dropout import Dropout
from fastbp.nn.linear import Linear
from fastbp.nn.made import activation_of
from fastbp.nn.module import Module
from fastbp.nn.norms import LayerNorm
from fastbp.nn.rows import check_attributes, rows

Row = tuple[str, Mapping[str, float]]

NORMS: dict[str, type[Module]] = {"batch_norm": BatchNorm1d, "layer_norm": LayerNorm}
"""Modules by the parameter that asks for them."""


class Architecture(NamedTuple):
    """What follows the linear layers of a network.

    Attributes
    ----------
    activations : tuple of (str, dict of str to float)
        Of each hidden layer, a row of the engine's table and those of its attributes that are not
        at their default; and once more that by which the last layer's weights start.
    dropout : tuple of float
        The probability of each hidden layer.
    norm : str
        A name of `NORMS`, or "".
    residual : bool
        Whether hidden layers are added to inputs of their width.
    """

    activations: tuple[Row, ...]
    dropout: tuple[float, ...]
    norm: str = ""
    residual: bool = False

    @property
    def is_chain(self) -> bool:
        """Whether there is nothing but linear layers and activations."""
        return not (self.norm or self.residual or any(self.dropout))

    def hidden(self, place: int, linear: Linear, n_in: int) -> list[Module]:
        """The modules of a hidden layer, for so many inputs."""
        (name, attributes), p = self.activations[place], self.dropout[place]
        layers: list[Module] = [linear]
        if self.norm:
            layers.append(NORMS[self.norm]())
        if name != "identity":
            layers.append(activation_of(name, "activation").set_params(**attributes))
        if p > 0:
            layers.append(Dropout(p))
        # The first layer's inputs are the features, whose number is not a choice of widths.
        if self.residual and place > 0 and n_in == linear.out_features:
            return [Residual(Sequential(*layers))]
        return layers


def architecture_of(
    hidden: tuple[int, ...],
    activation: Any,
    activation_params: Any,
    dropout: Any,
    *,
    batch_norm: bool,
    layer_norm: bool,
    residual: bool,
) -> Architecture:
    """The architecture that parameters of these names mean, each of which its own rule allows.

    Raises a ValueError that names the parameter where a list is not as long as `hidden`, numbers
    are not the activation's, or two parameters contradict each other.
    """
    names = _of_layers("activation", activation, hidden)
    given = _of_layers("activation_params", activation_params, hidden)
    probabilities = _of_layers("dropout", dropout, hidden)[:-1]
    where = "activation_params"
    activations = []
    for i, (name, numbers) in enumerate(zip(names, given, strict=True)):
        if isinstance(activation_params, (list, tuple)):
            where = f"activation_params[{min(i, len(hidden) - 1)}]"
        # An empty list has no last activation that the last layer could start by.
        name = "identity" if name is None else name
        checked = check_attributes(
            rows("activation")[name], numbers, argument=where, user_name=name
        )
        activations.append((name, checked))
    if batch_norm and layer_norm:
        raise ValueError("batch_norm: found True beside layer_norm=True, wanted one of them")
    if residual and not any(n_in == n_out for n_in, n_out in pairwise(hidden)):
        raise ValueError(
            f"residual: found True for hidden_layer_sizes={hidden}, wanted a hidden layer as wide"
            " as the one before it, to which it could be added"
        )
    norm = "batch_norm" if batch_norm else "layer_norm" if layer_norm else ""
    return Architecture(
        tuple(activations), tuple(float(p) for p in probabilities), norm, bool(residual)
    )


def _of_layers(parameter: str, given: Any, hidden: tuple[int, ...]) -> list[Any]:
    """What is given for each hidden layer, and once more what is given for the last."""
    if not isinstance(given, (list, tuple)):
        return [given] * (len(hidden) + 1)
    if len(given) != len(hidden):
        raise ValueError(
            f"{parameter}: found {given!r}, of {len(given)}, for the {len(hidden)} hidden layers of"
            f" hidden_layer_sizes={hidden}; wanted one for each, or one for all"
        )
    return [*given, given[-1] if given else None]
