"""Where a graph is cut into checkpoints by itself: as many as are wanted, of about equal size.

Any cut gives the same bits; this is about memory alone. Checkpoints that a module asks for are of
no account here: who cuts all of a graph takes their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def cut(
    nodes: Sequence[Mapping[str, Any]], values: Sequence[Mapping[str, Any]], n: int
) -> list[int]:
    """Numbers of n checkpoints, from 1, for the nodes of a plan.

    They hold about as much for the batch each, and begin where little crosses: nearby, where the
    fewest bytes do, and rather before a node with parameters.

    Parameters
    ----------
    nodes, values : sequence of dict
        As the engine tells them of the plan without.
    n : int
        At least 1; fewer come out where there are not as many places.

    Returns
    -------
    list of int
    """
    held = np.array([_held(node, values) for node in nodes], np.float64)
    before = np.concatenate([[0.0], np.cumsum(held)])
    crossing = _crossing(nodes, values)
    places = {0}
    for i in range(1, n):
        ideal, reach = before[-1] * i / n, before[-1] / n / 4
        near = [p for p in range(1, len(nodes)) if abs(before[p] - ideal) <= reach]
        ranked = [
            (
                crossing[p],
                not any(values[v]["offset"] >= 0 for v in nodes[p]["inputs"]),
                abs(before[p] - ideal),
                p,
            )
            for p in near
        ]
        if ranked:
            places.add(min(ranked)[-1])
    return [int(number) for number in np.cumsum([p in places for p in range(len(nodes))])]


def _held(node: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of a sample that a node has there for the whole batch."""
    results = [values[v] for v in node["results"] if values[v]["whole_batch"]]
    kept = node["kept"] if node["kept_whole_batch"] else 0
    return int(kept + sum(value["bytes"] for value in results if value["batched"]))


def _crossing(nodes: Sequence[Mapping[str, Any]], values: Sequence[Mapping[str, Any]]) -> list[int]:
    """Before each node, the elements of a sample that are there and are yet to be read."""
    last = {v: n for n, node in enumerate(nodes) for v in node["inputs"]}
    found = [0] * (len(nodes) + 1)
    for n, node in enumerate(nodes):
        for v in node["results"]:
            if not values[v]["batched"]:
                continue
            for p in range(n + 1, last.get(v, n) + 1):
                found[p] += int(np.prod(values[v]["shape"]))
    return found
