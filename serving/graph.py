"""The signature of an ONNX graph, read without its weights and without an ONNX library.

Whoever publishes checks contracts against graphs, and has neither use nor room for gigabytes of weights.
Only these fields of onnx.proto3 are decoded, from a memory map: ModelProto graph 7, opset_import 8;
GraphProto initializer 5, input 11, output 12; TensorProto name 8, external_data 13.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.contract import ContractError

_DATATYPES = {1: "FP32", 6: "INT32", 7: "INT64", 8: "BYTES", 9: "BOOL", 10: "FP16", 11: "FP64"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Signature = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Graph:
    """Inputs and outputs as name to (Triton datatype, shape with -1 for any), and files of weights beside."""

    inputs: Signature
    outputs: Signature
    opset: int
    external_files: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """Read the signature of an ONNX file; raises ContractError naming the file when it is not one."""
    try:
        return _graph(np.memmap(path, dtype=np.uint8, mode="r").data)
    except (FileNotFoundError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: not an ONNX graph ({type(error).__name__}); export it again") from error


def _graph(model: memoryview) -> Graph:
    graph, opset = memoryview(b""), 0
    for field, value in _fields(model):
        if field == 7:
            graph = _view(value)
        elif field == 8:
            imported = dict(_fields(_view(value)))
            if not _text(imported.get(1, memoryview(b""))):  # "" is ONNX's own domain
                opset = _int(imported.get(2, 0))
    inputs: Signature = {}
    outputs: Signature = {}
    weights: set[str] = set()
    files: set[str] = set()
    for field, value in _fields(graph):
        if field in (11, 12):
            (inputs if field == 11 else outputs).update([_tensor(_view(value))])
        elif field == 5:
            name, locations = _initializer(_view(value))
            weights.add(name)
            files |= locations
    if not outputs:
        raise ValueError("no outputs")
    inputs = {name: spec for name, spec in inputs.items() if name not in weights}
    return Graph(inputs, outputs, opset, tuple(sorted(files)))


def _tensor(info: memoryview) -> tuple[str, tuple[str, tuple[int, ...]]]:
    fields = dict(_fields(info))
    tensor = dict(_fields(_view(dict(_fields(_view(fields[2])))[1])))
    dims = [dict(_fields(_view(d))) for f, d in _fields(_view(tensor.get(2, memoryview(b"")))) if f == 1]
    shape = tuple(_int(dim[1]) if 1 in dim else -1 for dim in dims)
    return _text(fields[1]), (_DATATYPES.get(_int(tensor[1]), f"type {tensor[1]!r}"), shape)


def _initializer(tensor: memoryview) -> tuple[str, set[str]]:
    name, locations = "", set()
    for field, value in _fields(tensor):
        if field == 8:
            name = _text(value)
        elif field == 13:
            entry = dict(_fields(_view(value)))
            if _text(entry[1]) == "location":
                locations.add(_text(entry[2]))
    return name, locations


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of a protobuf message; varints as int, everything else as a view."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("not a protobuf message")
        if at + length > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("expected a message")
    return value


def _int(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("expected a number")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_view(value)).decode()
