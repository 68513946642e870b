"""Memory-maps the arrays of a safetensors file, so that instances and releases share the page cache.

The safetensors library copies every tensor for NumPy. With tens of millions of customers, each instance of
each router would then hold its own copy of the factors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shopsight.serving.safetensors_layout import TensorFileError, TensorPlace, read_layout

Array = np.ndarray[Any, Any]

_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I32": np.int32,
    "I64": np.int64,
    "F32": np.float32,
    "F64": np.float64,
}


def map_safetensors(path: Path) -> dict[str, Array]:
    """Map every tensor of a safetensors file, read-only; raises TensorFileError naming the file."""
    places = read_layout(path)
    content = np.memmap(path, dtype=np.uint8, mode="r")
    return {name: _view(path, name, place, content) for name, place in places.items()}


def load_safetensors(path: Path) -> dict[str, Array]:
    """Read every tensor of a safetensors file into memory; raises TensorFileError naming the file."""
    return {name: np.array(view) for name, view in map_safetensors(path).items()}


def _view(path: Path, name: str, place: TensorPlace, content: Array) -> Array:
    dtype = _DTYPES.get(place.dtype)
    if dtype is None:
        raise TensorFileError(f"{path}: tensor {name} is {place.dtype}; read are {', '.join(_DTYPES)}")
    return np.asarray(content[place.begin : place.end]).view(dtype).reshape(place.shape)
