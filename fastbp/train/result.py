"""`FitResult`: what `fit` tells of training, and hands to the call that goes on with it.

The state in it is state.py's; nothing is trained here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

from fastbp.nn.compiled import Plan
from fastbp.train.state import TrainingState


@dataclass(frozen=True, eq=False)
class FitResult:
    """How training went, and what it takes to go on.

    Copied or pickled, together with the network that was trained, it goes on with the same bits
    (`resume` of `fit`), also in another process.

    Attributes
    ----------
    plan : Plan
        What was run; `plan.core` is the engine's. It belongs to this result in this process:
        copies, and what comes out of a pickle, have none.
    history : dict of str to list of float
        "loss", with the penalty, and "learning_rate" of each epoch (of rates that change within
        it, its first); where samples were held out "validation_loss"; where asked for "step_loss"
        and "step_gradient_norm", before it is clipped.
    n_epochs, n_steps : int
        How many were made, by this call and those that it resumed, skipped steps among them.
    skipped_steps : int
        Of those, the steps that changed nothing, since in precision "fp16" a gradient was not
        finite.
    loss_scale : float
        What "fp16" multiplies the loss by in the next step; 1 in other precisions.
    """

    plan: Plan = field(repr=False)
    history: dict[str, list[float]]
    n_epochs: int
    n_steps: int
    skipped_steps: int
    loss_scale: float
    _state: TrainingState = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "plan"}

    def __getattr__(self, name: str) -> NoReturn:
        words = f"{type(self).__name__!r} has no attribute {name!r}"
        if name == "plan":
            words += (
                ": it was copied or pickled, which plans are not; compile(module, loss) makes one"
            )
        raise AttributeError(words)


def result_of(plan: Plan, state: TrainingState, n_epochs: int, n_steps: int) -> FitResult:
    """What a call of `fit` returns."""
    doublings, _, skipped = state.scaling
    scale = 2.0**doublings if plan.core.precision == "fp16" else 1.0
    return FitResult(plan, state.history, n_epochs, n_steps, skipped, scale, state)
