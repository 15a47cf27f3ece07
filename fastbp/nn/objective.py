"""What training is to lower: losses by output with their weights, held against a traced network.

What a loss is, is told in made.py; how several become one number, the engine knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastbp.nn.made import Loss, loss_of
from fastbp.nn.runs import Tracing

Losses = Mapping[str, tuple[Loss, float]]


def losses_of(loss: Any) -> dict[str, tuple[Loss, float]]:
    """Losses by output, with their weights."""
    if loss is None:
        return {}
    if not isinstance(loss, Mapping):
        return {"": (loss_of(loss), 1.0)}
    found = {}
    for name, one in loss.items():
        where = f"loss[{name!r}]"
        if isinstance(one, tuple):
            if len(one) != 2 or not isinstance(one[1], (int, float)):
                raise ValueError(f"{where}: found {one!r}, wanted a loss or (loss, weight)")
            found[name] = loss_of(one[0], where), float(one[1])
        else:
            found[name] = loss_of(one, where), 1.0
    return found


def refuse_misplaced(losses: Losses, run: Tracing, title: str) -> None:
    """A ValueError for losses of outputs that a network has not, or where nothing would train."""
    results = run.results
    if losses and not any(one.trainable for one, _, _ in run.parameters):
        raise ValueError(f"{title}: found all parameters frozen, wanted one to train")
    if set(losses) == {""} and "" not in results:
        raise ValueError(
            f"loss: found a single one, wanted a dict by the names of outputs, {[*results]}"
        )
    unknown = set(losses) - set(results)
    if unknown:
        raise ValueError(f"loss: found {sorted(unknown)}, wanted names of outputs: {[*results]}")
    for name in losses:
        if results[name].ndim < 2:
            where = f"output {name!r}" if name else "an output"
            raise ValueError(
                f"loss: found {where} of shape {results[name].shape} of the network, wanted at"
                " least (n, 1): losses are of the last axis"
            )


def specified(losses: Losses, run: Tracing) -> list[dict[str, Any]]:
    """The losses as a graph's specification has them."""
    return [
        {
            "name": loss.name,
            "attrs": loss.attributes(),
            "value": run.graph.number(run.results[name].place),
            "factor": weight,
        }
        for name, (loss, weight) in losses.items()
    ]
