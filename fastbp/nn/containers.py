"""Modules made of modules: one after the other, beside a way past them, or of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from fastbp.nn.module import Module


class Sequential(Module):
    """Modules one after the other.

    Parameters
    ----------
    *layers : Module
        Each takes what the one before it returns. Their names are their places, "0", "1", ..., by
        which `get_params` and `set_params` know them too.

    Examples
    --------
    >>> from fastbp import nn
    >>> network = nn.Sequential(nn.Linear(16), nn.ReLU(), nn.Linear(1)).build(4)
    >>> {name: one.shape for name, one in network.parameters().items()}
    {'0.weight': (4, 16), '0.bias': (16,), '2.weight': (16, 1), '2.bias': (1,)}
    """

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(
                    f"Sequential: found {type(layer).__name__} as layer {i}, wanted a Module; "
                    "Lambda makes one of a function"
                )
        self.layers = layers

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return []  # none of all Sequentials; scikit-learn would read them off __init__

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, layer in self.children():
            params[name] = layer
            if deep:
                params |= {f"{name}__{key}": value for key, value in layer.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        with self._changing("changed"):
            replaced = {name: params.pop(name) for name, _ in self.children() if name in params}
            self.layers = tuple(replaced.get(name, layer) for name, layer in self.children())
            return super().set_params(**params)

    def _initialise(self, params: dict[str, Any]) -> None:
        self.__init__(*params.values())  # type: ignore[misc]  # as set_params promises

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, place: int | slice) -> Module:
        """A layer, or a Sequential of some, which share their values with this one."""
        if isinstance(place, slice):
            return Sequential(*self.layers[place])
        return self.layers[place]

    def __repr__(self) -> str:
        inner = ",\n".join(map(repr, self.layers)).replace("\n", "\n  ")
        return f"Sequential(\n  {inner}\n)" if self.layers else "Sequential()"


class Residual(Module):
    """x + module(x): the way past a part of a network that keeps deep ones trainable.

    He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385.

    Parameters
    ----------
    module : Module
        Of which input and output have the same shape, unless `shortcut` makes them alike.
    shortcut : Module, default=None
        What x passes on its way past; None is nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.Residual(nn.Linear(3)).build(3)(np.ones((2, 3), np.float32)).shape
    (2, 3)
    """

    def __init__(self, module: Module, shortcut: Module | None = None) -> None:
        self.module = module
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        y = self.module(x)
        past = x if self.shortcut is None else self.shortcut(x)
        if past.shape != y.shape:
            raise ValueError(
                f"Residual: found shapes {past.shape} past and {y.shape} through the module, "
                "wanted the same"
            )
        return past + y


class Lambda(Module):
    """A function without parameters as a module.

    Parameters
    ----------
    function : callable
        Of tensors, with `fastbp.ops` and operators. To be pickled with the module it needs a name
        of its own in a file: a lambda has none.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import nn
    >>> nn.Lambda(lambda x: x.reshape(-1, 2, 2)).build(4)(np.ones((3, 4), np.float32)).shape
    (3, 2, 2)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.function(*inputs, **named)
