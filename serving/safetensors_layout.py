"""The layout of a safetensors file, parsed as untrusted input.

The format: eight bytes with the header's length, a JSON header, the tensors' bytes
(https://github.com/huggingface/safetensors#format). A file is accepted only if every byte of its data belongs
to exactly one tensor.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 100_000_000  # as in the reference implementation
_MAX_DIMENSIONS = 32  # of a NumPy array, whatever its version
_MAX_TENSOR_BYTES = 2**63 - 1
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


class TensorFileError(ValueError):
    """A file is not a safetensors file, or lacks an expected tensor; the message names the file."""


@dataclass(frozen=True)
class TensorPlace:
    """One tensor: its type as the format names it, its shape, and its bytes begin..end of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_layout(path: Path) -> dict[str, TensorPlace]:
    """Return every tensor's place in a safetensors file by name; raises TensorFileError and nothing else."""
    return _read(path)[0]


def read_metadata(path: Path) -> dict[str, str]:
    """Return the strings of a safetensors file's header by name; raises TensorFileError and nothing else."""
    return _read(path)[1]


def _read(path: Path) -> tuple[dict[str, TensorPlace], dict[str, str]]:
    try:
        return _layout(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (_RefusedError, RecursionError, ValueError) as error:
        reason = str(error) if isinstance(error, _RefusedError) else f"its header is not JSON: {error}"
    raise TensorFileError(
        f"{path}: not a safetensors file ({reason:.300}); restore it, or make it again"
    ) from None


class _RefusedError(Exception):
    pass


def _layout(path: Path) -> tuple[dict[str, TensorPlace], dict[str, str]]:
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        length = int.from_bytes(stream.read(8), "little")
        if size < 8:
            raise _RefusedError(f"it has {size} bytes; the length of the header alone takes 8")
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise _RefusedError(f"a header of {length} bytes; it must have from 2 to {MAX_HEADER_BYTES}")
        if length > size - 8:
            raise _RefusedError(f"it is cut off: a header of {length} bytes in a file of {size}")
        text = stream.read(length)
    places, metadata = _places(text, 8 + length)
    _check_cover(places, 8 + length, size)
    return places, metadata


def _places(text: bytes, start: int) -> tuple[dict[str, TensorPlace], dict[str, str]]:
    if not text.startswith(b"{"):
        raise _RefusedError("its header does not begin with {")
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _RefusedError(f"{_METADATA} must hold strings by name")
    return {name: _place(_shown(name), entry, start) for name, entry in header.items()}, metadata


def _place(name: str, entry: Any, start: int) -> TensorPlace:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise _RefusedError(f"tensor {name} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise _RefusedError(f"tensor {name} has dtype {dtype!r:.40}; known are {', '.join(_BYTES)}")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise _RefusedError(f"tensor {name} has shape {shape!r:.80}; it takes up to 32 numbers from 0")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _RefusedError(
            f"tensor {name} has data_offsets {offsets!r:.80}; they are where it begins and ends"
        )
    item = _BYTES[dtype]
    if math.prod(size for size in shape if size) * item > _MAX_TENSOR_BYTES:
        raise _RefusedError(f"tensor {name} has shape {shape!r:.80}, which no machine can hold")
    begin, end = offsets
    if (needed := math.prod(shape) * item) != end - begin:
        raise _RefusedError(
            f"tensor {name} takes {needed} bytes by dtype and shape, {end - begin} by offsets"
        )
    return TensorPlace(dtype, tuple(shape), start + begin, start + end)


def _check_cover(places: dict[str, TensorPlace], start: int, size: int) -> None:
    """Every byte of the data belongs to exactly one tensor, so that nothing is hidden or read twice."""
    at = start
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != at:
            relation = "overlaps the tensor before it" if place.begin < at else "leaves a gap before it"
            raise _RefusedError(f"tensor {_shown(name)} {relation}")
        at = place.end
        if at > size:
            raise _RefusedError(f"tensor {_shown(name)} is cut off: it ends at byte {at} of {size}")
    if at != size:
        raise _RefusedError(f"{size - at} bytes at its end belong to no tensor")


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError("its header gives a name twice")
    for name in found:
        _shown(name)
    return found


def _no_constant(name: str) -> None:
    raise _RefusedError(f"its header holds {name}")


def _shown(name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise _RefusedError("its header has a name that is not Unicode text") from None
    return f"{name!r:.80}"
