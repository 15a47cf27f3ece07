"""Classes made of the table's rows: every activation as a module, every loss as an object.

A row's name becomes the class's, its attributes become parameters of `__init__`: a row added in C
is here by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import BaseEstimator

from fastbp.nn.module import Module
from fastbp.nn.rows import Row, check_attributes, rows
from fastbp.ops.running import call

# As the field writes them; other names are written as words.
_SPELLINGS = {"relu": "ReLU", "elu": "ELU", "selu": "SELU", "gelu": "GELU", "silu": "SiLU"}


def spelt(name: str) -> str:
    """The name of the class that is made of a row."""
    if name in _SPELLINGS:
        return _SPELLINGS[name]
    return "".join(_SPELLINGS.get(word, word.capitalize()) for word in name.split("_"))


class Activation(Module):
    """An elementwise module; see its subclasses, one for each activation of the table."""

    _row: Row

    def forward(self, x: Any) -> Any:
        return call(self._row["name"], (x,), tuple(self.get_params().items()))


class Loss(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A loss of raw outputs z and targets; see its subclasses, one for each loss of the table.

    Called on tensors it gives the mean over samples and positions, a tensor of one element.
    """

    _row: Row

    @property
    def name(self) -> str:
        """The row of the table."""
        return str(self._row["name"])

    def attributes(self) -> dict[str, float]:
        """The row's attributes, checked."""
        return check_attributes(
            self._row, self.get_params(), argument=type(self).__name__, user_name=self.name
        )

    def __call__(self, z: Any, target: Any) -> Any:
        values = call(self.name, (z, target), tuple(self.attributes().items()))
        return call("mean", (values,))


def loss_of(given: Any, argument: str = "loss") -> Loss:
    """The loss that is meant: itself, or one with its defaults by the name of its row."""
    if isinstance(given, Loss):
        return given
    if isinstance(given, str) and given in _BY_ROW:
        return _BY_ROW[given]()
    wanted = ", ".join(_BY_ROW)
    raise ValueError(f"{argument}: found {given!r}, wanted a Loss or one of the names {wanted}")


def activation_of(given: Any, argument: str) -> Module:
    """The module that is meant: itself, or an activation with its defaults by the row's name."""
    if isinstance(given, Module):
        return given
    if isinstance(given, str) and given in rows("activation"):
        return ACTIVATIONS[spelt(given)]()
    wanted = ", ".join(rows("activation"))
    raise ValueError(f"{argument}: found {given!r}, wanted a Module or one of the names {wanted}")


def _described(row: Row, formula: str) -> str:
    lines = [f"{formula}.", "", f"The row {row['name']!r} of the table."]
    if row["attrs"]:
        lines += ["", "Parameters", "----------"]
    for attr in row["attrs"]:
        lines += [f"{attr['name']} : float, default={attr['default']:g}", f"    {attr['doc']}."]
    return "\n".join(lines)


def _initialiser(attrs: tuple[Mapping[str, Any], ...]) -> Callable[..., None]:
    """An `__init__` that stores the attributes, with a signature that scikit-learn reads."""
    parameters = "".join(f", {attr['name']}={float(attr['default'])!r}" for attr in attrs)
    stored = "; ".join(f"self.{attr['name']} = {attr['name']}" for attr in attrs) or "pass"
    made: dict[str, Any] = {}
    exec(f"def __init__(self{parameters}):\n    {stored}", {"inf": math.inf}, made)
    function: Callable[..., None] = made["__init__"]
    return function


def _made(base: type, row: Row) -> type:
    formula, names = row["doc"], sorted(attr["name"] for attr in row["attrs"])
    body = {
        "__module__": "fastbp.nn",
        "__doc__": _described(row, formula),
        "__init__": _initialiser(row["attrs"]),
        # What scikit-learn would find out from __init__ at each call.
        "_get_param_names": classmethod(lambda cls: names),
        "_row": row,
    }
    return type(spelt(row["name"]), (base,), body)


ACTIVATIONS: dict[str, type[Activation]] = {
    spelt(name): _made(Activation, row) for name, row in rows("activation").items()
}
"""Modules by the names of their classes."""

LOSSES: dict[str, type[Loss]] = {
    spelt(name): _made(Loss, row) for name, row in rows("loss").items()
}
"""Losses by the names of their classes."""

_BY_ROW = {made._row["name"]: made for made in LOSSES.values()}
