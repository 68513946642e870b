"""The signature of an ONNX graph, read without its weights and without an ONNX library.

Publishing checks contracts against graphs and needs no weights, which can be gigabytes.
Only these fields of onnx.proto3 are decoded, from a memory map: ModelProto graph 7, opset_import 8,
functions 25; GraphProto node 1, initializer 5, input 11, output 12, sparse_initializer 15; NodeProto op_type
4, attribute 5, domain 7; AttributeProto t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23;
SparseTensorProto values 1, indices 2; TensorProto name 8, external_data 13, data_location 14.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from shopsight.serving.contract import ContractError

_DATATYPES = {1: "FP32", 6: "INT32", 7: "INT64", 8: "BYTES", 9: "BOOL", 10: "FP16", 11: "FP64"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
MAX_GRAPH_BYTES = 2**31 - 1  # of one protobuf message; larger weights lie in files beside it
MAX_NESTING = 8  # of graphs in the nodes of graphs, as the branches of an If
DOMAINS = ("", "ai.onnx")  # standard operators only: others need code that a release does not contain

Signature = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Graph:
    """Inputs and outputs as name to (Triton datatype, shape with -1 for any), and files of weights beside."""

    inputs: Signature
    outputs: Signature
    opset: int
    external_files: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """Read the signature of an ONNX file; raises ContractError naming the file when it is not one.

    Also refused: operators outside the ONNX standard, functions, graphs nested too deep, and weights anywhere
    but in files beside the graph. ONNX Runtime would load foreign code for them, or read foreign files.
    """
    try:
        if (size := path.stat().st_size) > MAX_GRAPH_BYTES:
            raise ValueError(f"{size} bytes, at most {MAX_GRAPH_BYTES} are one graph; keep weights beside it")
        return _graph(np.memmap(path, dtype=np.uint8, mode="r").data)
    except (OSError, ValueError, IndexError, KeyError) as error:
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise ContractError(f"{path}: not an ONNX graph to serve ({reason}); export it again") from error


def _graph(model: memoryview) -> Graph:
    graph, opset = memoryview(b""), 0
    for field, value in _fields(model):
        if field == 7:
            graph = _view(value)
        elif field == 8:
            imported = dict(_fields(_view(value)))
            if not _text(imported.get(1, memoryview(b""))):  # "" is ONNX's own domain
                opset = _int(imported.get(2, 0))
        elif field == 25:
            raise ValueError("it holds functions of its own; export it with functions inlined")
    inputs: Signature = {}
    outputs: Signature = {}
    weights: set[str] = set()
    for field, value in _fields(graph):
        if field in (11, 12):
            (inputs if field == 11 else outputs).update([_tensor(_view(value))])
        elif field == 5:
            weights.add(_text(dict(_fields(_view(value))).get(8, memoryview(b""))))
    if not outputs:
        raise ValueError("no outputs")
    inputs = {name: spec for name, spec in inputs.items() if name not in weights}
    return Graph(inputs, outputs, opset, tuple(sorted(set(_external_files(graph, 0)))))


def _external_files(graph: memoryview, depth: int) -> Iterator[str]:
    """Yield the files beside a graph that it or a graph in its nodes uses; checks every node."""
    if depth > MAX_NESTING:
        raise ValueError(f"graphs are nested more than {MAX_NESTING} deep")
    for field, value in _fields(graph):
        if field == 1:
            yield from _files_of_node(_view(value), depth)
        elif field == 5:
            yield from _locations(_view(value))
        elif field == 15:
            yield from _sparse_locations(_view(value))


def _files_of_node(node: memoryview, depth: int) -> Iterator[str]:
    fields = list(_fields(node))
    named = dict(fields)
    domain = _text(named.get(7, memoryview(b"")))
    if domain not in DOMAINS:
        operator = _text(named.get(4, memoryview(b"")))
        raise ValueError(f"operator {operator!r:.60} of domain {domain!r:.60} is not one of ONNX's own")
    for field, attribute in fields:
        if field != 5:
            continue
        for kind, value in _fields(_view(attribute)):
            if kind in (5, 10):
                yield from _locations(_view(value))
            elif kind in (6, 11):
                yield from _external_files(_view(value), depth + 1)
            elif kind in (22, 23):
                yield from _sparse_locations(_view(value))


def _sparse_locations(tensor: memoryview) -> Iterator[str]:
    for field, value in _fields(tensor):
        if field in (1, 2):
            yield from _locations(_view(value))


def _locations(tensor: memoryview) -> Iterator[str]:
    """Yield the file of a tensor whose values lie beside the graph; raises ValueError for one elsewhere."""
    is_external, files = False, []
    for field, value in _fields(tensor):
        if field == 14:
            is_external = _int(value) != 0
        elif field == 13:
            entry = dict(_fields(_view(value)))
            if _text(entry[1]) == "location":
                files.append(_text(entry[2]))
    if is_external and len(files) != 1:
        raise ValueError("weights lie outside the graph, in no file or in several")
    for file in files:
        parts = PurePosixPath(file).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in file or not file.isprintable():
            raise ValueError(f"weights lie in {file!r:.80}, not in a file beside the graph")
        yield file


def _tensor(info: memoryview) -> tuple[str, tuple[str, tuple[int, ...]]]:
    fields = dict(_fields(info))
    tensor = dict(_fields(_view(dict(_fields(_view(fields[2])))[1])))
    dims = [dict(_fields(_view(d))) for f, d in _fields(_view(tensor.get(2, memoryview(b"")))) if f == 1]
    shape = tuple(_int(dim[1]) if 1 in dim else -1 for dim in dims)
    return _text(fields[1]), (_DATATYPES.get(_int(tensor[1]), f"type {tensor[1]!r}"), shape)


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
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number of more than 64 bits")


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
