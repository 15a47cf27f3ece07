"""`nn.init`: what parameters start from, as values that layers take and descriptions hold.

Numbers come from the engine's counter-based generator: those of a parameter are a function of the
seed and of the parameter's place, so that they depend on neither the other layers nor the number
of threads. What each layer starts from, and why, is told by the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastbp import _core
from fastbp.nn.orthonormal import orthonormal

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Numbers:
    """What random values are functions of."""

    seed: int
    place: int
    dtype: np.dtype[Any]

    def uniform(self, shape: Shape, low: float, high: float) -> Array:
        """Uniform in [low, high)."""
        n = math.prod(shape)
        return _core.uniform(self.seed, self.place, n, low, high, self.dtype).reshape(shape)

    def normal(self, shape: Shape, std: float) -> Array:
        """Normal, of mean 0."""
        drawn = _core.normal(self.seed, self.place, math.prod(shape), self.dtype).reshape(shape)
        drawn *= self.dtype.type(std)
        return drawn


class Initializer:
    """What a parameter starts from; see its subclasses."""

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        """The values (n, *shape) of n arrays that are drawn apart."""
        raise NotImplementedError(f"{type(self).__name__} has no draw")


def _check(holds: bool, what: str, found: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{what}: found {found!r}, wanted {wanted}")


def _check_number(value: Any, what: str, *, positive: bool = False) -> None:
    holds = isinstance(value, Real) and math.isfinite(value)
    holds = holds and (float(value) > 0 or not positive)
    _check(holds, what, value, "a number above 0" if positive else "a finite number")


# ------------------------------------------------------------------------------------ distributions


@dataclass(frozen=True)
class Constant(Initializer):
    """All elements are one number.

    Parameters
    ----------
    value : float
    """

    value: float

    def __post_init__(self) -> None:
        _check_number(self.value, "Constant: value")

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        return np.full((n, *shape), self.value, numbers.dtype)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean 0.

    Parameters
    ----------
    std : float
        The standard deviation, above 0.
    """

    std: float

    def __post_init__(self) -> None:
        _check_number(self.std, "Normal: std", positive=True)

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        return numbers.normal((n, *shape), self.std)


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal with mean 0, of which what is beyond `cut` standard deviations is drawn again.

    Parameters
    ----------
    std : float
        The standard deviation of the whole distribution, above 0; with the default cut what is
        drawn has 0.88 of it.
    cut : float, default=2.0
        At least 0.5, in standard deviations, which `a` and `b` of PyTorch's are not in.
    """

    std: float
    cut: float = 2.0

    def __post_init__(self) -> None:
        _check_number(self.std, "TruncatedNormal: std", positive=True)
        _check_number(self.cut, "TruncatedNormal: cut")
        _check(self.cut >= 0.5, "TruncatedNormal: cut", self.cut, "at least 0.5")

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        wanted = n_drawn = n * math.prod(shape)
        kept: Array = np.empty(0, numbers.dtype)
        while kept.size < wanted:  # at least 0.38 of them are within the cut
            n_drawn = 2 * n_drawn + 16
            drawn = numbers.normal((n_drawn,), 1.0)
            kept = drawn[np.abs(drawn) <= self.cut]
        kept *= numbers.dtype.type(self.std)
        return kept[:wanted].reshape(n, *shape)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform in [-bound, bound).

    Parameters
    ----------
    bound : float
        Above 0.
    """

    bound: float

    def __post_init__(self) -> None:
        _check_number(self.bound, "Uniform: bound", positive=True)

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        return numbers.uniform((n, *shape), -self.bound, self.bound)


Mode = Literal["fan_in", "fan_out", "fan_avg"]


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Of variance scale / fan, where the fan is how many products a unit sums.

    The last axis of a weight counts outputs, the one before it inputs, and those before that the
    positions of a kernel: (in, out), (kernel, in / groups, out), (kernel, kernel, in / groups,
    out). fan_in is the product of all but the last, fan_out that of all but the last but one.

    Parameters
    ----------
    scale : float, default=1.0
        Above 0: the square of what the field calls the gain.
    mode : {"fan_in", "fan_out", "fan_avg"}, default="fan_in"
        fan_in keeps the size of activations, fan_out that of gradients; fan_avg, half of the sum of
        both, is between.
    uniform : bool, default=False
        Whether values are uniform in [-b, b) with b = sqrt(3 variance), rather than normal.
    """

    scale: float = 1.0
    mode: Mode = "fan_in"
    uniform: bool = False

    def __post_init__(self) -> None:
        _check_number(self.scale, "VarianceScaling: scale", positive=True)
        modes = ("fan_in", "fan_out", "fan_avg")
        _check(self.mode in modes, "mode", self.mode, "'fan_in', 'fan_out' or 'fan_avg'")

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Of each element."""
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        return self.scale / max(1, fans[self.mode])

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        _check_matrix(shape, "VarianceScaling")
        fan_in = math.prod(shape[:-1])
        variance = self.variance(fan_in, math.prod(shape[:-2]) * shape[-1])
        if self.uniform:
            bound = math.sqrt(3.0 * variance)
            return numbers.uniform((n, *shape), -bound, bound)
        return numbers.normal((n, *shape), math.sqrt(variance))


def _check_matrix(shape: Shape, name: str) -> None:
    _check(len(shape) >= 2, name, shape, "a shape of at least two axes: (..., inputs, outputs)")


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """gain times a matrix with orthonormal columns, or rows where it has fewer of these.

    It keeps the length of every vector that passes it (Saxe et al. 2014, arXiv:1312.6120), also
    many times over, as in recurrent layers. Drawn evenly among all such matrices: a matrix of
    normal numbers whose columns are made orthonormal one after the other. Of more than two axes,
    all but the last are one.

    Parameters
    ----------
    gain : float, default=1.0
        Above 0.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_number(self.gain, "Orthogonal: gain", positive=True)

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        _check_matrix(shape, "Orthogonal")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        few, many = min(rows, columns), max(rows, columns)
        wide = Numbers(numbers.seed, numbers.place, np.dtype(np.float64))
        made = [orthonormal(one) for one in wide.normal((n, few, many), 1.0)]
        turned = [one.T if rows > columns else one for one in made]
        return np.array(self.gain * np.array(turned), numbers.dtype).reshape(n, *shape)


@dataclass(frozen=True)
class Blocks(Initializer):
    """The last axis in n equal parts, each drawn as an array of its own: gates side by side.

    Parameters
    ----------
    init : str, float or Initializer
        Of each part.
    n : int
    """

    init: Any
    n: int

    def draw(self, n: int, shape: Shape, numbers: Numbers) -> Array:
        _check(shape[-1] % self.n == 0, "Blocks", shape, f"a last axis of {self.n} equal parts")
        part = (*shape[:-1], shape[-1] // self.n)
        drawn = initializer(self.init).draw(n * self.n, part, numbers)
        apart = drawn.reshape(n, self.n, *part)
        return np.moveaxis(apart, 1, -2).reshape(n, *shape)


# ------------------------------------------------------------------------------------------- names


def he_normal(mode: Mode = "fan_in", slope: float = 0.0) -> VarianceScaling:
    """Variance 2 / fan: relu halves the mean square, which this makes good.

    He et al. 2015, "Delving deep into rectifiers", arXiv:1502.01852.

    Parameters
    ----------
    mode : {"fan_in", "fan_out", "fan_avg"}, default="fan_in"
    slope : float, default=0.0
        Of a leaky relu below 0: the variance is 2 / ((1 + slope**2) fan).

    Returns
    -------
    VarianceScaling

    Examples
    --------
    >>> from fastbp import nn
    >>> nn.init.he_normal("fan_out")
    VarianceScaling(scale=2.0, mode='fan_out', uniform=False)
    """
    return VarianceScaling(2.0 / (1.0 + slope * slope), mode)


def he_uniform(mode: Mode = "fan_in", slope: float = 0.0) -> VarianceScaling:
    """As `he_normal`, uniform in [-b, b) with b = sqrt(6 / fan)."""
    return VarianceScaling(2.0 / (1.0 + slope * slope), mode, uniform=True)


def glorot_normal(gain: float = 1.0) -> VarianceScaling:
    """Variance 2 gain**2 / (fan_in + fan_out): forward and backward alike, for tanh and logistic.

    Glorot and Bengio 2010, AISTATS, known as Xavier's too.

    Parameters
    ----------
    gain : float, default=1.0
        1 is for slopes near 1; tanh, whose slopes are below it, keeps its mean square through many
        layers with 5 / 3.

    Returns
    -------
    VarianceScaling
    """
    return VarianceScaling(gain * gain, "fan_avg")


def glorot_uniform(gain: float = 1.0) -> VarianceScaling:
    """As `glorot_normal`, uniform in [-b, b) with b = gain sqrt(6 / (fan_in + fan_out))."""
    return VarianceScaling(gain * gain, "fan_avg", uniform=True)


def lecun_normal(gain: float = 1.0) -> VarianceScaling:
    """Variance gain**2 / fan_in: 1 at every unit, as selu asks for.

    LeCun et al. 1998, "Efficient backprop"; Klambauer et al. 2017, arXiv:1706.02515.
    """
    return VarianceScaling(gain * gain)


def lecun_uniform(gain: float = 1.0) -> VarianceScaling:
    """As `lecun_normal`, uniform in [-b, b) with b = gain sqrt(3 / fan_in)."""
    return VarianceScaling(gain * gain, uniform=True)


_SCALED = (glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal)
INITIALIZERS: dict[str, VarianceScaling] = {one.__name__: one() for one in _SCALED}
"""Those of weights that scikit-learn's faces know, with their defaults, by name."""

NAMES: dict[str, Initializer] = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "orthogonal": Orthogonal(),
    **INITIALIZERS,
}
"""What layers take by name."""


def initializer(init: Any) -> Initializer:
    """What is meant: itself, one with its defaults by name, or the constant of a number."""
    if isinstance(init, Initializer):
        return init
    if isinstance(init, str) and init in NAMES:
        return NAMES[init]
    if isinstance(init, Real) and not isinstance(init, bool):
        return Constant(float(init))
    wanted = ", ".join(map(repr, NAMES))
    raise ValueError(
        f"init: found {init!r}, wanted a number or one of {wanted}, or of the classes of nn.init"
    )


def start(init: Any, shape: Shape, seed: int, place: int, dtype: np.dtype[Any]) -> Array:
    """The starting values of one parameter.

    Parameters
    ----------
    init : str, float, Initializer or ndarray
        An array is what it starts from; the others are for `initializer`.
    shape : tuple of int
    seed, place : int
        The parameter's values are a function of the two.
    dtype : numpy.dtype

    Returns
    -------
    ndarray of `shape`
    """
    if isinstance(init, np.ndarray):
        _check(init.shape == shape, "init", init.shape, f"an array of shape {shape}")
        return np.array(init, dtype)
    return initializer(init).draw(1, shape, Numbers(seed, place, dtype)).reshape(shape)
