"""A network as it predicts, traced for plans that look into it.

Batch normalisation goes by its running statistics and there are no random masks, so that no sample
depends on another. What is looked at, and so which plan is compiled, is told in hidden.py and
looking.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _core
from fastbp.nn.forms import converted, several
from fastbp.nn.module import Module
from fastbp.nn.runs import Tracing
from fastbp.nn.tracing import Graph, Input, Traced

Array = NDArray[Any]
Inputs = Mapping[str, Input] | Input

# A pass holds what the network makes of so many samples, of no more numbers than these: about what
# the caches hold.
ROWS, NUMBERS = 1024, 2**22


class AtRest(Tracing):
    """A trace of a built module as it predicts.

    Attributes
    ----------
    made : dict of str to Any
        What each part returned, by path, where it was called last.
    """

    def __init__(self, module: Module, inputs: Inputs, graph: type[Graph] = Graph) -> None:
        home = module._built()
        super().__init__(module, home.flat.dtype, building=False)
        self.graph, self.made = graph(home.flat.dtype), dict[str, Any]()
        self.trace(inputs)
        if [one.name for one, _, _ in self.parameters] != [*home.parameters]:
            raise ValueError(
                f"{type(module).__name__}: found other parameters than those of when it was built,"
                f" wanted {[*home.parameters]}; build(...) it again"
            )

    def call(self, module: Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        result = super().call(module, inputs, named)
        path = self._paths.get(id(module))
        if path is not None:
            self.made[path] = result
        return result

    def follow(
        self, module: Module, name: str, row: str, x: Any, *, init: Array, momentum: float
    ) -> Any:
        return self.parameter(module, name, init.shape, init, learns=False)

    def plan(
        self,
        outputs: Sequence[Traced],
        parameters: Sequence[Mapping[str, Any]],
        losses: Sequence[dict[str, Any]] = (),
    ) -> _core.Plan:
        """The graph compiled, without parts that run again."""
        graph = self.graph.specification([dict(one) for one in parameters], outputs, losses)
        graph.pop("checkpoints", None)
        return _core.Plan(graph=graph, dtype=self.graph.dtype)


class Look:
    """A plan for looking, and data as it takes them."""

    core: _core.Plan

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = tuple(inputs) if isinstance(inputs, Mapping) else ("",)

    def samples(self, X: Any) -> tuple[Any, ...]:
        """Inputs in the plan's order and dtypes."""
        return tuple(
            converted(one, np.dtype(dtype), f"X[{name!r}]" if name else "X")
            for name, one, dtype in zip(
                self.inputs, several(X, self.inputs, "X"), self.core.input_dtypes, strict=True
            )
        )

    def stretches(self, samples: tuple[Any, ...]) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """The samples in passes that are not too large."""
        values = self.core.values
        numbers = sum(int(np.prod(one["shape"])) for one in values if one["batched"])
        rows = max(1, min(ROWS, NUMBERS // max(1, numbers)))
        for first in range(0, samples[0].shape[0], rows):
            part = slice(first, first + rows)
            yield part, tuple(one[part] for one in samples)
