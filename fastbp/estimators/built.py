"""A Module and its loss as estimators know a network, and what they make of X for it.

Refuses a network whose output is not what the targets ask for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from fastbp import _core
from fastbp.nn.compiled import Plan
from fastbp.nn.describe import Description
from fastbp.nn.made import Loss, loss_of
from fastbp.nn.module import Module
from fastbp.nn.parameter import Array
from fastbp.nn.runs import Tracing
from fastbp.nn.tracing import Input

_MASK = "mask"

_Look = TypeVar("_Look")


def key_mask(X: Array, mask_value: float) -> Array:
    """1 for each position of samples (n, length, ...) that holds more than the value, else 0."""
    padded: Array = np.all(mask_value == X, axis=tuple(range(2, X.ndim)))
    return np.where(padded, np.float32(0), np.float32(1))


def named_inputs(module: Module, X: Any, mask_value: float | None) -> Any:
    """X as the network's inputs: as it is, or with the mask beside it, by name."""
    if mask_value is None:
        return X
    if not isinstance(X, np.ndarray):
        raise ValueError(
            f"mask_value={mask_value!r}: found X as {type(X).__name__}, wanted one dense array, of"
            " which the mask is made"
        )
    names = [*inspect.signature(module.forward).parameters]
    if _MASK not in names[1:]:
        raise ValueError(
            f"mask_value={mask_value!r}: found a {type(module).__name__} whose forward takes"
            f" ({', '.join(names)}), wanted one that takes samples and then {_MASK!r}"
        )
    return {names[0]: X, _MASK: key_mask(X, mask_value)}


class Start(NamedTuple):
    """What a training call begins with: a network, its plans by `sparse`, and its weights."""

    network: BuiltNetwork
    plans: dict[bool, _core.Plan]
    flat: Array


class BuiltNetwork:
    """A built Module with a loss on its one output.

    Parameters
    ----------
    module : Module
    loss : (str, dict of str to float)
        A row of the table, and those of its attributes that are not at their default.
    mask_value : float or None
        What fills samples up, where a mask is to be made of that.
    n_outputs : int
        Numbers that the loss wants of each sample.
    traced : Tracing, default=None
        The run that has just built the module.
    precision : {"full", "bf16", "fp16"}, default="full"
        Of training; see `fastbp.fit`.
    """

    def __init__(
        self,
        module: Module,
        loss: tuple[str, Mapping[str, float]],
        mask_value: float | None,
        n_outputs: int,
        traced: Tracing | None = None,
        precision: str = "full",
    ) -> None:
        self.module, self.loss, self.precision = module, loss, precision
        self.home = module._built()
        self._mask_value, self.n_outputs, self._traced = mask_value, n_outputs, traced
        self._compiled: dict[bool, Plan] = {}
        self._frozen: list[bool] = []
        self._looks: dict[tuple[Any, ...], Any] = {}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the weights and of all arithmetic."""
        dtype: np.dtype[Any] = self.home.flat.dtype
        return dtype

    def plan(self, *, sparse: bool = False) -> _core.Plan:
        """The network compiled, for dense or for CSR inputs."""
        losses = {"": (self.row(), 1.0)}
        plan = Plan(self.module, losses, self.inputs(sparse), self._traced, self.precision)
        self._traced = None  # the module may change from now on
        self._frozen = self._frozen_now()
        shapes = dict(zip(plan.outputs, plan.core.output_shapes, strict=True))
        if shapes != {"": (self.n_outputs,)}:
            found = shapes.get("", shapes)
            raise ValueError(
                f"network: found an output of shape {found} for each sample, wanted"
                f" ({self.n_outputs},) for these targets; a function of the sizes of inputs and"
                " outputs, in place of a Module, is told it"
            )
        self._compiled[sparse] = plan
        return plan.core

    def row(self) -> Loss:
        """Its loss."""
        name, attributes = self.loss
        loss: Loss = loss_of(name).set_params(**attributes)
        return loss

    def look(self, make: Callable[..., _Look], sparse: bool, *given: Any) -> _Look:
        """What `make` compiles of this network for looking, once while nothing is frozen anew."""
        key = make, sparse, given, *self._frozen_now()
        if key not in self._looks:
            self._looks[key] = make(self, sparse, *given)
        found: _Look = self._looks[key]
        return found

    def described(self) -> Description:
        """What it runs in training, for samples in the form that it was built for.

        The plan is one of its own: those that are kept stay as they are, whatever is frozen now.
        """
        return Plan(self.module, {"": (self.row(), 1.0)}, precision=self.precision).describe()

    def inputs(self, sparse: bool) -> Any:
        """What it was built for, in the form in which samples come now."""
        built = self.module._built().inputs
        if isinstance(built, Input) and sparse != (built.content == "sparse"):
            return replace(built, content="sparse" if sparse else "real")
        return built

    def _frozen_now(self) -> list[bool]:
        return [one.frozen for one in self.home.parameters.values()]

    def is_current(self) -> bool:
        """Whether what was compiled last froze what is frozen now."""
        return self._frozen == self._frozen_now()

    def start(self, sparse: bool) -> Start:
        """What a training call begins with."""
        return Start(self, {sparse: self.plan(sparse=sparse)}, self.settle())

    def in_dtype(self, dtype: np.dtype[Any]) -> Self:
        """A copy, with the same weights; in another dtype than its own, of full precision."""
        other = deepcopy(self)
        if dtype != self.dtype:
            other.precision = "full"
        other.module.build(self.home.inputs, seed=self.home.seed, dtype=dtype)
        other.home = other.module._built()
        return other

    def settle(self) -> Array:
        """The weights, with what a user has put in their place."""
        if self.module._home is not self.home:
            raise RuntimeError(
                "module_: found it built again, or into another network, so that its weights are "
                "no longer the estimator's; wanted that done with copy.deepcopy(module_)"
            )
        return self.module._built().settle()

    @property
    def compiled(self) -> Plan:
        """What it was compiled to last, with the names of its parameters."""
        return next(reversed(self._compiled.values()))

    def samples(self, X: Any) -> Any:
        """Checked features as plans take them."""
        return self.compiled.samples(self.named(X))

    def named(self, X: Any) -> Any:
        """Checked features as the network's inputs."""
        return named_inputs(self.module, X, self._mask_value)

    def __getstate__(self) -> dict[str, Any]:
        BuiltNetwork.settle(self)  # or what is loaded could not predict
        return {**self.__dict__, "_compiled": {}, "_looks": {}, "_traced": None}
