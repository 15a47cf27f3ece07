"""Plans of what one part of a network makes of samples, and which part is its last hidden layer.

Samples come as the engine takes them; what users give is checked elsewhere.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastbp.nn.at_rest import AtRest, Inputs, Look
from fastbp.nn.module import Module
from fastbp.nn.samples import N
from fastbp.nn.tracing import Place, Traced

Array = NDArray[Any]


class Activations(Look):
    """What one part of a network makes of samples.

    Parameters
    ----------
    module : Module
        Built.
    inputs : Input or dict of these
    part : str or None
        The path of the part; None for what the last layer with a matrix of weights reads.

    Attributes
    ----------
    shape : tuple of int
        Of what is made of a sample.
    """

    def __init__(self, module: Module, inputs: Inputs, part: str | None) -> None:
        super().__init__(inputs)
        run = AtRest(module, inputs)
        value = _last_hidden(run) if part is None else _made_by(run, module, part)
        frozen = [{"shape": one.shape, "frozen": True} for one, _, _ in run.parameters]
        graph, last = run.graph, value.place.number
        del graph.nodes[last + 1 :], graph.checkpoints[last + 1 :]
        self.core = run.plan([value], frozen)
        (self.shape,) = self.core.output_shapes

    def __call__(self, flat: Array, X: Any, n_threads: int) -> Array:
        """(n_samples, *shape); a sample's do not depend on the others."""
        samples = self.samples(X)
        given = samples[0] if len(samples) == 1 else samples
        made: Array = self.core.predict(flat, given, raw=True, n_threads=n_threads)
        return made


def _made_by(run: AtRest, module: Module, part: str) -> Traced:
    """What a part returned."""
    if part not in run.made:
        parts = [path for path in run.made if path]
        raise ValueError(f"layer: found {part!r}, wanted the path of a part that runs, of {parts}")
    found = run.made[part]
    if not isinstance(found, Traced) or not found.has_samples:
        words = f"a part that returns {type(found).__name__}"
        if isinstance(found, Traced):
            words = f"a part whose result, of shape {found.shape}, is no sample's own"
        raise ValueError(f"layer: found {part!r}, {words}; wanted one with a tensor of samples")
    if found.place.source != "node":
        raise ValueError(
            f"layer: found {part!r}, which passes X on as it is, wanted one that makes something"
            " of it"
        )
    return found


def _last_hidden(run: AtRest) -> Traced:
    """What the last node that reads a matrix of weights reads besides."""
    graph, found = run.graph, None
    matrices = {Place("parameter", i) for i, shape in enumerate(graph.parameters) if len(shape) > 1}
    sampled, matrix = set[int](), set[int]()  # nodes of samples, and of what matrices alone make
    for number, (_, _, read) in enumerate(graph.nodes):
        nodes = {place.number for place in read if place.source == "node"}
        weighs = not (matrices.isdisjoint(read) and matrix.isdisjoint(nodes))
        own = [
            x for x in read if x.source == "input" or (x.source == "node" and x.number in sampled)
        ]
        if own:
            sampled.add(number)
            found = own[0] if weighs else found
        elif weighs:
            matrix.add(number)
    if found is None or found.source != "node":
        raise ValueError(
            "transform: found a network without a hidden layer, wanted one whose last layer with a"
            " matrix of weights reads what other layers have made"
        )
    return Traced(graph, found, (N,), graph.dtype)
