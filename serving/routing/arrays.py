"""Arrays of a safetensors file as read-only views of the file: instances and releases share the page cache.

The safetensors library copies every tensor that it hands to NumPy, which for tens of millions of customers
would cost each instance of each router its own copy of the factors.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I32": np.int32,
    "I64": np.int64,
    "F32": np.float32,
    "F64": np.float64,
}


class ArraysError(ValueError):
    """A data file of a router is not what its contract promises."""


def map_safetensors(path: Path) -> dict[str, Array]:
    """Map every tensor of a safetensors file; raises ArraysError naming the file when it is not one.

    Format: https://github.com/huggingface/safetensors#format.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size < 8:
        raise ArraysError(f"{path}: missing or too short for a safetensors file; publish the release again")
    with path.open("rb") as stream:
        (header_bytes,) = struct.unpack("<Q", stream.read(8))
        if header_bytes > size - 8:
            raise ArraysError(f"{path}: header says {header_bytes} bytes, the file has {size}; it is cut off")
        try:
            header = json.loads(stream.read(header_bytes))
        except ValueError as error:
            raise ArraysError(f"{path}: its header is not JSON; publish the release again") from error
    content = np.memmap(path, dtype=np.uint8, mode="r")[8 + header_bytes :]
    header.pop("__metadata__", None)
    return {name: _view(path, name, entry, content) for name, entry in header.items()}


def _view(path: Path, name: str, entry: dict[str, Any], content: Array) -> Array:
    begin, end = entry["data_offsets"]
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise ArraysError(
            f"{path}: tensor {name} has dtype {entry['dtype']}; expected one of {list(_DTYPES)}"
        )
    expected = int(np.prod(entry["shape"], dtype=np.int64)) * np.dtype(dtype).itemsize
    if end - begin != expected or end > len(content):
        raise ArraysError(f"{path}: tensor {name} is cut off; publish the release again")
    return np.asarray(content[begin:end]).view(dtype).reshape(entry["shape"])
