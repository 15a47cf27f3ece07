"""`checkpoint`: less memory for a second run.

While a checkpointed function runs, what its ops would save for backward is dropped; when backward
comes to one of them, the function runs again and saves for all. The record is the same as without,
so gradients, also by tensors that the function takes from elsewhere, have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from fastbp.autodiff import STATE, Entry, state

T = TypeVar("T")


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """f with less memory: what its backward reads is dropped, and f runs again in backward.

    The gradients have the same bits. f must do the same whenever it runs: random masks drawn by
    layers of fastbp are drawn again as they were, and other ops in the second run are an error.
    Within a checkpointed function, another checkpoint changes nothing. In a module's forward it is
    part of the module's plan, as `nn.Checkpoint` is.

    Parameters
    ----------
    f : callable
        Takes and returns tensors; may use others, such as weights, from elsewhere.

    Returns
    -------
    callable
        Of f's arguments and results.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Tensor, checkpoint
    >>> x = Tensor([0.5, 1.0], requires_grad=True)
    >>> block = checkpoint(lambda x: x.tanh().exp().sum())
    >>> block(x).backward()
    >>> x.grad.round(4)
    array([1.2484, 0.8995])
    """

    @wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        now = STATE.get()
        if not now.recording or now.stretch is not None:
            return f(*args, **kwargs)
        tangents = now.tangents

        def rerun() -> None:
            with state(tangents=tangents):
                f(*args, **kwargs)

        with state(stretch=FirstRun(rerun)):
            return f(*args, **kwargs)

    return run


class FirstRun:
    """The first run of a checkpointed function, whose entries save nothing."""

    __slots__ = ("_drawn", "_names", "_rerun", "_saved")

    def __init__(self, rerun: Callable[[], object]) -> None:
        self._rerun = rerun
        self._names: list[str] = []
        self._drawn: list[Any] = []
        self._saved: dict[int, Any] = {}

    def enter(self, entry: Entry) -> None:
        """A new entry: it gets a turn instead of what it would save."""
        entry.stretch, entry.turn, entry.saved = self, len(self._names), None
        self._names.append(entry.name)

    def draw(self, make: Callable[[], T]) -> T:
        """A new draw, which the rerun will get again."""
        drawn = make()
        self._drawn.append(drawn)
        return drawn

    def recall(self, turn: int) -> Any:
        """What the entry of this turn would have saved; the function runs again for all of them."""
        if turn not in self._saved:
            replay = SecondRun(self._drawn)
            with state(recording=True, stretch=replay):
                self._rerun()
            if replay.names != self._names:
                raise RuntimeError(
                    "checkpoint: the function ran other ops in backward than before "
                    f"({_first_difference(self._names, replay.names)}); it must do the same each "
                    "time it runs on the same inputs"
                )
            self._saved = dict(enumerate(replay.saved))
        return self._saved.pop(turn)


def _first_difference(before: list[str], after: list[str]) -> str:
    for one, other in zip(before, after, strict=False):
        if one != other:
            return f"{one} became {other}"
    return f"{len(before)} became {len(after)}"


class SecondRun:
    """A later run, which saves for the entries of the first."""

    __slots__ = ("_drawn", "names", "saved")

    def __init__(self, drawn: Iterable[Any]) -> None:
        self._drawn = iter(drawn)
        self.names: list[str] = []
        self.saved: list[Any] = []

    def enter(self, entry: Entry) -> None:
        """A new entry, of interest only for what it saved."""
        self.names.append(entry.name)
        self.saved.append(entry.saved)

    def draw(self, make: Callable[[], T]) -> T:
        """The draw that the first run made here; `make` is left alone."""
        try:
            drawn: T = next(self._drawn)
        except StopIteration:
            raise RuntimeError("checkpoint: the function draws more often than before") from None
        return drawn

    def recall(self, turn: int) -> Any:
        """Nobody goes back through a second run."""
        raise NotImplementedError


def drawn(make: Callable[[], T]) -> T:
    """make(), what random masks are to be drawn from; in a rerun, what the first run had here.

    Whoever takes (seed, step, stream) from a generator takes it through this function, so that the
    generator moves on once, however often a checkpointed function runs.
    """
    stretch = STATE.get().stretch
    return make() if stretch is None else stretch.draw(make)
