"""Steps within a limit of memory: in how many batches one is made, and in how many checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastbp.nn.compiled import Plan
from fastbp.ops.running import ROWS
from fastbp.train.state import Settings

# Samples of a block, whose gradients the engine adds up in their order: batches of whole blocks
# give the bits of the step in one batch.
BLOCK = 256

# Checkpoints that are tried, where a network has places for them.
CUTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def within(
    limit: int | None, settings: Settings, plan: Plan, n_samples: int
) -> tuple[Settings, Plan]:
    """The choices of a call and its plan, as a limit in bytes asks for: the bits are the same.

    Steps are made of several batches, which costs the least time, unless the network couples the
    samples of a batch; where that does not do, the network is cut into checkpoints.
    """
    if limit is None:
        return settings, plan

    def total(plan: Plan, size: int, times: int) -> int:
        return plan.memory(
            size,
            accumulate=times,
            optimizer=settings.rule,
            clip_norm=settings.clip_norm,
            n_samples=n_samples,
            n_threads=settings.n_threads,
        )["total"]

    size, times, least = fitting(
        limit,
        settings.batch_size,
        settings.accumulate,
        lambda size, times: total(plan, size, times),
        may_cut=not _couples(plan),
    )
    settings = replace(settings, batch_size=size, accumulate=times)
    if least <= limit:
        return settings, plan
    # In mixed precision checkpoints keep float32: their bits are others.
    tried = {0, 1}
    for n in CUTS if plan.precision == "full" else ():
        parted = plan._cut(n)
        parts = max(node["checkpoint"] for node in parted.core.nodes)
        if parts in tried:
            continue  # there are no places for as many
        tried.add(parts)
        needed = total(parted, size, times)
        if needed <= limit:
            return settings, parted
        least = min(least, needed)
    raise ValueError(
        f"memory_limit: found {limit} bytes, wanted at least {least} for steps of {size * times} "
        f"samples in {times} batches, which are the smallest that give the bits of one"
    )


def _couples(plan: Plan) -> bool:
    """Whether samples of a batch meet in a row, or may do so in a Function."""
    for node in plan.core.nodes:
        row = ROWS.get(node["name"])
        if node["kind"] == "callback" or (row is not None and not row["row_independent"]):
            return True
    return False


def fitting(
    limit: int,
    batch_size: int,
    accumulate: int,
    total: Callable[[int, int], int],
    *,
    may_cut: bool = True,
) -> tuple[int, int, int]:
    """The batch, how many make a step, and the bytes that these take.

    As large a batch as can be, since more and smaller ones take longer: one that is within the
    limit, or the smallest.
    """
    samples = batch_size * accumulate
    found = batch_size, accumulate, total(batch_size, accumulate)
    for times in range(accumulate + 1, samples // BLOCK + 1 if may_cut else 0):
        if found[2] <= limit:
            break
        size, rest = divmod(samples, times)
        if rest == 0 and size % BLOCK == 0:
            found = size, times, total(size, times)
    return found
