"""What the gate refuses, each with a reason that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shopsight.serving.contract import ContractError, sha256_of
from shopsight.serving.gate import GateError, Threshold, ThresholdError, figures
from shopsight.serving.graph import read_graph
from shopsight.serving.release import releases
from shopsight.serving.repository import publish
from shopsight.serving.staging import ROUTERS_VARIABLE, routers_folder
from tests.serving.tiny_models import NUM_FACTORS, TinyShop


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return TinyShop(seed=1).write(tmp_path / "models")


def edit_json(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def with_graph(models: Path, name: str, edit: Callable[[Any], None]) -> None:
    """Change a member's graph and let its contract agree with the new file."""
    path = models / name / "model.onnx"
    model = onnx.load(path)
    edit(model)
    onnx.save_model(model, path)

    def resign(contract: dict[str, Any]) -> None:
        contract["files"][0] |= {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}

    edit_json(models / name / "contract.json", resign)


def rename_output(model: Any) -> None:
    model.graph.node.append(helper.make_node("Identity", ["SEGMENT"], ["CLUSTER"]))
    model.graph.output[0].name = "CLUSTER"


def other_width(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9


def opset_23(model: Any) -> None:
    model.opset_import[0].version = 23


@pytest.mark.parametrize(
    ("name", "edit", "says"),
    [
        ("segment", rename_output, "segment: output CLUSTER is in the graph alone"),
        ("segment", rename_output, "segment: output SEGMENT is in the contract alone"),
        ("segment", other_width, r"segment: input FEATURE is \('FP32', \(-1, 9\)\) in the graph"),
        ("mf_retrieval", opset_23, "mf_retrieval: opset is 23, served are 18 to 21"),
    ],
)
def test_a_graph_that_is_not_that_of_its_contract(
    models: Path, tmp_path: Path, name: str, edit: Callable[[Any], None], says: str
) -> None:
    with_graph(models, name, edit)
    with pytest.raises(GateError, match=says):
        publish(models, tmp_path / "repo")
    assert releases(tmp_path / "repo") == []


def contract_edits() -> dict[str, tuple[str, Callable[[dict[str, Any]], None], str]]:
    def set_batch(contract: dict[str, Any]) -> None:
        contract["max_batch_size"] = 0

    def drop_input(contract: dict[str, Any]) -> None:
        contract["inputs"] = [t for t in contract["inputs"] if t["name"] != "EXCLUDE"]

    def drop_output(contract: dict[str, Any]) -> None:
        contract["outputs"] = [t for t in contract["outputs"] if t["name"] != "INTENT"]

    def another_name(contract: dict[str, Any]) -> None:
        contract["name"] = "segments"

    def call_stranger(contract: dict[str, Any]) -> None:
        contract["calls"] = ["mf_retrieval", "segment"]

    return {
        "batch": ("recommend", set_batch, "recommend: max_batch_size is 0, the router takes 64"),
        "input": ("recommend", drop_input, "recommend: the contract's inputs are not those of the router"),
        "output": ("understand", drop_output, "understand: the contract's outputs are not those"),
        "name": ("segment", another_name, "segment: its contract is that of 'segments'"),
        "calls": ("recommend", call_stranger, "recommend: the router does not call segment"),
    }


@pytest.mark.parametrize("what", sorted(contract_edits()))
def test_a_contract_that_the_router_does_not_keep(models: Path, tmp_path: Path, what: str) -> None:
    name, edit, says = contract_edits()[what]
    edit_json(models / name / "contract.json", edit)
    with pytest.raises(GateError, match=says):
        publish(models, tmp_path / "repo")


def test_a_router_without_sentiment_is_welcome(models: Path, tmp_path: Path) -> None:
    def drop(contract: dict[str, Any]) -> None:
        contract["outputs"] = [t for t in contract["outputs"] if t["name"] != "SENTIMENT"]

    def forget(golden: dict[str, Any]) -> None:
        answer = golden["goldens"][0]["answer"]
        golden["goldens"][0]["answer"] = [t for t in answer if t["name"] != "SENTIMENT"]

    edit_json(models / "understand" / "contract.json", drop)
    edit_json(models / "understand" / "golden.json", forget)
    assert publish(models, tmp_path / "repo").number == 1


def test_every_reason_is_told_at_once(models: Path, tmp_path: Path) -> None:
    (models / "segment" / "golden.json").unlink()
    (models / "profile" / "golden.json").write_text('{"format_version": 1, "goldens": []}')
    (models / "recommend" / "metrics.json").write_text('{"recall": {"value": NaN}}')
    with (models / "understand" / "tokenizer.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(GateError) as refused:
        publish(models, tmp_path / "repo")
    told = "\n".join(refused.value.problems)
    assert "segment: golden.json: missing" in told
    assert "profile: no golden request to replay" in told
    assert "recommend: metrics.json has recall.value = nan" in told
    assert "understand: tokenizer.json differs from its contract" in told
    assert str(tmp_path) not in told


def test_a_golden_of_another_model_is_refused(models: Path, tmp_path: Path) -> None:
    (models / "profile" / "golden.json").write_text((models / "understand" / "golden.json").read_text())
    with pytest.raises(GateError, match="profile: golden 0: TEXT BYTES is not in the contract"):
        publish(models, tmp_path / "repo")


def test_a_checked_in_config_that_lags_behind_the_router_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("recommend", "profile", "understand", "insight"):
        (tmp_path / "routers" / name).mkdir(parents=True)
        for file in ("model.py", "config.pbtxt"):
            text = (routers_folder() / name / file).read_text()
            (tmp_path / "routers" / name / file).write_text(
                text.replace("max_batch_size: 64", "max_batch_size: 8")
            )
    monkeypatch.setenv(ROUTERS_VARIABLE, str(tmp_path / "routers"))
    with pytest.raises(GateError, match=r"recommend: config.pbtxt has max_batch_size 8, the contract 64"):
        publish(models, tmp_path / "repo")


@pytest.mark.parametrize("text", ["recall=0.1", "recommend.recall", "recommend.recall=good", ".x=1", "a.=1"])
def test_a_threshold_that_is_not_one_is_told_its_form(text: str) -> None:
    with pytest.raises(ThresholdError, match=r"write model\.metric=minimum"):
        Threshold.parse(text)


def test_figures_are_found_by_dotted_names() -> None:
    metrics = {"test": {"recall_at_10": {"value": 0.3, "low": 0.2, "high": 0.4}}, "seeds": [1], "note": "x"}
    assert figures(metrics) == {
        "test.recall_at_10": 0.3,
        "test.recall_at_10.value": 0.3,
        "test.recall_at_10.low": 0.2,
        "test.recall_at_10.high": 0.4,
    }
    assert Threshold.parse("mf.test.recall_at_10=0.25") == Threshold("mf", "test.recall_at_10", 0.25)


def test_graphs_are_read_as_the_onnx_library_reads_them(models: Path) -> None:
    names = {1: "FP32", 7: "INT64"}
    for folder in (models / name for name in ("mf_retrieval", "segment", "intent_encoder")):
        model, graph = onnx.load(folder / "model.onnx"), read_graph(folder / "model.onnx")
        for found, listed in ((graph.inputs, model.graph.input), (graph.outputs, model.graph.output)):
            expected = {
                t.name: (
                    names[t.type.tensor_type.elem_type],
                    tuple(
                        d.dim_value if d.HasField("dim_value") else -1 for d in t.type.tensor_type.shape.dim
                    ),
                )
                for t in listed
            }
            assert found == expected
        assert graph.opset == 20
        assert graph.external_files == ()


def test_weights_beside_the_graph_are_noticed(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((NUM_FACTORS, 500), dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", NUM_FACTORS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 500])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin")
    assert read_graph(tmp_path / "m.onnx").external_files == ("m.bin",)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x3a\xff\xff\xff\xff\x0f", b"\x08\x0a"])
def test_what_is_no_graph_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ContractError, match=r"model.onnx: not an ONNX graph"):
        read_graph(tmp_path / "model.onnx")


def test_a_graph_that_is_cut_off_is_noticed(models: Path, tmp_path: Path) -> None:
    whole = (models / "segment" / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ContractError, match="not an ONNX graph"):
        read_graph(tmp_path / "model.onnx")
