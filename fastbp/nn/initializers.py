"""The weights that a network starts with: one rule for each way of drawing them.

Numbers come from the engine's counter-based generator: those of a layer are a function of the seed
and the layer's place, so that they depend on neither the other layers nor the number of threads.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import _core
from fastbp.nn.network import Array, Network


@dataclass(frozen=True)
class Initializer:
    """How the weights of one layer are drawn; `variance` is a function of fan-in and fan-out.

    `uniform` draws from (-b, b) with b = sqrt(3 variance), otherwise from a normal distribution.
    `draws_biases` gives biases the distribution of the layer's weights; otherwise they are zero.
    """

    doc: str
    variance: Callable[[int, int], float]
    uniform: bool
    draws_biases: bool = False


def _glorot(fan_in: int, fan_out: int) -> float:
    """Glorot and Bengio (2010): the variance kept forward and backward through tanh layers."""
    return 2.0 / (fan_in + fan_out)


def _he(fan_in: int, fan_out: int) -> float:
    """He et al. (2015): the variance kept forward through relu layers, which halve it."""
    return 2.0 / fan_in


def _lecun(fan_in: int, fan_out: int) -> float:
    """LeCun et al. (1998): variance 1 at every unit; what selu asks for (Klambauer et al. 2017)."""
    return 1.0 / fan_in


INITIALIZERS = {
    "glorot_uniform": Initializer("scikit-learn's", _glorot, uniform=True, draws_biases=True),
    "glorot_normal": Initializer("for tanh and logistic", _glorot, uniform=False),
    "he_uniform": Initializer("for relu and its kin", _he, uniform=True),
    "he_normal": Initializer("for relu and its kin", _he, uniform=False),
    "lecun_uniform": Initializer("for selu", _lecun, uniform=True),
    "lecun_normal": Initializer("for selu", _lecun, uniform=False),
}

# scikit-learn narrows its Glorot bounds by sqrt(3) for this activation, and so does the same name
# here.
_NARROW, _NARROWING = ("glorot_uniform", "logistic"), 1.0 / 3.0


def start(init: Any, shape: tuple[int, ...], seed: int, place: int, dtype: np.dtype[Any]) -> Array:
    """The starting values of one parameter.

    Parameters
    ----------
    init : str or float
        A key of `INITIALIZERS`, "zeros", "ones", or the number that all values are.
    shape : tuple of int
        The last axis counts outputs; of the others, the last counts inputs, and those before it
        positions that a unit sees, as in a convolution.
    seed, place : int
        The parameter's values are a function of the two.
    dtype : numpy.dtype

    Returns
    -------
    ndarray of `shape`
    """
    if init in _CONSTANTS:
        init = _CONSTANTS[init]
    if isinstance(init, (int, float)):
        return np.full(shape, init, dtype)
    if init not in INITIALIZERS:
        wanted = ", ".join(map(repr, [*_CONSTANTS, *INITIALIZERS]))
        raise ValueError(f"init: found {init!r}, wanted a number or one of {wanted}")
    fan_in = math.prod(shape[:-1])
    fan_out = math.prod(shape[:-2]) * math.prod(shape[-1:])
    return _drawn(
        INITIALIZERS[init], fan_in, fan_out, math.prod(shape), seed, place, dtype
    ).reshape(shape)


def _drawn(
    rule: Initializer, fan_in: int, fan_out: int, n: int, seed: int, place: int, dtype: Any
) -> Array:
    variance = rule.variance(fan_in, fan_out)
    if rule.uniform:
        bound = np.sqrt(3.0 * variance)
        return _core.uniform(seed, place, n, -bound, bound, dtype)
    drawn = _core.normal(seed, place, n, dtype)
    drawn *= np.sqrt(variance)
    return drawn


_CONSTANTS = {"zeros": 0.0, "ones": 1.0}


def draw(network: Network, name: str, seed: int) -> Array:
    """Starting weights of a network as one flat buffer.

    Parameters
    ----------
    network : Network
        The network; its activation matters for "glorot_uniform" only.
    name : str
        A key of `INITIALIZERS`. "glorot_uniform" draws as scikit-learn does: weights and biases
        from (-b, b), b = sqrt(6 / (n_in + n_out)), or sqrt(2 / (n_in + n_out)) for logistic layers.
        All others draw weights alone and start biases at zero.
    seed : int
        Between 0 and 2**64 - 1.

    Returns
    -------
    flat : ndarray of shape (n_params,), of the network's dtype
        Weights and biases of each layer in turn.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.nn.initializers import draw
    >>> from fastbp.nn.network import Network
    >>> network = Network(50, 1, (400,), ("relu", {}), ("squared_error", {}), np.dtype("float64"))
    >>> flat = draw(network, "he_normal", seed=0)
    >>> weights, biases = flat[: 50 * 400], flat[50 * 400 : 51 * 400]
    >>> bool(abs(weights.std() / np.sqrt(2 / 50) - 1) < 0.02), bool(biases.any())
    (True, False)
    """
    rule = INITIALIZERS[name]
    narrowing = _NARROWING if (name, network.activation[0]) == _NARROW else 1.0
    parts = []
    for layer, (fan_in, fan_out) in enumerate(
        zip(network.sizes[:-1], network.sizes[1:], strict=True)
    ):
        variance = rule.variance(fan_in, fan_out) * narrowing
        n_weights = fan_in * fan_out
        n_drawn = n_weights + fan_out if rule.draws_biases else n_weights
        if rule.uniform:
            bound = np.sqrt(3.0 * variance)
            drawn = _core.uniform(seed, layer, n_drawn, -bound, bound, network.dtype)
        else:
            drawn = _core.normal(seed, layer, n_drawn, network.dtype)
            drawn *= network.dtype.type(np.sqrt(variance))
        parts.append(drawn)
        parts.append(np.zeros(n_weights + fan_out - n_drawn, dtype=network.dtype))
    return np.concatenate(parts)
