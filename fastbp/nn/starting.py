"""The weights that a chain of dense layers starts with, drawn as scikit-learn draws them."""

import numpy as np

from fastbp import _core
from fastbp.nn.initializers import INITIALIZERS
from fastbp.nn.network import Array, Network

# scikit-learn draws biases too with its initialiser, and narrows its bounds by sqrt(3) for this
# activation; so does the same name here.
_AS_SKLEARN, _NARROW, _NARROWING = "glorot_uniform", "logistic", 1.0 / 3.0


def draw(network: Network, name: str, seed: int) -> Array:
    """Starting weights of a network as one flat buffer.

    Parameters
    ----------
    network : Network
        The network; its activation matters for "glorot_uniform" only.
    name : str
        A key of `initializers.INITIALIZERS`. "glorot_uniform" draws as scikit-learn does: weights
        and biases from (-b, b), b = sqrt(6 / (n_in + n_out)), or sqrt(2 / (n_in + n_out)) for
        logistic layers. All others draw weights alone and start biases at zero.
    seed : int
        Between 0 and 2**64 - 1.

    Returns
    -------
    flat : ndarray of shape (n_params,), of the network's dtype
        Weights and biases of each layer in turn.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.nn.starting import draw
    >>> from fastbp.nn.network import Network
    >>> network = Network(50, 1, (400,), ("relu", {}), ("squared_error", {}), np.dtype("float64"))
    >>> flat = draw(network, "he_normal", seed=0)
    >>> weights, biases = flat[: 50 * 400], flat[50 * 400 : 51 * 400]
    >>> bool(abs(weights.std() / np.sqrt(2 / 50) - 1) < 0.02), bool(biases.any())
    (True, False)
    """
    rule = INITIALIZERS[name]
    narrowing = _NARROWING if (name, network.activation[0]) == (_AS_SKLEARN, _NARROW) else 1.0
    parts = []
    for layer, (fan_in, fan_out) in enumerate(
        zip(network.sizes[:-1], network.sizes[1:], strict=True)
    ):
        variance = rule.variance(fan_in, fan_out) * narrowing
        n_weights = fan_in * fan_out
        n_drawn = n_weights + fan_out if name == _AS_SKLEARN else n_weights
        if rule.uniform:
            bound = np.sqrt(3.0 * variance)
            drawn = _core.uniform(seed, layer, n_drawn, -bound, bound, network.dtype)
        else:
            drawn = _core.normal(seed, layer, n_drawn, network.dtype)
            drawn *= network.dtype.type(np.sqrt(variance))
        parts.append(drawn)
        parts.append(np.zeros(n_weights + fan_out - n_drawn, dtype=network.dtype))
    return np.concatenate(parts)
