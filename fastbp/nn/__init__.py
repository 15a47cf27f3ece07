"""Networks: modules that describe them, and what a plan is compiled from."""

from typing import TYPE_CHECKING, Any

from fastbp.nn import initializers as init
from fastbp.nn.containers import Lambda, Residual, Sequential
from fastbp.nn.dropout import AlphaDropout, Dropout
from fastbp.nn.linear import Linear
from fastbp.nn.made import ACTIVATIONS, LOSSES, Activation, Loss
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter
from fastbp.nn.runs import training
from fastbp.nn.tracing import Input

globals().update(ACTIVATIONS, **LOSSES)

if TYPE_CHECKING:
    # The classes that are made of the table.
    def __getattr__(name: str) -> Any: ...


__all__ = [
    "Activation",
    "AlphaDropout",
    "Dropout",
    "Input",
    "Lambda",
    "Linear",
    "Loss",
    "Module",
    "Parameter",
    "Residual",
    "Sequential",
    "init",
    "training",
]
__all__ += [*ACTIVATIONS, *LOSSES]
