"""What a case of an op is: its attributes, and how to draw the arrays that it is run on.

Says nothing of what the op computes: that is tests/reference_ops. A family's cases stand in the
module of its name beside this one, and `fastbp.testing.op_cases` collects them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Numbers = float | Sequence[float]


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.5, 2.0, shape)


def _distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Values that differ by far more than the step of a finite difference, none near 0."""
    n = int(np.prod(shape))
    return (rng.permutation(n) + 0.5 - n // 2).reshape(shape) * 0.1


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Zeros and ones, the first of each row one."""
    mask = np.asarray(rng.integers(0, 2, shape), np.float64)
    mask[(..., slice(1)) if shape else ()] = 1.0
    return mask


DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": _normal,
    "positive": _positive,
    "distinct": _distinct,
    "mask": _mask,
}


@dataclass(frozen=True)
class Input:
    """One array of a case.

    Parameters
    ----------
    shape : tuple of int
        Of the whole array, samples included where the op knows them.
    draw : {"normal", "positive", "distinct", "mask", "index"}, default="normal"
        What its elements are: standard normal; uniform in [0.5, 2]; all different and away from 0;
        zeros and ones; or integers from `least` to below `below`.
    below, least : int, default=0
        For "index".
    scale : float, default=1.0
        What the elements are multiplied by, unless they are integers: of weights that are applied
        many times over, so that nothing explodes.
    """

    shape: tuple[int, ...]
    draw: str = "normal"
    below: int = 0
    least: int = 0
    scale: float = 1.0

    def make(self, rng: np.random.Generator, dtype: DTypeLike) -> Array:
        """The array: int32 for "index", else of `dtype`."""
        if self.draw == "index":
            return rng.integers(self.least, self.below, self.shape).astype(np.int32)
        return np.asarray(self.scale * DRAWS[self.draw](rng, self.shape), dtype)


@dataclass(frozen=True)
class OpCase:
    """An op of the table with attributes and inputs.

    Parameters
    ----------
    name : str
        The row.
    inputs : tuple of Input
        Its operands.
    attrs : mapping of str to float or list of float, default={}
        Those of its attributes that are not at their defaults.
    draws : tuple of (seed, step, stream) or None, default=None
        For ops with random masks.
    training : bool, default=True
        Whether the op runs as it does in training.
    """

    name: str
    inputs: tuple[Input, ...]
    attrs: Mapping[str, Numbers] = field(default_factory=dict)
    draws: tuple[int, int, int] | None = None
    training: bool = True

    def arrays(self, dtype: DTypeLike = np.float64, seed: int = 0) -> list[Array]:
        """The same inputs for the same seed, whatever the dtype."""
        rng = np.random.default_rng([seed, len(self.inputs)])
        return [one.make(rng, dtype) for one in self.inputs]

    @property
    def indices(self) -> tuple[int, ...]:
        """Which of the inputs are integers."""
        return tuple(i for i, one in enumerate(self.inputs) if one.draw == "index")

    def __str__(self) -> str:
        shapes = "-".join("x".join(map(str, one.shape)) or "1" for one in self.inputs)
        attrs = ",".join(f"{name}={value}" for name, value in self.attrs.items())
        return f"{self.name}-{shapes}" + (f"-{attrs}" if attrs else "")
