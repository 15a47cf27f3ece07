"""What estimators ask of a network: the form that dense networks and Modules share. No code."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from fastbp import _core
from fastbp.nn.network import Array


class Trainable(Protocol):
    """A network and its loss, as estimators know them: `Network`, or what a Module comes to."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the weights and of all arithmetic."""

    @property
    def n_outputs(self) -> int:
        """Numbers of the raw output for a sample."""

    @property
    def loss(self) -> tuple[str, Any]:
        """A row of the table, and those of its attributes that are not at their default."""

    def plan(self, *, sparse: bool = False) -> _core.Plan:
        """The network compiled, for dense or for CSR inputs."""

    def samples(self, X: Any) -> Any:
        """Checked features as its plans take them."""


class Start(NamedTuple):
    """What a training call begins with: a network, its plans by `sparse`, and its weights."""

    network: Trainable
    plans: dict[bool, _core.Plan]
    flat: Array
