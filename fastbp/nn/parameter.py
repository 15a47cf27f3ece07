"""`Parameter`: a named array of a network, as a view of the one flat buffer that holds them all.

Here is what one is, and the buffer with what else a network keeps once it is built. Which
parameters there are is the modules' affair (module.py), what they start from that of
initializers.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.nn.tracing import Input
from fastbp.tensor import Tensor, constant

Array = NDArray[Any]


class Parameter:
    """An array that training changes.

    Modules make their parameters by `Module.parameter`; nobody makes one alone.

    Attributes
    ----------
    name : str
        The path of its module in the network, a dot, and its own name.
    shape : tuple of int
    init : str, float or Initializer
        What its values start from.
    learns : bool
        Whether it is there to be trained; running averages of a batch's statistics are not.
    frozen : bool
        Whether `Module.freeze` has been asked to leave it as it is.
    """

    def __init__(self, name: str, shape: tuple[int, ...], init: Any, *, learns: bool) -> None:
        self.name, self.shape, self.init, self.learns = name, shape, init, learns
        self.frozen = False
        self._home: Home | None = None
        self._offset = 0
        self._tensor: Tensor | None = None

    @property
    def trainable(self) -> bool:
        """Whether training changes it."""
        return self.learns and not self.frozen

    @property
    def penalised(self) -> bool:
        """Whether penalties and decay of weights are on it: those of products, not of sums."""
        return self.learns and len(self.shape) > 1

    @property
    def size(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)

    @property
    def tensor(self) -> Tensor:
        """The values as a tensor; a leaf that requires a gradient where they are trainable."""
        if self._home is None:
            raise RuntimeError(f"{self.name}: its network is being built, it has no values yet")
        view = self._home.view(self)
        if self._tensor is None:
            self._tensor = constant(view)
        if self._tensor.requires_grad != self.trainable:
            self._tensor.requires_grad = self.trainable
        if self._tensor._data is not view:
            # Another array was put in the tensor; the buffer remains the one place of values.
            view[...] = self._tensor._data
            self._tensor._data = view
        return self._tensor

    @property
    def data(self) -> Array:
        """The values, which may be written to; assigning copies."""
        return self.tensor.data

    @data.setter
    def data(self, values: Any) -> None:
        array = np.asarray(values)
        if array.shape != self.shape:
            raise ValueError(f"{self.name}: found shape {array.shape}, wanted {self.shape}")
        self.tensor.data[...] = array
        self.tensor._changed()

    @property
    def grad(self) -> Array | Any:
        """What `backward` left of its gradient."""
        return self.tensor.grad

    def __getstate__(self) -> dict[str, Any]:
        # The tensor is made anew from the buffer, which therefore is copied and pickled once; the
        # buffer's owner gives itself back, so that states hold no cycle (skops cannot follow one).
        return {**self.__dict__, "_tensor": None, "_home": None}

    def __repr__(self) -> str:
        frozen = ", frozen" if self.frozen else ""
        return f"Parameter({self.name!r}, {self.shape}{frozen})"


class Home:
    """What a built network keeps: the buffer of its parameters, and what it was built for.

    Attributes
    ----------
    flat : ndarray of shape (n_params,)
        All values, in the order in which a forward run first meets the parameters.
    parameters : dict of str to Parameter
    inputs : dict of str to Input, or Input
        By the names of `forward`'s arguments, or the only one.
    seed : int
        Of everything random.
    step : int
        Runs so far that drew random masks.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        inputs: Mapping[str, Input] | Input,
        seed: int,
        dtype: np.dtype[Any],
        flat: Array | None = None,
    ) -> None:
        self.parameters = {one.name: one for one in parameters}
        self.inputs, self.seed, self.step = inputs, seed, 0
        n_params = sum(one.size for one in self.parameters.values())
        if flat is not None and (flat.shape, flat.dtype) != ((n_params,), dtype):
            raise ValueError(
                f"found {flat.dtype} of shape {flat.shape} for the parameters of a network, wanted"
                f" {dtype} of shape ({n_params},)"
            )
        self.flat = np.empty(n_params, dtype) if flat is None else flat
        self._views: dict[str, Array] = {}
        offset = 0
        for one in self.parameters.values():
            one._home, one._offset, one._tensor = self, offset, None
            offset += one.size

    def view(self, parameter: Parameter) -> Array:
        """The part of the buffer that is this parameter's."""
        view = self._views.get(parameter.name)
        if view is None:
            part = self.flat[parameter._offset : parameter._offset + parameter.size]
            view = self._views[parameter.name] = part.reshape(parameter.shape)
        return view

    def settle(self) -> Array:
        """The buffer, with what was put in the place of tensors' arrays copied in."""
        for one in self.parameters.values():
            if one._tensor is not None:
                _ = one.tensor
        return self.flat

    def own(self) -> Array:
        """`settle`, for who writes to the buffer: a copy takes its place if it is read-only."""
        flat = self.settle()
        if not flat.flags.writeable:  # memory-mapped
            self.lie_in(flat.copy())
        return self.flat

    def lie_in(self, flat: Array) -> None:
        """Have another array of that length hold the values, as they are there."""
        self.flat, self._views = flat, {}
        for one in self.parameters.values():
            one._tensor = None

    def note_change(self) -> None:
        """Tell those who recorded the parameters' values that they are others now."""
        for one in self.parameters.values():
            if one._tensor is not None:
                one._tensor._changed()

    def next_step(self) -> int:
        """The number of a run with random masks, from 0."""
        self.step += 1
        return self.step - 1

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        return {**self.__dict__, "_views": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for one in self.parameters.values():
            one._home = self
