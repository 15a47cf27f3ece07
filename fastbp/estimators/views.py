"""`coefs_` and `intercepts_`: views of a dense network's flat buffer that a user may edit.

What is put in their place is copied into the buffer, or refused. Trains nothing.
"""

import reprlib
from collections.abc import Iterable, Sized
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Views:
    """The weights of each layer of a dense network, as views of its flat buffer.

    Attributes
    ----------
    flat : ndarray of shape (n_params,)
        All parameters of the network, also those of norms. The weights of a layer lie there row by
        row, and its biases after them.
    sizes : tuple of int
        Units of every layer, the inputs first.
    offsets : tuple of int
        Where in it the weights of each layer begin.
    coefs : tuple of ndarray of shape (n_in, n_out)
        Writable views of the weights, one a layer.
    intercepts : tuple of ndarray of shape (n_out,)
        Writable views of the biases, one a layer.
    """

    def __init__(self, flat: Array, sizes: tuple[int, ...], offsets: tuple[int, ...]) -> None:
        self.flat, self.sizes, self.offsets = flat, sizes, offsets
        coefs, intercepts = [], []
        for offset, (n_in, n_out) in zip(offsets, pairwise(sizes), strict=True):
            end = offset + n_in * n_out
            coefs.append(flat[offset:end].reshape(n_in, n_out))
            intercepts.append(flat[end : end + n_out])
        self.coefs, self.intercepts = tuple(coefs), tuple(intercepts)

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
        raise ValueError(
            "module_ holds infinite or NaN values in its norms; training goes on from finite ones"
            " only."
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
