"""Plans for gradients of a network as it predicts: by its inputs, and of each sample by itself.

Samples and targets come as the engine takes them; what users give is checked elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _core
from fastbp.function import Context, Function
from fastbp.nn.at_rest import AtRest, Inputs, Look
from fastbp.nn.made import Loss
from fastbp.nn.module import Module
from fastbp.nn.tracing import Graph, Input, Place, Traced

Array = NDArray[Any]

# ------------------------------------------------------------------------------ gradients by inputs


class _Shifted(Graph):
    """A graph in which zeros are added to inputs of numbers.

    The gradient by these sums is the one by the inputs, for which the engine, training parameters
    alone, has no room.

    Attributes
    ----------
    shifted : dict of int to Place
        The sums, by the number of the input.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self.shifted: dict[int, Place] = {}

    def input(self, given: Input) -> Traced:
        x = super().input(given)
        if given.content != "real":
            return x
        shifted: Traced = x + self.parameter(given.shape)
        self.shifted[x.place.number] = shifted.place
        return shifted


class _Seeded(Function, check=False):
    """Passes raw outputs on; gives each sample's the same gradient, whatever comes back."""

    @staticmethod
    def forward(ctx: Context, z: Array, seed: Array) -> Array:
        ctx.save_for_backward(seed)
        return z

    @staticmethod
    def backward(ctx: Context, dy: Array) -> tuple[Array, None]:
        (seed,) = ctx.saved
        return np.broadcast_to(seed, dy.shape), None


class InputGradients(Look):
    """Gradients of a network's raw outputs by its inputs of numbers.

    Parameters
    ----------
    module : Module
        Built, with one output.
    inputs : Input or dict of these

    Attributes
    ----------
    n_outputs : int
        Raw outputs of a sample.
    real : tuple of str
        The inputs by which there are gradients.
    """

    def __init__(self, module: Module, inputs: Inputs) -> None:
        super().__init__(inputs)
        run = AtRest(module, inputs, _Shifted)
        graph = run.graph
        assert isinstance(graph, _Shifted)
        z = run.results[""]
        self.n_outputs = int(z.shape[1])
        self.real = tuple(self.inputs[i] for i in graph.shifted)
        seed = {"shape": (self.n_outputs,), "frozen": True}
        seeded = graph.call(_Seeded, (z, graph.parameter((self.n_outputs,))))
        shifts = [{"shape": graph.inputs[i].shape} for i in graph.shifted]
        self._room = sum(int(np.prod(one["shape"])) for one in shifts)
        frozen = [{"shape": one.shape, "frozen": True} for one, _, _ in run.parameters]
        # Whatever its gradient is, it is not that which goes back.
        loss = {"name": "squared_error", "value": graph.number(seeded.place)}
        self.core = run.plan([seeded], [*shifts, *frozen, seed], [loss])
        self._sums = [graph.number(place) for place in graph.shifted.values()]

    def __call__(self, flat: Array, X: Any, outputs: Sequence[int]) -> list[Array]:
        """One array (n_samples, outputs, *shape) for each of `real`."""
        samples, core = self.samples(X), self.core
        params = np.concatenate([np.zeros(self._room), flat, np.zeros(self.n_outputs)])
        params = params.astype(flat.dtype, copy=False)
        seed = params[-self.n_outputs :]
        n_samples = samples[0].shape[0]
        found = [
            np.zeros((n_samples, len(outputs), *core.values[v]["shape"]), flat.dtype)
            for v in self._sums
        ]
        wanted = [v for v in self._sums if core.values[v]["gradient"]]  # others are not used
        for place, k in enumerate(outputs if wanted else ()):
            seed[:] = 0
            seed[k] = 1
            for part, some in self.stretches(samples):
                given = some[0] if len(some) == 1 else some
                targets = np.zeros((some[0].shape[0], self.n_outputs), flat.dtype)
                _, made = core.trace(params, given, targets, values=(), gradients=wanted)
                for v in wanted:
                    found[self._sums.index(v)][part, place] = made[v]
        return found


# ------------------------------------------------------------------------- gradients of each sample


class SampleGradients(Look):
    """The norms of samples' own gradients of the loss, by all parameters that are trained.

    Parameters
    ----------
    module : Module
        Built, with one output.
    inputs : Input or dict of these
    loss : Loss
    """

    def __init__(self, module: Module, inputs: Inputs, loss: Loss) -> None:
        super().__init__(inputs)
        run = AtRest(module, inputs)
        z = run.results[""]
        trained = [
            {"shape": one.shape, "frozen": not one.trainable} for one, _, _ in run.parameters
        ]
        term = {
            "name": loss.name,
            "attrs": loss.attributes(),
            "value": run.graph.number(z.place),
        }
        self.core = run.plan([z], trained, [term])
        self._layers = _dense_layers(self.core)

    def norms(self, flat: Array, X: Any, y: Array) -> NDArray[np.float64]:
        """(n_samples,), of the weights' dtype."""
        samples = self.samples(X)
        squares = self._by_layers if self._layers is not None else self._one_by_one
        return np.sqrt(squares(flat, samples, y))

    def _by_layers(self, flat: Array, samples: tuple[Any, ...], y: Array) -> NDArray[np.float64]:
        # Of z = a W + b, with d = dloss/dz: dW = a^T d and db = d, so that
        # |dW|^2 + |db|^2 = |a|^2 |d|^2 + |d|^2 (Goodfellow 2015, arXiv:1510.01799).
        layers, squares = self._layers or (), np.zeros(len(y))
        n_inputs = len(self.core.input_shapes)
        hidden = {a for a, _, _, _ in layers if a >= n_inputs}
        sums = [z for _, z, _, _ in layers]
        for part, some in self.stretches(samples):
            given = some[0] if len(some) == 1 else some
            made, deltas = self.core.trace(flat, given, y[part], values=[*hidden], gradients=sums)
            made.update(enumerate(some))
            n = some[0].shape[0]  # the loss of a pass is the mean over it
            for a, z, weight, bias in layers:
                factor = _squares(made[a]) * weight + bias
                squares[part] += factor * _squares(deltas[z]) * float(n) ** 2
        return squares

    def _one_by_one(self, flat: Array, samples: tuple[Any, ...], y: Array) -> NDArray[np.float64]:
        squares, grad = np.zeros(len(y)), np.empty_like(flat)
        for i in range(len(y)):
            some = tuple(one[i : i + 1] for one in samples)
            given = some[0] if len(some) == 1 else some
            self.core.loss_gradient(flat, given, y[i : i + 1], grad=grad)
            exact = grad.astype(np.float64, copy=False)
            squares[i] = exact @ exact
        return squares


Layer = tuple[int, int, bool, bool]
"""Numbers of what a dense layer reads and makes, and whether its weights and biases are trained."""


def _dense_layers(core: _core.Plan) -> tuple[Layer, ...] | None:
    """The dense layers that have all parameters that are trained, each once; else None."""
    readers: dict[int, list[tuple[int, int]]] = {}
    for number, node in enumerate(core.nodes):
        for place, v in enumerate(node["inputs"]):
            readers.setdefault(v, []).append((number, place))
    n_inputs, parts = len(core.input_shapes), dict[int, set[int]]()
    for v, one in enumerate(core.parameters, n_inputs):
        if not one["gradient"]:
            continue
        if len(readers[v]) != 1:
            return None
        ((number, place),) = readers[v]
        if not _is_dense(core, number) or place == 0:
            return None
        parts.setdefault(number, set()).add(place)
    return tuple(
        (core.nodes[n]["inputs"][0], core.nodes[n]["results"][0], 1 in places, 2 in places)
        for n, places in parts.items()
    )


def _is_dense(core: _core.Plan, number: int) -> bool:
    """Whether a node is a product of one row of each sample and a matrix."""
    node = core.nodes[number]
    if node["name"] not in ("linear", "linear_csr"):
        return False
    x = core.values[node["inputs"][0]]
    return bool(x["batched"]) and len(x["shape"]) == 1


def _squares(rows: Any) -> NDArray[np.float64]:
    """The squared norm of each row, in float64."""
    if hasattr(rows, "indptr"):
        exact = rows.astype(np.float64)
        return np.asarray(exact.multiply(exact).sum(axis=1)).reshape(-1)
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return squares
