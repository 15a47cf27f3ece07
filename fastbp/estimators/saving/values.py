"""Values as JSON and arrays, and back: what parameters and fitted attributes are made of.

What JSON has is itself there; anything else is an object whose "type" says what. There is no type
that names a class outside of the tables here and in `networks`: what none of them has is refused.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from fastbp import optim
from fastbp.estimators.saving.container import DTYPES
from fastbp.nn import initializers
from fastbp.nn.parameter import Array
from fastbp.nn.tracing import Input

# Values within values: deeper ones would take Python's own stack to its end.
DEEPEST = 100

# An array of strings has the room of its longest for each; so many bytes of it may be asked for.
_MOST_ROOM = 2**26

_TYPES = {kind.__name__: kind for kind in (np.float32, np.float64, float)}


def _plain_classes(module: Any, base: Any) -> dict[str, type]:
    return {
        name: one
        for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, base) and dataclasses.is_dataclass(one)
    }


# Values that are their fields, by name.
_RECORDS: dict[str, type] = {
    "Input": Input,
    "ReduceOnPlateau": optim.ReduceOnPlateau,
    **{f"init.{name}": one for name, one in _plain_classes(initializers, object).items()},
    **{f"optim.{name}": one for name, one in _plain_classes(optim, optim.Schedule).items()},
}
del _RECORDS["init.Numbers"]
_RECORD_NAMES = {one: name for name, one in _RECORDS.items()}


class Writer:
    """Writes values; arrays among them, and what was met before, it keeps by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # whose ids stand above
        self._depth = 0
        self.further: Callable[[Any, str], Any] | None = None

    def encode(self, value: Any, where: str) -> Any:
        """A value as JSON has it; a ValueError that names `where` if it cannot be."""
        self._depth += 1
        if self._depth > DEEPEST:
            refuse(where, f"values within values, {DEEPEST} deep")
        try:
            return self._encoded(value, where)
        finally:
            self._depth -= 1

    def _encoded(self, value: Any, where: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str, int):
            return value
        if kind is float:
            return value if math.isfinite(value) else _tagged("float", value=repr(value))
        if kind is np.str_:
            return str(value)
        if kind is list and value and all(type(one) is float for one in value):
            return _tagged("floats", array=self._name(value, np.array(value)))
        if kind is list:
            return self._each(value, where)
        if kind is tuple:
            return _tagged("tuple", items=self._each(value, where))
        if kind is dict:
            items = [
                [self.encode(key, f"{where}'s keys"), self.encode(one, f"{where}[{key!r}]")]
                for key, one in value.items()
            ]
            return _tagged("dict", items=items)
        if kind is bytes:
            return _tagged("bytes", value=value.hex())
        if kind in (np.ndarray, np.memmap):
            return self._array(value, where)
        if isinstance(value, np.generic) and value.dtype in DTYPES:
            return _tagged("scalar", array=self._name(value, np.array(value)))
        if isinstance(value, np.dtype) and value.name in _TYPES:
            return _tagged("dtype", value=value.name)
        if value in _TYPES.values() if isinstance(value, type) else False:
            return _tagged("scalar type", value=value.__name__)
        if kind is np.random.RandomState:
            return self._random_state(value, where)
        if kind in _RECORD_NAMES:
            fields = {
                one.name: self.encode(getattr(value, one.name), f"{where}.{one.name}")
                for one in dataclasses.fields(value)
                if one.init
            }
            return _tagged("record", name=_RECORD_NAMES[kind], fields=fields)
        if self.further is not None and (made := self.further(value, where)) is not None:
            return made
        refuse(where, f"{reprlib.repr(value)}, of type {kind.__name__}")

    def array(self, value: Array, where: str) -> str:
        """The name under which an array of numbers is kept."""
        if value.dtype.newbyteorder("=") not in DTYPES:
            refuse(where, f"an array of dtype {value.dtype}")
        return self._name(value, np.asarray(value, value.dtype.newbyteorder("=")))

    def _each(self, values: Any, where: str) -> list[Any]:
        return [self.encode(one, f"{where}[{i}]") for i, one in enumerate(values)]

    def _name(self, value: Any, array: Array) -> str:
        if id(value) not in self._names:
            self._kept.append(value)
            self._names[id(value)] = f"a{len(self.arrays)}"
            self.arrays[self._names[id(value)]] = array
        return self._names[id(value)]

    def _array(self, value: Array, where: str) -> Any:
        if value.dtype.kind in "UO":
            return _tagged(
                "array",
                dtype=value.dtype.str if value.dtype.kind == "U" else "O",
                shape=list(value.shape),
                items=self._each(value.reshape(-1).tolist(), where),
            )
        return _tagged("array", array=self.array(value, where))

    def _random_state(self, value: Any, where: str) -> Any:
        name, keys, *rest = value.get_state()
        if name != "MT19937":
            refuse(where, f"a RandomState of {name}")
        return _tagged("RandomState", keys=self._name(value, keys), rest=rest)


class Reader:
    """Reads what a `Writer` has written, and refuses anything else with a ValueError."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._lists: dict[str, list[float]] = {}
        self._depth = 0
        self.further: dict[str, Callable[[dict[str, Any], str], Any]] = {}
        self._readers: dict[str, Callable[[dict[str, Any], str], Any]] = {
            "float": lambda given, where: float(expect(str, given.get("value"), where)),
            "floats": self._floats,
            "tuple": lambda given, where: tuple(self._each(given.get("items"), where)),
            "dict": self._dict,
            "bytes": lambda given, where: bytes.fromhex(expect(str, given.get("value"), where)),
            "array": self._array,
            "scalar": self._scalar,
            "dtype": lambda given, where: np.dtype(self._type(given, where)),
            "scalar type": self._type,
            "RandomState": self._random_state,
            "record": self._record,
        }

    def decode(self, given: Any, where: str) -> Any:
        """The value that was written."""
        self._depth += 1
        if self._depth > DEEPEST:
            refuse_file(where, f"values within values, more than {DEEPEST} deep")
        try:
            if isinstance(given, list):
                return self._each(given, where)
            if not isinstance(given, dict):
                return given
            kind = given.get("type")
            known = {**self._readers, **self.further}
            if type(kind) is not str or kind not in known:
                refuse_file(where, f"the type {kind!r}")
            return known[kind](given, where)
        finally:
            self._depth -= 1

    def array(self, name: Any, where: str) -> Array:
        """An array of numbers by its name."""
        if type(name) is not str or name not in self._arrays:
            refuse_file(where, f"an array {name!r}, which is not there")
        return self._arrays[name]

    def _each(self, given: Any, where: str) -> list[Any]:
        items = expect(list, given, where)
        return [self.decode(one, f"{where}[{i}]") for i, one in enumerate(items)]

    def _floats(self, given: dict[str, Any], where: str) -> list[float]:
        name = given.get("array")
        found = self.array(name, where)
        if found.ndim != 1 or found.dtype != np.float64:
            refuse_file(where, f"{found.dtype} of shape {found.shape} for a list of floats")
        return self._lists.setdefault(str(name), found.tolist())

    def _dict(self, given: dict[str, Any], where: str) -> dict[Any, Any]:
        made = {}
        for pair in self._each(given.get("items"), where):
            if type(pair) is not list or len(pair) != 2 or type(pair[0]).__hash__ is None:
                refuse_file(where, "what is no pair of a key and a value")
            made[pair[0]] = pair[1]
        return made

    def _array(self, given: dict[str, Any], where: str) -> Array:
        if "array" in given:
            return self.array(given["array"], where)
        dtype, items = expect(str, given.get("dtype"), where), self._each(given.get("items"), where)
        shape = [expect(int, n, where) for n in expect(list, given.get("shape"), where)]
        if any(n < 0 for n in shape) or math.prod(shape) != len(items) or len(shape) > 32:
            refuse_file(where, f"{len(items)} items for an array of shape {shape}")
        if dtype == "O":
            if any(type(one) not in (str, int, float, bool, type(None)) for one in items):
                refuse_file(where, "objects that are no strings or numbers")
            made: Array = np.empty(len(items), object)
            made[:] = items
            return made.reshape(shape)
        digits = dtype[2:] if dtype[:2] in ("<U", ">U") else ""
        if not (digits.isdecimal() and len(digits) < 10) or any(type(x) is not str for x in items):
            refuse_file(where, f"an array of dtype {dtype[:20]!r}")
        if 4 * int(digits) * len(items) > _MOST_ROOM:
            refuse_file(where, f"strings of {digits} characters, {len(items)} of them")
        return np.array(items, f"=U{digits}").reshape(shape)

    def _scalar(self, given: dict[str, Any], where: str) -> Any:
        found = self.array(given.get("array"), where)
        if found.ndim != 0:
            refuse_file(where, f"an array of shape {found.shape} for one number")
        return found[()]

    def _type(self, given: dict[str, Any], where: str) -> type:
        name = given.get("value")
        if type(name) is not str or name not in _TYPES:
            refuse_file(where, f"the dtype {name!r}")
        return _TYPES[name]

    def _random_state(self, given: dict[str, Any], where: str) -> np.random.RandomState:
        keys = self.array(given.get("keys"), where)
        match self._each(given.get("rest"), where):
            # NumPy reads the keys at a place that it does not check.
            case [int(place), 0 | 1 as kept, float(gauss)] if 0 <= place <= 624:
                if keys.shape == (624,) and keys.dtype == np.uint32:
                    made = np.random.RandomState(0)
                    made.set_state(("MT19937", keys, place, int(kept), gauss))
                    return made
        refuse_file(where, "the state of no RandomState")

    def _record(self, given: dict[str, Any], where: str) -> Any:
        name = given.get("name")
        if type(name) is not str or name not in _RECORDS:
            refuse_file(where, f"the record {name!r}")
        fields = expect(dict, given.get("fields"), where)
        values = {key: self.decode(one, f"{where}.{key}") for key, one in fields.items()}
        return _RECORDS[name](**values)


def _tagged(kind: str, **parts: Any) -> dict[str, Any]:
    return {"type": kind, **parts}


def expect(kind: type, given: Any, where: str) -> Any:
    """What was read, if it is of a type, and a bool for no int."""
    if type(given) is not kind:
        refuse_file(where, f"{reprlib.repr(given)}, which is no {kind.__name__}")
    return given


def refuse(where: str, found: str) -> NoReturn:
    """The error of what cannot be written."""
    raise ValueError(
        f"{where}: found {found}, which save() cannot write: it writes numbers, strings, arrays,"
        " lists, dicts, and what fastbp.nn and fastbp.optim are made of. pickle, joblib and skops"
        " keep more."
    )


def refuse_file(where: str, found: str) -> NoReturn:
    """The error of what was not written by a `Writer`."""
    raise ValueError(f"{where}: found {found}, wanted what save() writes there")
