"""Steps within a limit of memory: in how many batches one is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastbp.nn.compiled import Plan
from fastbp.train.state import Settings

# Samples of a block, whose gradients the engine adds up in their order: batches of whole blocks
# give the bits of the step in one batch.
BLOCK = 256


def within(limit: int | None, settings: Settings, plan: Plan, n_samples: int) -> Settings:
    """The choices of a call, with steps of as many batches as a limit in bytes asks for."""
    if limit is None:
        return settings
    size, times = fitting(
        limit,
        settings.batch_size,
        settings.accumulate,
        lambda size, times: plan.memory(
            size,
            accumulate=times,
            optimizer=settings.rule,
            clip_norm=settings.clip_norm,
            n_samples=n_samples,
            n_threads=settings.n_threads,
        )["total"],
    )
    return replace(settings, batch_size=size, accumulate=times)


def fitting(
    limit: int, batch_size: int, accumulate: int, total: Callable[[int, int], int]
) -> tuple[int, int]:
    """The batch and how many make a step, so that `total` of the two is at most `limit` bytes.

    As large a batch as can be, since more and smaller ones take longer. A ValueError tells what
    the least is.
    """
    samples, least = batch_size * accumulate, 0
    for times in range(accumulate, samples + 1):
        size, rest = divmod(samples, times)
        if times > accumulate and (rest != 0 or size % BLOCK != 0):
            continue
        least = total(size, times)
        if least <= limit:
            return size, times
    raise ValueError(
        f"memory_limit: found {limit} bytes, wanted at least {least} for steps of {samples} "
        f"samples in batches of multiples of {BLOCK}"
    )
