"""A dense network: the description that plans are compiled from, and its weights in one flat
buffer.

Holds no data and trains nothing. A `Network` is a small value that pickles; plans, which hold
scratch memory, are compiled from it on demand.
"""

import reprlib
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import _core

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Network:
    """Linear layers with one activation between them, and a loss on the raw output of the last.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Features of a sample; outputs of the last layer.
    hidden : tuple of int
        Units of each hidden layer; empty for a linear model.
    activation, loss : tuple of (str, dict of str to float)
        A row of the engine's table and those of its attributes that are not at their default.
    dtype : numpy.dtype
        float32 or float64: of the weights, the data and all arithmetic.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.nn.network import Network
    >>> network = Network(2, 1, (3,), ("tanh", {}), ("squared_error", {}), np.dtype("float32"))
    >>> network.plan().n_params
    13
    """

    n_inputs: int
    n_outputs: int
    hidden: tuple[int, ...]
    activation: tuple[str, Mapping[str, float]]
    loss: tuple[str, Mapping[str, float]]
    dtype: np.dtype[Any]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of every layer, the inputs first."""
        return (self.n_inputs, *self.hidden, self.n_outputs)

    def samples(self, X: Any) -> Any:
        """Features as plans take them: as they are."""
        return X

    def plan(self, *, sparse: bool = False) -> _core.Plan:
        """Compile the network for dense or for CSR inputs."""
        layers: list[tuple[str, Mapping[str, float]]] = []
        for units in self.hidden:
            layers += [("linear", {"units": units}), self.activation]
        layers.append(("linear", {"units": self.n_outputs}))
        return _core.Plan(self.n_inputs, layers, self.loss, dtype=self.dtype, sparse=sparse)


class Parameters:
    """All weights of a network in one flat buffer, and the views of it that a user may edit.

    Attributes
    ----------
    flat : ndarray of shape (n_params,)
        The weights of layer 0 row by row, its biases, then those of layer 1, and so on.
    coefs : tuple of ndarray of shape (n_in, n_out)
        Writable views of the weights, one a layer.
    intercepts : tuple of ndarray of shape (n_out,)
        Writable views of the biases, one a layer.
    """

    def __init__(self, flat: Array, tensors: Sequence[Mapping[str, Any]]) -> None:
        self.flat = flat
        self._tensors = tuple(tensors)
        views = []
        for tensor in self._tensors:
            start, size = tensor["offset"], int(np.prod(tensor["shape"]))
            views.append(flat[start : start + size].reshape(tensor["shape"]))
        self.coefs = tuple(view for view in views if view.ndim == 2)
        self.intercepts = tuple(view for view in views if view.ndim == 1)

    def __reduce__(self) -> tuple[Any, ...]:
        # The views are made anew from the flat buffer, which therefore is pickled once.
        return Parameters, (self.flat, self._tensors)

    def absorb(self, coefs: object, intercepts: object) -> bool:
        """Copy arrays that a user put in the place of views into the buffer; tell if there were
        any.

        Raises a ValueError that names the first that is no array of the right shape; then nothing
        is copied.
        """
        changes: list[tuple[Array, Array]] = []
        for name, given, own in (
            ("coefs_", coefs, self.coefs),
            ("intercepts_", intercepts, self.intercepts),
        ):
            if not (isinstance(given, Iterable) and isinstance(given, Sized)):
                raise ValueError(
                    f"{name} is {reprlib.repr(given)}; this model wants a list of {len(own)}"
                    " arrays, one a layer."
                )
            if len(given) != len(own):
                raise ValueError(
                    f"{name} has {len(given)} arrays; this model wants {len(own)}, one a layer."
                )
            for i, (array, view) in enumerate(zip(given, own, strict=True)):
                if array is not view:
                    # A copy, since it may itself be a view of the buffer that is written below.
                    new = self._array(array, f"{name}[{i}]", view.shape)
                    if new.shape != view.shape:
                        raise ValueError(
                            f"{name}[{i}] has shape {new.shape}; this model wants {view.shape}."
                        )
                    changes.append((view, new))
        for view, new in changes:
            view[...] = new
        return bool(changes)

    def refuse_what_is_not_finite(self) -> None:
        """Raise a ValueError that names the first array with an infinite or NaN weight."""
        if np.isfinite(self.flat).all():
            return
        for name, views in (("coefs_", self.coefs), ("intercepts_", self.intercepts)):
            for i, view in enumerate(views):
                if not np.isfinite(view).all():
                    raise ValueError(
                        f"{name}[{i}] holds infinite or NaN weights; training goes on from finite"
                        " ones only."
                    )

    def _array(self, given: object, name: str, shape: tuple[int, ...]) -> Array:
        """A copy of `given` in the weights' dtype; a ValueError where its numbers would be lost."""
        dtype = self.flat.dtype
        try:
            array = np.asarray(given)
            if array.dtype.kind not in "fiubO":  # NumPy would drop imaginary parts and count dates
                raise TypeError(f"found an array of dtype {array.dtype}")
            with np.errstate(over="ignore"):
                new: Array = array.astype(dtype)
        except (TypeError, ValueError, OverflowError) as error:
            found = reprlib.repr(given)
            if isinstance(given, np.ndarray):
                found = f"an array of dtype {given.dtype}"
            raise ValueError(
                f"{name} is {found}; this model wants real numbers of shape {shape}."
            ) from error
        if np.isinf(new).any() and np.isfinite(array.astype(np.longdouble)).all():
            raise ValueError(f"{name} has a value too large for {dtype}, the model's dtype.")
        return new
