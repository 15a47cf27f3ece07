"""Networks: modules that describe them, and what a plan is compiled from."""

from typing import TYPE_CHECKING, Any

from fastbp.nn import initializers as init
from fastbp.nn.attention import MultiheadAttention, TransformerBlock
from fastbp.nn.batch_norm import BatchNorm1d, BatchNorm2d
from fastbp.nn.containers import Lambda, Residual, Sequential
from fastbp.nn.convolution import Conv1d, Conv2d
from fastbp.nn.dropout import AlphaDropout, Dropout
from fastbp.nn.embedding import Embedding, LearntEncoding, SinusoidalEncoding
from fastbp.nn.linear import Linear
from fastbp.nn.made import ACTIVATIONS, LOSSES, Activation, Loss
from fastbp.nn.module import Module
from fastbp.nn.norms import GroupNorm, LayerNorm, RMSNorm
from fastbp.nn.parameter import Parameter
from fastbp.nn.pooling import (
    AvgPool1d,
    AvgPool2d,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1d,
    MaxPool2d,
)
from fastbp.nn.recomputing import Checkpoint
from fastbp.nn.recurrence import GRU, LSTM, RNN
from fastbp.nn.runs import training
from fastbp.nn.tracing import Input

globals().update(ACTIVATIONS, **LOSSES)

if TYPE_CHECKING:
    # The classes that are made of the table.
    def __getattr__(name: str) -> Any: ...


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Checkpoint",
    "Conv1d",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "Input",
    "Lambda",
    "LayerNorm",
    "LearntEncoding",
    "Linear",
    "Loss",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "MultiheadAttention",
    "Parameter",
    "RMSNorm",
    "Residual",
    "Sequential",
    "SinusoidalEncoding",
    "TransformerBlock",
    "init",
    "training",
]
__all__ += [*ACTIVATIONS, *LOSSES]
