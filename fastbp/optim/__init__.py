"""How training proceeds: learning-rate schedules. Update rules are rows of the engine's table."""

from fastbp.optim.cosine import Cosine, CosineRestarts, OneCycle
from fastbp.optim.plateau import ReduceOnPlateau
from fastbp.optim.schedules import (
    Constant,
    Exponential,
    InverseScaling,
    MultiStep,
    Polynomial,
    Schedule,
    Step,
    Warmup,
)

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "InverseScaling",
    "MultiStep",
    "OneCycle",
    "Polynomial",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "Warmup",
]
