"""A Function in a graph: what the engine calls back for, and how its results' shapes are found.

The engine gives arrays of a whole batch and takes what comes of them; its checks are those of the
Function itself (fastbp/function.py). What a graph is, and who calls when, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.function import Context, Function, Use, read_only
from fastbp.tensor import Tensor

Array = NDArray[Any]

# Samples of the two runs that tell which axis follows them.
COUNTS = (2, 3)


class Planned:
    """A Function at its place in a graph.

    `given` are its arguments as they are; in place of those in `values` come arrays, of the shape
    and dtype there, where None stands for the number of samples. Results are of `dtype`.

    Attributes
    ----------
    name : str
        The Function's.
    results : tuple of tuple of int
        Shapes of its results, without samples.
    batched : bool
        Whether they are of samples, as any of its arguments.
    single : bool
        Whether its forward returns an array, and no tuple.
    """

    def __init__(
        self,
        kind: type[Function],
        given: Sequence[Any],
        values: Mapping[int, tuple[tuple[int | None, ...], np.dtype[Any]]],
        dtype: np.dtype[Any],
    ) -> None:
        self.kind, self.name, self._dtype = kind, kind.__name__, dtype
        self._given = tuple(read_only(x.data.copy()) if isinstance(x, Tensor) else x for x in given)
        self._tensors = {i for i, x in enumerate(given) if isinstance(x, Tensor)}
        self._tensors |= {i for i, (_, dtype) in values.items() if dtype.kind == "f"}
        self._values = dict(values)
        self.batched = any(None in shape for shape, _ in values.values())
        self.results, self.single = self._inferred()

    # ---- as the engine calls it ----

    def forward(self, arrays: Sequence[Array], wanted: Sequence[bool]) -> tuple[Any, list[Array]]:
        """What it leaves for backward, and its results; `wanted` are the gradients to come."""
        places = dict(zip(self._values, wanted, strict=True))
        use, full = self._use(arrays, tuple(places.get(i, False) for i in range(len(self._given))))
        ctx, results, _ = use.forward(full)
        axis = arrays[self._sampled()].shape[:1] if self.batched else ()
        found = [result.shape for result in results]
        if found != [(*axis, *shape) for shape in self.results]:
            raise ValueError(
                f"{self.name}.forward: found results of shapes {found}, wanted "
                f"{[(*axis, *shape) for shape in self.results]}, as when it was traced"
            )
        if any(wanted):
            use.check(full)
        return (use, ctx), results

    def backward(
        self, left: tuple[Use, Context], gradients: Sequence[Array | None]
    ) -> list[Array | None]:
        """The gradients of the arrays, None where there is none."""
        use, ctx = left
        found = use.backward(ctx, gradients)
        return [found[i] for i in self._values]

    def _use(self, arrays: Sequence[Array], wanted: tuple[bool, ...]) -> tuple[Use, list[Any]]:
        full = list(self._given)
        for i, array in zip(self._values, arrays, strict=True):
            full[i] = read_only(array)
        shapes = [x.shape if i in self._tensors else None for i, x in enumerate(full)]
        return Use(self.kind, shapes, wanted, self._dtype), full

    def _sampled(self) -> int:
        """Which of the arrays has the samples, the first that does."""
        shapes = [shape for shape, _ in self._values.values()]
        return next(i for i, shape in enumerate(shapes) if None in shape)

    # ---- shapes ----

    def _inferred(self) -> tuple[tuple[tuple[int, ...], ...], bool]:
        """Shapes of one sample's results, and whether there is a single one."""
        runs = [self._run(n) for n in (COUNTS if self.batched else COUNTS[:1])]
        (shapes, single), (others, _) = runs[0], runs[-1]
        if self.batched:
            for shape, n in [*((s, COUNTS[0]) for s in shapes), *((s, COUNTS[1]) for s in others)]:
                if shape[:1] != (n,):
                    raise ValueError(
                        f"{self.name}.forward: found a result of shape {shape} for {n} samples, "
                        "wanted the samples along its first axis, as many as its inputs have"
                    )
            shapes, others = ([shape[1:] for shape in run] for run in (shapes, others))
        if shapes != others:
            raise ValueError(
                f"{self.name}.forward: found results of shapes {shapes} and {others}, of one "
                f"sample of {COUNTS[0]} and of {COUNTS[1]}, wanted the same ones"
            )
        return tuple(shapes), single

    def _run(self, n_samples: int) -> tuple[list[tuple[int, ...]], bool]:
        """Shapes of its results, on numbers between 0 and 1 and integers that are 0."""
        rng = np.random.default_rng(0)
        arrays = [
            rng.random([n_samples if n is None else n for n in shape]).astype(dtype)
            for shape, dtype in self._values.values()
        ]
        use, full = self._use(arrays, (False,) * len(self._given))
        try:
            with np.errstate(all="ignore"):
                _, results, single = use.forward(full)
        except Exception as error:
            error.add_note(
                f"{self.name}.forward was run on random numbers"
                + (f" for {n_samples} samples" if self.batched else "")
                + ", to find the shapes of its results in a plan"
            )
            raise
        return [result.shape for result in results], single
