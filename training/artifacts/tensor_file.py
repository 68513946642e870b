"""Safetensors files in blocks: hashed while they are written, and read without loading them.

The safetensors library needs every tensor in memory. The format is the same: eight bytes with the header's
length, a JSON header, the tensors' bytes (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from shopsight.serving.safetensors_layout import TensorFileError, TensorPlace, read_layout
from shopsight.training.artifacts.factor_store import FactorStore, InFile, InMemory, bytes_of, slabs

Tensors = Mapping[str, "np.ndarray[Any, Any] | FactorStore"]
_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def write_tensors(path: Path, tensors: Tensors) -> str:
    """Write and fsync the file; returns its SHA-256. Arrays and stores are both written by slabs."""
    stores = {n: InMemory(t) if isinstance(t, np.ndarray) else t for n, t in tensors.items()}
    # wide elements first, as the format asks, so that every tensor is aligned
    names = sorted(stores, key=lambda name: (-stores[name].dtype.itemsize, name))
    header, offset = {}, 0
    for name in names:
        store = stores[name]
        size = math.prod(store.shape) * store.dtype.itemsize
        offsets = [offset, offset + size]
        header[name] = {
            "dtype": _NAMES[store.dtype.name], "shape": list(store.shape), "data_offsets": offsets,
        }  # fmt: skip
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _pieces(text, [stores[name] for name in names]):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, InFile]:
    """Return the file's tensors without loading them; raises TensorFileError naming an invalid file."""
    return {name: _tensor(path, name, place) for name, place in read_layout(path).items()}


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pieces(header: bytes, stores: list[FactorStore]) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little")
    yield header
    for store in stores:
        for _, slab in slabs(store):
            yield bytes_of(slab)


def _tensor(path: Path, name: str, place: TensorPlace) -> InFile:
    if place.dtype not in _DTYPES:
        raise TensorFileError(f"{path}: tensor {name} is {place.dtype}; read are {', '.join(_DTYPES)}")
    dtype = dtype_of(_DTYPES[place.dtype])
    return InFile(os.open(path, os.O_RDONLY), place.begin, place.shape, dtype)


def dtype_of(name: str) -> np.dtype[np.generic]:
    """Return the NumPy dtype of a storage type: "float32", "float16" or "bfloat16"."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
