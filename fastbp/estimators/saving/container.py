"""One file of named arrays and a description: safetensors, with JSON in its metadata.

A file is written whole or not at all; it is read only if it is a plain file that holds what was
once written, which a digest tells. What descriptions mean is not known here.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastbp.estimators import versions
from fastbp.estimators.files import Named, replacing
from fastbp.nn.parameter import Array

# Of safetensors: 8 bytes that count those of the header, which may be so many.
_COUNT, _LARGEST_HEADER = 8, 100_000_000

# Of its metadata.
_ENTRY = "fastbp"

# Dtypes by safetensors' names, little-endian as there.
_DTYPES = {
    **{"BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    **{f"{kind}{8 * n}": f"<{kind.lower()}{n}" for kind in "IU" for n in (1, 2, 4, 8)},
}
DTYPES = tuple(np.dtype(name) for name in _DTYPES.values())
"""What arrays may be of."""


class Content(NamedTuple):
    """What a file holds: JSON's values, and arrays by name."""

    description: Any
    arrays: Mapping[str, Array]


def write(path: Named, content: Content) -> None:
    """Write a file; where that fails, what was there before is there still."""
    # Not above: it takes longer to import than most of fastbp's own files.
    from safetensors.numpy import save_file

    arrays = {name: np.array(one, order="C", copy=None) for name, one in content.arrays.items()}
    about = {
        "format": versions.FILE,
        "version": versions.here(),
        "description": content.description,
    }
    # One entry: safetensors writes several in any order, and the same model is to give the same
    # bytes.
    text = _text({**about, "digest": _digest(about, arrays)})
    if len(text) > _LARGEST_HEADER // 2:  # in the header it is escaped, and not alone
        raise ValueError(
            f"save: found a description of {len(text)} characters, wanted at most"
            f" {_LARGEST_HEADER // 2}; pickle has no such limit."
        )
    with replacing(path) as made:
        save_file(arrays, made, {_ENTRY: text})


def read(path: Named) -> Content:
    """What a file holds; a ValueError where it is not what `write` has written."""
    import safetensors

    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _not_ours(path, "something that is no plain file")
        size = os.fstat(file.fileno()).st_size
        start = file.read(_COUNT)
        n = int.from_bytes(start, "little")
        if len(start) < _COUNT or n > min(_LARGEST_HEADER, size - _COUNT):
            raise _not_ours(path, f"{size} bytes that do not begin with the length of a header")
        about = _about(path, file.read(n))
        file.seek(0)
        whole = file.read(size)
    deserialize: Any = safetensors.deserialize  # which has no types
    try:
        found = deserialize(whole)
    except Exception as error:
        raise _not_ours(path, f"damage ({error})") from error
    arrays = {name: _array(path, name, one) for name, one in found}
    digest = about.pop("digest")
    try:
        intact = digest == _digest(about, arrays)
    except (ValueError, RecursionError) as error:
        raise _not_ours(path, f"a description that cannot be told ({error})") from error
    if not intact:
        raise _not_ours(path, "other contents than its digest is of, so that it was damaged,")
    return Content(about["description"], arrays)


def _about(path: Named, header: bytes) -> dict[str, Any]:
    """Our part of the header, of the format of this version."""
    header = _parsed(path, header)
    entries = header.get("__metadata__") if isinstance(header, dict) else None
    text = entries.get(_ENTRY) if isinstance(entries, dict) else None
    found = _parsed(path, text) if isinstance(text, str) else None
    if not isinstance(found, dict) or not {"format", "version"} <= found.keys():
        raise _not_ours(path, "a header without fastbp's description")
    if found["format"] != versions.FILE:
        raise ValueError(
            f"{path}: found format {found['format']!r:.20}, written by fastbp"
            f" {found['version']!r:.20}; fastbp {versions.here()!r} reads format {versions.FILE}."
        )
    if found.keys() != {"format", "version", "description", "digest"}:
        raise _not_ours(path, f"a header of {sorted(found)!r:.80}")
    return found


def _parsed(path: Named, text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _not_ours(path, f"JSON that cannot be read ({error})") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _array(path: Named, name: str, found: Mapping[str, Any]) -> Array:
    dtype = _DTYPES.get(found["dtype"])
    if dtype is None:
        raise _not_ours(path, f"an array {name[:40]!r} of dtype {found['dtype']}")
    array: Array = np.frombuffer(found["data"], dtype).reshape(found["shape"])
    return array


def _digest(about: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Of all that counts in a file."""
    made = hashlib.blake2b(digest_size=32)
    listed = [(name, one.dtype.str, one.shape) for name, one in sorted(arrays.items())]
    made.update(_text([about, listed]).encode())
    for _, one in sorted(arrays.items()):
        made.update(one.reshape(-1).view(np.uint8).data)
    return made.hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _not_ours(path: Named, found: str) -> ValueError:
    return ValueError(f"{path}: found {found}, wanted a file that save() has written.")
