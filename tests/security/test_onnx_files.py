"""Graphs that somebody altered: refused before a server opens them, whatever was put into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from shopsight.serving.contract import ContractError
from shopsight.serving.graph import MAX_GRAPH_BYTES, MAX_NESTING, read_graph
from tests.serving.conftest import double_graph


def model_of(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    sparse: Sequence[onnx.SparseTensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["batch", 3])],
        list(initializers),
        sparse_initializer=list(sparse),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def outside(location: str | None, *, name: str = "w") -> onnx.TensorProto:
    """A tensor whose values lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    if location is not None:
        tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def add(*, domain: str = "") -> onnx.NodeProto:
    return helper.make_node("Add", ["X", "X"], ["Y"], domain=domain)


def branch(nodes: Sequence[onnx.NodeProto], initializers: Sequence[onnx.TensorProto] = ()) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "branch", [], [output], list(initializers))


def nested(depth: int, inmost: onnx.GraphProto) -> onnx.NodeProto:
    """An If whose branch has an If, and so on."""
    node = helper.make_node("If", ["C"], ["Y"], then_branch=inmost, else_branch=inmost)
    for _ in range(depth - 1):
        graph = branch([node])
        node = helper.make_node("If", ["C"], ["Y"], then_branch=graph)
    return node


def with_function() -> onnx.ModelProto:
    model = model_of([add()])
    own = helper.make_function("own", "Twice", ["A"], ["B"], [add()], [helper.make_opsetid("", 18)])
    model.functions.append(own)
    return model


def sparse_outside(location: str) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(outside(location), outside("here.bin", name="i"), [3])


PLACES: dict[str, Callable[[str], onnx.ModelProto]] = {
    "initializer": lambda where: model_of([add()], [outside(where)]),
    "sparse initializer": lambda where: model_of([add()], sparse=[sparse_outside(where)]),
    "constant": lambda where: model_of([helper.make_node("Constant", [], ["Y"], value=outside(where))]),
    "sparse constant": lambda where: model_of(
        [helper.make_node("Constant", [], ["Y"], sparse_value=sparse_outside(where))]
    ),
    "branch": lambda where: model_of([nested(1, branch([add()], [outside(where)]))]),
    "constant in the branch of a branch": lambda where: model_of(
        [nested(3, branch([helper.make_node("Constant", [], ["Y"], value=outside(where))]))]
    ),
}  # fmt: skip
ESCAPES = [
    "../secret", "a/../../secret", "/etc/passwd", "..", "", ".", "..\\secret", "C:\\secret", "a\0b", "a\nb",
    "\\\\host\\share",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ESCAPES)
def test_weights_outside_the_models_folder_are_refused(place: str, location: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(PLACES[place](location).SerializeToString())
    with pytest.raises(ContractError, match=r"model\.onnx: not an ONNX graph to serve \(weights lie"):
        read_graph(path)


@pytest.mark.parametrize("place", PLACES)
def test_weights_beside_the_graph_are_named_wherever_it_uses_them(place: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(PLACES[place]("weights/a.bin").SerializeToString())
    assert "weights/a.bin" in read_graph(path).external_files


REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "weights in no file": (model_of([add()], [outside(None)]), "in no file"),
    "operator of a vendor": (model_of([add(domain="com.evil")]), "domain 'com.evil'"),
    "operator of a vendor in a branch": (
        model_of([nested(2, branch([add(domain="com.microsoft")]))]), "domain 'com.microsoft'",
    ),
    "function of its own": (with_function(), "functions"),
    "nesting": (model_of([nested(MAX_NESTING + 1, branch([add()]))]), "nested more than"),
    "deep nesting": (model_of([nested(25, branch([add()]))]), "nested more than"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_only_code_of_others_could_run_is_refused(case: str, tmp_path: Path) -> None:
    model, says = REFUSED[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ContractError, match=says):
        read_graph(path)


def test_nesting_that_is_allowed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of([nested(MAX_NESTING, branch([add()]))]).SerializeToString())
    assert read_graph(path).opset == 18


def test_a_file_that_no_message_can_be_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(MAX_GRAPH_BYTES + 1)  # a hole: it takes no room
    with pytest.raises(ContractError, match="at most 2147483647 are one graph"):
        read_graph(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08" + b"\xff" * 1_000_000,
        b"\xff" * 100,
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x80\x04cos\nsystem\n",
        b"\x3a\0",
    ],
)
def test_what_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    for path in (tmp_path / "model.onnx", tmp_path / "absent", tmp_path):
        with pytest.raises(ContractError, match="not an ONNX graph"):
            read_graph(path)


GRAPHS = [double_graph(), PLACES["constant in the branch of a branch"]("w.bin").SerializeToString()]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    graph=st.sampled_from(GRAPHS),
    places=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 60),
)
def test_any_change_is_read_or_refused_in_one_way(
    graph: bytes, places: list[tuple[float, int]], cut: int, tmp_path: Path
) -> None:
    content = np.frombuffer(graph, dtype=np.uint8).copy()
    for place, byte in places:
        content[int(place * len(content))] = byte
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: len(content) - cut].tobytes())
    try:
        read_graph(path)
    except ContractError as error:
        assert "model.onnx: not an ONNX graph" in str(error)
