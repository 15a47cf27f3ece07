"""Networks as values: each module by its class and parameters, all weights in one array.

Classes are those of `fastbp.nn` and those that who reads passes in: a file's words are looked up in
that table, never imported. What is read is traced anew, within limits, so that a small file cannot
ask for more memory than it has bytes to show for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastbp import nn
from fastbp.estimators.saving.values import Reader, Writer, expect, refuse, refuse_file
from fastbp.nn.module import Module
from fastbp.nn.parameter import Array, Home, Parameter
from fastbp.nn.runs import Tracing
from fastbp.nn.samples import Samples
from fastbp.nn.tracing import Graph, Input, Traced
from fastbp.ops.running import REALS

_OWN = {
    name: one
    for name in nn.__all__
    if isinstance(one := getattr(nn, name), type) and issubclass(one, Module)
}
for _name in ("Module", "Activation", "Lambda"):  # no networks by themselves, or of a function
    del _OWN[_name]
_OWN_NAMES: dict[type, str] = {one: name for name, one in _OWN.items()}

# Nodes of a graph, and elements of a value for one sample: what has more is for pickle.
_MOST_NODES, _MOST_ELEMENTS = 100_000, 2**25

Modules = Mapping[str, type[Module]]

# ------------------------------------------------------------------------------------------ writing


class ModuleWriter:
    """Has a `Writer` write modules.

    Attributes
    ----------
    met : set of type
        The classes of users' own that were met.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.met: set[type[Module]] = set()
        self._numbers: dict[int, int] | None = None  # within a network
        writer.further = self._further

    def _further(self, value: Any, where: str) -> Any:
        if not isinstance(value, Module):
            return None
        if self._numbers is not None:
            return self._part(value, where)
        parts = value.modules()
        if all(one._home is None for one in parts.values()):
            return {"type": "network", **self.described(value, where)}
        if any(one._home is not value._home for one in parts.values()):
            refuse(where, "a Module of which parts have values of other networks (build() it);")
        built = {**self.described(value, where), **written_values(self._writer, value, where)}
        return {"type": "built network", **built}

    def described(self, module: Module, where: str) -> dict[str, Any]:
        """A network without its values."""
        self._numbers = {}
        try:
            made = self._writer.encode(module, where)
        finally:
            self._numbers = None
        return {"module": made, "freezing": patterns(module)}

    def _part(self, module: Module, where: str) -> dict[str, Any]:
        kind = type(module)
        assert self._numbers is not None
        if id(module) in self._numbers:
            return {"type": "same module", "number": self._numbers[id(module)]}
        if kind is nn.Lambda:
            refuse(
                where,
                f"Lambda({getattr(module, 'function', None)!r}), whose function is code (a Module"
                " of your own in its place can be passed to load(path, modules=[...]));",
            )
        if kind not in _OWN_NAMES:
            self.met.add(kind)
        params = {
            name: self._writer.encode(value, f"{where}.{name}")
            for name, value in module.get_params(deep=False).items()
        }
        self._numbers[id(module)] = len(self._numbers)
        name = _OWN_NAMES.get(kind, kind.__qualname__)
        return {"type": "module", "own": kind in _OWN_NAMES, "class": name, "params": params}


def written_values(writer: Writer, module: Module, where: str) -> dict[str, Any]:
    """What a built network has beside its description."""
    home = module._built()
    flat = home.settle()
    refuse_what_is_not_finite(home, flat, where)
    return {
        "inputs": writer.encode(home.inputs, f"{where}: inputs"),
        "seed": home.seed,
        "step": home.step,
        "flat": writer.array(flat, where),
        "parameters": [
            [name, list(one.shape), one.frozen] for name, one in home.parameters.items()
        ],
    }


def refuse_what_is_not_finite(home: Home, flat: Array, where: str) -> None:
    """Raise a ValueError that names the first parameter with infinite or NaN values."""
    if np.isfinite(flat).all():
        return
    for name, one in home.parameters.items():
        if not np.isfinite(home.view(one)).all():
            raise ValueError(
                f"{where}: found infinite or NaN values in parameter {name!r}, wanted finite ones"
            )


def patterns(module: Module) -> dict[str, list[str]]:
    """What `freeze` was told, by paths."""
    return {path: [*one._frozen] for path, one in module.modules().items() if one._frozen}


# ------------------------------------------------------------------------------------------ reading


class ModuleReader:
    """Has a `Reader` read modules, of `fastbp.nn` and of the classes in a table."""

    def __init__(self, reader: Reader, known: Modules) -> None:
        self._reader, self._known = reader, known
        self._read: list[Module] = []
        reader.further = {
            "module": self._module,
            "same module": self._same,
            "network": lambda given, where: self.described(given, where),
            "built network": lambda given, where: self.built(given, where)[0],
        }

    def described(self, given: Mapping[str, Any], where: str) -> Module:
        """A network without values."""
        before, self._read = self._read, []
        made = self._reader.decode(given.get("module"), where)
        self._read = before
        if not isinstance(made, Module):
            refuse_file(where, f"{type(made).__name__} for a network")
        set_patterns(made, given, where)
        return made

    def built(self, given: Mapping[str, Any], where: str) -> tuple[Module, Tracing]:
        """A network with its values, and the run that has traced it."""
        module = self.described(given, where)
        values = read_values(self._reader, given, where)
        names = [(name, shape) for name, shape, _ in values.parameters]
        run = _Bounded(module, values.flat.dtype, names, where)
        module._build(values.inputs, values.seed, values.flat.dtype, flat=values.flat, run=run)
        values.settle_in(module, where)
        return module, run

    def _module(self, given: dict[str, Any], where: str) -> Module:
        name = expect(str, given.get("class"), where)
        if expect(bool, given.get("own"), where):
            kind: type[Module] | None = _OWN.get(name)
            if kind is None:
                refuse_file(where, f"{name!r}, which is no module of fastbp.nn,")
        else:
            kind = self._known.get(name)
            if kind is None:
                raise ValueError(
                    f"{where}: found a module of the class {name!r}, which is not fastbp's own; if"
                    " you trust what its class does, wanted load(path, modules=[...]) with it"
                )
        params = expect(dict, given.get("params"), where)
        values = {key: self._reader.decode(one, f"{where}.{key}") for key, one in params.items()}
        made: Module = kind.__new__(kind)
        made._initialise(values)
        self._read.append(made)
        return made

    def _same(self, given: dict[str, Any], where: str) -> Module:
        number: int = expect(int, given.get("number"), where)
        if not 0 <= number < len(self._read):
            refuse_file(where, f"module {number}, of {len(self._read)} so far")
        return self._read[number]


class Values:
    """What was read of a built network beside its description, checked by itself."""

    def __init__(
        self, inputs: Any, seed: int, step: int, flat: Array, parameters: Sequence[Any]
    ) -> None:
        self.inputs, self.seed, self.step = inputs, seed, step
        self.flat, self.parameters = flat, parameters

    def settle_in(self, module: Module, where: str) -> None:
        """Complete a module that was built with these."""
        home = module._built()
        home.step = self.step
        listed = [(name, one.shape) for name, one in home.parameters.items()]
        if listed != [(name, shape) for name, shape, _ in self.parameters]:
            refuse_file(where, "parameters of other names or shapes than the network has")
        for name, _, frozen in self.parameters:
            home.parameters[name].frozen = frozen
        refuse_what_is_not_finite(home, self.flat, where)


def read_values(reader: Reader, given: Mapping[str, Any], where: str) -> Values:
    """What `written_values` has written; sizes agree with the array that there is."""
    flat = reader.array(given.get("flat"), where)
    if flat.dtype not in REALS or flat.ndim != 1:
        refuse_file(where, f"weights of dtype {flat.dtype} and shape {flat.shape}")
    parameters = []
    for one in expect(list, given.get("parameters"), where):
        match one:
            case [str(name), list(shape), bool(frozen)] if all(
                type(n) is int and n >= 0 for n in shape
            ):
                parameters.append((name, tuple(shape), frozen))
            case _:
                refuse_file(where, f"{one!r:.60} for a parameter")
    if sum(math.prod(shape) for _, shape, _ in parameters) != flat.size:
        refuse_file(where, f"{flat.size} weights for parameters of other sizes")
    seed, step = (expect(int, given.get(name), where) for name in ("seed", "step"))
    if not (0 <= seed < 2**64 and 0 <= step < 2**63):
        refuse_file(where, f"the seed {seed} and step {step}")
    inputs = reader.decode(given.get("inputs"), f"{where}: inputs")
    for one in inputs.values() if isinstance(inputs, dict) else [inputs]:
        if not (
            isinstance(one, Input)
            and type(one.shape) is tuple
            and all(type(n) is int and n >= 0 for n in one.shape)
            and math.prod(one.shape) <= _MOST_ELEMENTS
            and one.content in ("real", "index", "sparse", "integers")
        ):
            refuse_file(where, f"the input {one!r:.80}")
    return Values(inputs, seed, step, flat, parameters)


def set_patterns(module: Module, given: Mapping[str, Any], where: str) -> None:
    """What `freeze` was told."""
    parts = module.modules()
    for path, patterns in expect(dict, given.get("freezing"), where).items():
        if path not in parts:
            refuse_file(where, f"frozen parts of {path!r}")
        each = [expect(str, one, where) for one in expect(list, patterns, where)]
        parts[path]._frozen = tuple(each)


class _Bounded(Tracing):
    """A run that builds a network, of just the parameters that are listed."""

    def __init__(
        self,
        root: Module,
        dtype: np.dtype[Any],
        listed: Sequence[tuple[str, tuple[int, ...]]],
        where: str,
    ) -> None:
        super().__init__(root, dtype, building=True)
        self.graph = _BoundedGraph(dtype, where)
        self._listed, self._where = listed, where

    def _new(
        self, module: Module, name: str, shape: tuple[int, ...], init: Any, learns: bool
    ) -> Parameter:
        one = super()._new(module, name, shape, init, learns)
        place = len(self.parameters)
        if place >= len(self._listed) or self._listed[place] != (one.name, one.shape):
            wanted = self._listed[place] if place < len(self._listed) else "no more"
            raise ValueError(
                f"{self._where}: found a network that asks for a parameter"
                f" {one.name!r} of shape {one.shape}, wanted {wanted} as in the file"
            )
        return one


class _BoundedGraph(Graph):
    """A graph that refuses to become so large that it could not have been meant."""

    def __init__(self, dtype: np.dtype[Any], where: str) -> None:
        super().__init__(dtype)
        self._where = where

    def _append(
        self,
        name: str,
        attrs: dict[str, Any],
        values: Sequence[Traced],
        shapes: Sequence[tuple[Any, ...]],
    ) -> tuple[Traced, ...]:
        sizes = [math.prod(_of_a_sample(shape)) for shape in shapes]
        if len(self.nodes) >= _MOST_NODES or max(sizes, default=0) > _MOST_ELEMENTS:
            raise ValueError(
                f"{self._where}: found a network of more than {_MOST_NODES} nodes, or of more than"
                f" {_MOST_ELEMENTS} elements a sample in one of them, wanted fewer: such are for"
                " pickle"
            )
        return super()._append(name, attrs, values, shapes)


def _of_a_sample(shape: Iterable[Any]) -> list[int]:
    return [n for n in shape if not isinstance(n, Samples)]


def same_graph(one: Graph, other: Graph) -> bool:
    """Whether two graphs compute the same, node by node."""
    return (
        one.inputs == other.inputs
        and [(name, repr(attrs), read) for name, attrs, read in one.nodes]
        == [(name, repr(attrs), read) for name, attrs, read in other.nodes]
        and len(one.constants) == len(other.constants)
        and all(
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            for a, b in zip(one.constants, other.constants, strict=True)
        )
        and [repr(found) for found in one.running] == [repr(found) for found in other.running]
    )
