"""The record of a computation, and the pass back over it.

What an op leaves behind is an `Entry`: the node that ran, the entries that its inputs came from,
and those arrays that its backward reads. Entries are numbered as they are made, so their numbers
are a topological order, and a pass takes the newest first: no recursion, whatever the depth; every
entry once; gradients added in the reverse order of their uses. Entries know nothing of tensors, so
that a tensor's array lives on only where some backward reads it. Nothing here computes: rows do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp.ops.running import Draws

Array = NDArray[Any]
Maybe = Sequence[Array | None]
T = TypeVar("T")

_numbers = count(1)

# -------------------------------------------------------------------------------------------- modes


class Stretch(Protocol):
    """A part of the record that is had again by running again: see recompute.py."""

    def enter(self, entry: Entry) -> None:
        """Takes what a new entry saved."""

    def recall(self, turn: int) -> Any:
        """Gives back what the entry had saved that was the `turn`-th to enter."""

    def draw(self, make: Callable[[], T]) -> T:
        """make(), or what it was when this ran first."""


@dataclass(frozen=True, slots=True)
class State:
    """How ops run here and now; a context of `contextvars` has its own."""

    recording: bool = True
    tangents: bool = False  # whether tangents are carried along
    stretch: Stretch | None = None  # of the checkpointed function that is running


STATE: ContextVar[State] = ContextVar("fastbp", default=State())  # noqa: B039


@contextmanager
def state(**changes: Any) -> Iterator[None]:
    """The present state with some changes, for a while."""
    token = STATE.set(replace(STATE.get(), **changes))
    try:
        yield
    finally:
        STATE.reset(token)


class no_grad(ContextDecorator):
    """Nothing is recorded: results within require no gradient. A context manager or a decorator.

    Ops that differ between training and evaluation run as in evaluation.

    Examples
    --------
    >>> from fastbp import Tensor, no_grad
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     y = x.exp()
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        self._tokens: list[Token[State]] = []

    def _recreate_cm(self) -> no_grad:
        return no_grad()

    def __enter__(self) -> None:
        self._tokens.append(STATE.set(replace(STATE.get(), recording=False)))

    def __exit__(self, *exception: object) -> None:
        STATE.reset(self._tokens.pop())


# ------------------------------------------------------------------------------------------- leaves


class Pass:
    """One backward pass, for the leaves that it filled: whether any of its gradients was read."""

    __slots__ = ("read",)

    def __init__(self) -> None:
        self.read = False


class Leaf:
    """Where gradients end: a tensor that requires one, or a result whose gradient is retained."""

    __slots__ = ("active", "changes", "filled_by", "gradient", "number", "shape")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.number = next(_numbers)
        self.shape = shape
        self.gradient: Array | None = None
        self.filled_by: Pass | None = None
        self.changes = 0  # of its data, in place
        self.active = True  # False: it was frozen after it had been used


# ------------------------------------------------------------------------------------------ entries


@dataclass(slots=True)
class Saved:
    """What the backward of a node reads; None in place of arrays that it does not read."""

    x: Maybe
    y: Maybe
    tx: Maybe | None = None
    ty: Maybe | None = None


class Entry:
    """One op that ran. `parents` are where its inputs came from, None for those without gradient.

    A parent is a leaf, or an entry together with the place of its result in `places`.
    """

    __slots__ = (
        "__weakref__",
        "changes",
        "draws",
        "kept",
        "node",
        "number",
        "parents",
        "places",
        "saved",
        "stretch",
        "training",
        "turn",
    )

    def __init__(self, node: Any, saved: Any, draws: Draws = None, training: bool = False) -> None:
        self.number = next(_numbers)
        self.node = node
        self.saved = saved
        self.draws = draws
        self.training = training
        self.parents: list[Entry | Leaf | None] | None = []
        self.places: list[int] = []
        self.changes: list[tuple[Leaf, int]] | None = None
        self.kept: dict[int, Leaf] | None = None
        self.stretch: Stretch | None = None
        self.turn = 0

    @property
    def name(self) -> str:
        """Of what ran."""
        return str(self.node.name)

    def add_parent(self, parent: Entry | Leaf | None, place: int, read: bool) -> None:
        """Where the next input came from, and whether its array is saved."""
        assert self.parents is not None
        self.parents.append(parent)
        self.places.append(place)
        if read and type(parent) is Leaf:
            self.changes = self.changes or []
            self.changes.append((parent, parent.changes))

    def recall(self) -> Any:
        """What was saved, run for again where it was dropped."""
        for leaf, changes in self.changes or ():
            if leaf.changes != changes:
                raise RuntimeError(
                    f"backward: the data of a leaf of shape {leaf.shape}, which {self.name} read, "
                    "was changed in place since; update leaves after backward()"
                )
        return self.saved if self.stretch is None else self.stretch.recall(self.turn)

    def gradients(self, saved: Any, dy: Maybe, wanted: Sequence[bool]) -> tuple[Maybe, bool]:
        """Gradients of the wanted inputs, and whether these arrays are nobody else's."""
        made = self.node.backward(
            saved.x, saved.y, dy, wanted, draws=self.draws, training=self.training
        )
        return made, True

    def gradients_tangent(
        self, saved: Any, dy: Maybe, tdy: Maybe, wanted: Sequence[bool]
    ) -> Maybe | None:
        """Tangents of these gradients; None where all are zero."""
        given = (saved.tx, tdy)
        if all(t is None for part in given for t in part or ()):
            return None
        zeros = (None,) * max(len(saved.x), len(saved.y))
        tangents: Maybe = self.node.backward_tangent(
            saved.x,
            saved.y,
            saved.tx or zeros[: len(saved.x)],
            saved.ty or zeros[: len(saved.y)],
            dy,
            tdy,
            wanted,
            draws=self.draws,
            training=self.training,
        )
        return tangents

    def free(self) -> None:
        """Lets go of all that only a backward pass needs."""
        self.parents = self.saved = self.stretch = self.changes = None


# --------------------------------------------------------------------------------- the pass back


class _Arrived:
    """What has come so far for the results of an entry, or for a leaf: sums, in order of arrival.

    A sum that is `owned` is in an array of its own, into which more may be added.
    """

    __slots__ = ("at", "gradients", "owned", "tangents")

    def __init__(self, at: Entry | Leaf) -> None:
        results = at.node.n_results if isinstance(at, Entry) else 1
        self.at = at
        self.gradients: list[Array | None] = [None] * results
        self.tangents: list[Array | None] = [None] * results
        self.owned = [False] * results

    def add(self, place: int, gradient: Array, tangent: Array | None, owned: bool) -> None:
        so_far = self.gradients[place]
        if so_far is None:
            self.gradients[place], self.tangents[place] = gradient, tangent
            self.owned[place] = owned
            return
        mine = self.owned[place]
        self.gradients[place] = _sum(so_far, gradient, mine)
        if tangent is not None:
            before = self.tangents[place]
            self.tangents[place] = tangent if before is None else _sum(before, tangent, False)
        self.owned[place] = True

    def own(self, place: int = 0) -> Gradient | None:
        """The sum and its tangent, for a leaf to keep."""
        gradient = self.gradients[place]
        if gradient is None:
            return None
        return gradient if self.owned[place] else gradient.copy(), self.tangents[place]


def _sum(one: Array, other: Array, into: bool) -> Array:
    """one + other, which for arrays without axes is no array in NumPy; `into` one, or a new one."""
    total: Array = np.add(one, other, out=one if into else np.empty_like(one))
    return total


Gradient = tuple[Array, "Array | None"]
"""A gradient and its tangent, None where that is zero or not asked for."""


class Walk:
    """One pass over the record, from results back to leaves.

    Parameters
    ----------
    retain : bool, default=False
        Whether what was saved stays for another pass; else it is dropped as soon as it is used.
    since : int, default=0
        Entries and leaves with lower numbers are left out, as constants.
    tangents : bool, default=False
        Whether the tangents of gradients are computed along with them.
    """

    def __init__(self, *, retain: bool = False, since: int = 0, tangents: bool = False) -> None:
        self._retain, self._since, self._tangents = retain, since, tangents
        self._arrived: dict[int, _Arrived] = {}
        self._heap: list[int] = []
        self._found: dict[Leaf, Gradient | None] = {}

    def run(self, roots: Sequence[tuple[Entry | Leaf, int, Array]]) -> dict[Leaf, Gradient]:
        """The gradients of all leaves that are reached.

        `roots` are entries or leaves with the place of a result and its gradient.
        """
        for at, place, gradient in roots:
            self._send(at, place, gradient, None, owned=False)
        while self._heap:
            arrived = self._arrived.pop(-heappop(self._heap))
            if isinstance(arrived.at, Entry):
                self._through(arrived.at, arrived)
            else:
                self._found[arrived.at] = arrived.own()
        return {leaf: gradient for leaf, gradient in self._found.items() if gradient is not None}

    def _send(
        self, at: Entry | Leaf, place: int, gradient: Array, tangent: Array | None, *, owned: bool
    ) -> None:
        arrived = self._arrived.get(at.number)
        if arrived is None:
            arrived = self._arrived[at.number] = _Arrived(at)
            heappush(self._heap, -at.number)
        arrived.add(place, gradient, tangent, owned)

    def _through(self, entry: Entry, arrived: _Arrived) -> None:
        """One entry's backward: from the gradients of its results to those of its inputs."""
        parents, places = entry.parents, entry.places
        if parents is None:
            raise RuntimeError(
                f"backward: the record was dropped at {entry.name} by an earlier backward(); give "
                "that one retain_graph=True, or run the forward again"
            )
        if entry.kept is not None:
            for place, leaf in entry.kept.items():
                self._found[leaf] = arrived.own(place)
        wanted = [parent is not None and parent.number >= self._since for parent in parents]
        saved, dy = entry.recall(), arrived.gradients
        tangents: Maybe | None = None
        if self._tangents:
            tangents = entry.gradients_tangent(saved, dy, arrived.tangents, wanted)
        gradients, owned = entry.gradients(saved, dy, wanted)
        if not self._retain:
            entry.free()
        for i, parent in enumerate(parents):
            gradient = gradients[i]
            if parent is not None and wanted[i] and gradient is not None:
                tangent = None if tangents is None else tangents[i]
                self._send(parent, places[i], gradient, tangent, owned=owned)


def fill(found: dict[Leaf, Gradient], accumulate: bool | None) -> None:
    """Gives leaves their gradients: all of them or, with an error, none.

    `accumulate` adds to what is there (True) or replaces it (False). None replaces what has been
    read, and refuses to replace the gradients of a pass of which none has.
    """
    active = {leaf: gradient for leaf, (gradient, _) in found.items() if leaf.active}
    if not active:
        raise RuntimeError(
            "backward: all leaves that this result depends on have been frozen since "
            "(requires_grad=False)"
        )
    for leaf in active:
        filled_by = leaf.filled_by
        unread = leaf.gradient is not None and filled_by is not None and not filled_by.read
        if accumulate is None and unread:
            raise RuntimeError(
                f"backward: a leaf of shape {leaf.shape} holds a gradient of an earlier backward() "
                "of which nobody has read any. accumulate=True adds to it, accumulate=False "
                "replaces it"
            )
    this = Pass()
    for leaf, gradient in active.items():
        if accumulate and leaf.gradient is not None:
            gradient = np.add(leaf.gradient, gradient, out=np.empty_like(gradient))
        leaf.gradient, leaf.filled_by = gradient, this
