"""Steps within a limit of memory: in how many batches one is made, and in how many checkpoints.

Where there is no such way, the error tells what was tried and what takes less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from fastbp.nn.compiled import Plan
from fastbp.ops.running import ROWS
from fastbp.train.state import Settings

# Samples of a block, whose gradients the engine adds up in their order: batches of whole blocks
# give the bits of the step in one batch.
BLOCK = 256

# Checkpoints that are tried, where a network has places for them.
CUTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


class Way(NamedTuple):
    """A way to make the steps of a call, and the bytes that it takes."""

    needed: int
    batch_size: int
    accumulate: int
    plan: Plan
    checkpoints: int = 1

    def __str__(self) -> str:
        """With the parts that there are several of."""
        batches = f"{self.accumulate} batch" + "es" * (self.accumulate > 1)
        return batches + f" and {self.checkpoints} checkpoints" * (self.checkpoints > 1)


def within(
    limit: int | None, settings: Settings, plan: Plan, n_samples: int
) -> tuple[Settings, Plan]:
    """The choices of a call and its plan, as a limit in bytes asks for: the bits are the same.

    Steps are made of several batches, which costs the least time, unless the network couples the
    samples of a batch; where that does not do, the network is cut into checkpoints.
    """
    if limit is None:
        return settings, plan
    search = _Search(limit, settings, plan, n_samples)
    way = search.way(settings.batch_size)
    if way.needed > limit:
        raise ValueError(_refusal(search, way))
    return replace(settings, batch_size=way.batch_size, accumulate=way.accumulate), way.plan


class _Search:
    """Looks for a way within a limit: what a plan takes, and what its parts do."""

    def __init__(self, limit: int, settings: Settings, plan: Plan, n_samples: int) -> None:
        self.limit, self.settings, self.plan, self.n_samples = limit, settings, plan, n_samples
        self.may_cut = not _couples(plan)
        self._cuts: dict[int, Plan] = {}

    def way(self, batch_size: int) -> Way:
        """For steps of such batches the first way within the limit, or the one that takes least."""
        plan, accumulate = self.plan, self.settings.accumulate
        size, times, needed = fitting(
            self.limit, batch_size, accumulate, partial(self.total, plan), may_cut=self.may_cut
        )
        least = Way(needed, size, times, plan)
        for parted in self.parted() if needed > self.limit else ():
            parts = _checkpoints(parted)
            way = Way(self.total(parted, size, times), size, times, parted, parts)
            least = min(least, way, key=attrgetter("needed"))
            if least.needed <= self.limit:
                break
        return least

    def total(self, plan: Plan, size: int, times: int) -> int:
        """The bytes of a step."""
        settings = self.settings
        return plan.memory(
            size,
            accumulate=times,
            optimizer=settings.rule,
            clip_norm=settings.clip_norm,
            n_samples=self.n_samples,
            n_threads=settings.n_threads,
        )["total"]

    def parted(self) -> Iterator[Plan]:
        """The plan in checkpoints, ever more of them, as far as there are places.

        In mixed precision none: they keep float32, so that their bits are others.
        """
        tried = {0, 1}
        for n in CUTS if self.plan.precision == "full" else ():
            if n not in self._cuts:
                self._cuts[n] = self.plan._cut(n)
            parts = _checkpoints(self._cuts[n])
            if parts not in tried:
                tried.add(parts)
                yield self._cuts[n]

    def largest_batch(self) -> int:
        """The samples of batches, fewer than asked for, that have a way; 0 where none has."""
        low, high = 0, self.settings.batch_size
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.way(middle).needed <= self.limit else (low, middle)
        return low

    def elsewhere(self, plan: Plan | None = None, n_threads: int | None = None) -> int:
        """The bytes that another plan takes at least, or this one with other threads."""
        settings = self.settings
        if n_threads is not None:
            settings = replace(settings, n_threads=n_threads)
        other = _Search(self.limit, settings, self.plan if plan is None else plan, self.n_samples)
        return other.way(settings.batch_size).needed


def _refusal(search: _Search, least: Way) -> str:
    """What was tried in vain, the least that it takes, and what takes less."""
    samples = least.batch_size * least.accumulate
    said = (
        f"memory_limit: found {search.limit} bytes, wanted at least {least.needed} for steps of"
        f" {samples} samples in {least}, the least of what gives the bits of one batch. Tried:"
        f" {_batches_tried(search, least)}; {_checkpoints_tried(search)}."
    )
    others = [f"{what} ({needed} bytes)" for what, needed in _others(search, least)]
    batch_size = search.largest_batch()
    if batch_size > 0:
        said += f" batch_size={batch_size} is within the limit."
    else:
        said += f" Not even batch_size=1 is within the limit ({search.way(1).needed} bytes)."
    return said + f" Less is also taken by {', and by '.join(others)}." * bool(others)


def _batches_tried(search: _Search, least: Way) -> str:
    if not search.may_cut:
        return "no smaller batches, since layers or a Function couple the samples of a batch"
    if least.accumulate == search.settings.accumulate:
        return f"no smaller batches, of which each is to be of {BLOCK} samples or a multiple"
    return f"up to {least.accumulate} batches a step"


def _checkpoints_tried(search: _Search) -> str:
    if search.plan.precision != "full":
        return (
            f"no checkpoints, which in precision={search.plan.precision!r} would give other bits,"
            " since they keep float32 (nn.Checkpoint in the network asks for them all the same)"
        )
    found = max((_checkpoints(plan) for plan in search.parted()), default=0)
    return f"up to {found} checkpoints" if found else "no checkpoints, for want of places for them"


def _others(search: _Search, least: Way) -> Iterator[tuple[str, int]]:
    """Other arguments that take less, with the bytes."""
    plan = search.plan
    if plan.core.dtype == np.float32:
        precision = "bf16" if plan.precision == "full" else "full"
        needed = search.elsewhere(plan=plan._rounded(precision))
        if needed < least.needed:
            yield f"precision={precision!r}", needed
    if search.settings.n_threads > 1:
        needed = search.elsewhere(n_threads=1)
        if needed < least.needed:
            yield "n_threads=1", needed


def _checkpoints(plan: Plan) -> int:
    return int(max(node["checkpoint"] for node in plan.core.nodes))


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
