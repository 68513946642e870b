"""Fixtures for tests that stand on a real Triton server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from shopsight.serving.server import TritonServer

# One `double` model: graphs that tests do not care about stay this simple.
PYTHON_DOUBLE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", 2 * tensor)]) for tensor in tensors]
"""
DOUBLE_CONFIG = """
max_batch_size: 0
version_policy { latest { num_versions: 2 } }
input { name: "X" data_type: TYPE_FP32 dims: 2 }
output { name: "Y" data_type: TYPE_FP32 dims: 2 }
"""


def write_python_model(
    repository: Path, name: str, source: str = PYTHON_DOUBLE, config: str = DOUBLE_CONFIG
) -> None:
    """Put a python model, version 1, into a repository."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(source, encoding="utf-8")
    (version.parent / "config.pbtxt").write_text(f'backend: "python"\n{config}', encoding="utf-8")


Tensor = tuple[str, int, Sequence[int | str] | None]


def onnx_graph(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
) -> bytes:
    """Serialise a graph; a dimension given as text is free."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def double_graph(
    in_dims: Sequence[int | str] = ("batch", 3), out_dims: Sequence[int | str] | None = None
) -> bytes:
    """A graph that answers Y = X + X for float32."""
    return onnx_graph(
        [("X", TensorProto.FLOAT, in_dims)],
        [("Y", TensorProto.FLOAT, in_dims if out_dims is None else out_dims)],
        [helper.make_node("Add", ["X", "X"], ["Y"])],
    )


def write_onnx_model(repository: Path, name: str, graph: bytes | None, config: str) -> None:
    """Put an ONNX model, version 1, into a repository."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    if graph is not None:
        (version / "model.onnx").write_bytes(graph)
    text = f'backend: "onnxruntime"\ninstance_group {{ kind: KIND_CPU }}\n{config}'
    (version.parent / "config.pbtxt").write_text(text, encoding="utf-8")


@pytest.fixture
def start_server() -> Iterator[Callable[..., TritonServer]]:
    """Start servers that end with the test."""
    started: list[TritonServer] = []

    def start(repository: Path, **options: Any) -> TritonServer:
        server = TritonServer.start(repository, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """One running server with an empty repository for a module's tests."""
    with TritonServer.start(tmp_path_factory.mktemp("repository")) as server:
        yield server
