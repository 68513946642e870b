"""A member's configuration follows from its contract, and Triton takes it as it is."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from onnx import TensorProto, helper

from shopsight.serving.client import ShopsightClient
from shopsight.serving.contract import ContractError, Golden, GoldenTensor, ModelContract, TensorSpec
from shopsight.serving.router_configs import render_router_config
from shopsight.serving.routing.tensors import ROUTERS
from shopsight.serving.server import ModelLoadError
from shopsight.serving.staging import routers_folder
from shopsight.serving.triton_config import parse_config, read_config, render_member_config, warmup_files
from tests.serving.conftest import onnx_graph
from tests.waiting import HANG_SECONDS

CONTRACT = ModelContract(
    name="mf_retrieval",
    kind="onnx",
    inputs=(TensorSpec("USER_FACTOR", "FP32", (4,)), TensorSpec("EXCLUDE_ITEM", "INT64", (-1,))),
    outputs=(TensorSpec("SCORE", "FP32", (4,)), TensorSpec("NUM_EXCLUDED", "INT64", (1,))),
    max_batch_size=256,
)
WARMUP = Golden(
    request=(
        GoldenTensor("USER_FACTOR", "FP32", (2, 4), [[1, 2, 3, 4], [9, 9, 9, 9]]),
        GoldenTensor("EXCLUDE_ITEM", "INT64", (2, 3), [[5, -1, 6], [9, 9, 9]]),
    ),
    answer=(),
)


def test_a_config_says_what_the_contract_says() -> None:
    config = parse_config(render_member_config(CONTRACT))
    assert (config.name, config.backend, config.max_batch_size) == ("mf_retrieval", "onnxruntime", 256)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("USER_FACTOR", 11, [4]),
        ("EXCLUDE_ITEM", 9, [-1]),
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        ("SCORE", 11, [4]),
        ("NUM_EXCLUDED", 9, [1]),
    ]
    assert config.version_policy.latest.num_versions == 2
    assert config.HasField("dynamic_batching")
    assert not config.model_warmup


@pytest.mark.parametrize(("device", "kind"), [("cpu", 2), ("gpu", 1)])
def test_instances_run_where_they_are_told(device: Any, kind: int) -> None:
    text = render_member_config(CONTRACT, device=device, num_instances=3, intra_op_threads=2)
    config = parse_config(text)
    assert [(group.kind, group.count) for group in config.instance_group] == [(kind, 3)]
    assert config.parameters["intra_op_thread_count"].string_value == "2"


@pytest.mark.parametrize("max_batch_size", [0, 1])
def test_a_member_of_single_requests_has_no_batch_scheduler(max_batch_size: int) -> None:
    config = parse_config(render_member_config(replace(CONTRACT, max_batch_size=max_batch_size)))
    assert not config.HasField("dynamic_batching")


def test_warmup_data_is_the_first_row_as_triton_lays_it_out() -> None:
    texts = GoldenTensor("TEXT", "BYTES", (1, 2), [["ab", "ü"]])
    flag = GoldenTensor("FLAG", "BOOL", (1, 1), [[True]])
    files = warmup_files(Golden(request=(*WARMUP.request, texts, flag), answer=()))
    assert files == {
        "warmup/USER_FACTOR": struct.pack("<4f", 1, 2, 3, 4),
        "warmup/EXCLUDE_ITEM": struct.pack("<3q", 5, -1, 6),
        "warmup/TEXT": b"\x02\x00\x00\x00ab\x02\x00\x00\x00\xc3\xbc",
        "warmup/FLAG": b"\x01",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "router"}, "kind 'onnx'"),
        ({"inputs": (TensorSpec("X", "FP32", (0,)),)}, r"X has dims \(0,\)"),
        ({"inputs": (TensorSpec("X", "FP32", ()),)}, "X has dims"),
        ({"inputs": (TensorSpec("X", "FP32", (2,), optional=True),)}, "X is optional"),
    ],
)
def test_contracts_that_triton_would_refuse_are_refused_first(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        render_member_config(replace(CONTRACT, **change))


def test_a_warmup_that_does_not_fit_is_refused() -> None:
    partial = replace(WARMUP, request=WARMUP.request[:1])
    with pytest.raises(ContractError, match="must give every input"):
        render_member_config(CONTRACT, warmup=partial)
    with pytest.raises(ContractError, match="takes batches"):
        render_member_config(replace(CONTRACT, max_batch_size=0), warmup=WARMUP)


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    with pytest.raises(ContractError, match=r"config\.pbtxt: missing"):
        read_config(path)
    path.write_text('name: "m"\nmax_batch: 3\n')
    with pytest.raises(ContractError, match=r"config\.pbtxt: not a Triton .*2:1"):
        read_config(path)
    path.write_text(render_member_config(CONTRACT))
    assert read_config(path) == parse_config(render_member_config(CONTRACT))


def retrieval_graph() -> bytes:
    return onnx_graph(
        [
            ("USER_FACTOR", TensorProto.FLOAT, ["batch", 4]),
            ("EXCLUDE_ITEM", TensorProto.INT64, ["batch", "n"]),
        ],
        [("SCORE", TensorProto.FLOAT, ["batch", 4]), ("NUM_EXCLUDED", TensorProto.INT64, ["batch", 1])],
        [
            helper.make_node("Neg", ["USER_FACTOR"], ["SCORE"]),
            helper.make_node("ReduceMax", ["EXCLUDE_ITEM", "axes"], ["NUM_EXCLUDED"], keepdims=1),
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )


def publish(repository: Path, contract: ModelContract, text: str, warmup: Golden | None) -> None:
    version = repository / contract.name / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(retrieval_graph())
    (version.parent / "config.pbtxt").write_text(text)
    for name, content in (warmup_files(warmup) if warmup else {}).items():
        (version.parent / name).parent.mkdir(exist_ok=True)
        (version.parent / name).write_bytes(content)


@pytest.mark.triton
def test_triton_serves_a_rendered_config_and_runs_its_warmup(tmp_path: Path, start_server: Any) -> None:
    publish(tmp_path, CONTRACT, render_member_config(CONTRACT, warmup=WARMUP), WARMUP)
    server = start_server(tmp_path, models=["mf_retrieval"])
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        served = client.get_model_config("mf_retrieval").config
    assert [sample.batch_size for sample in served.model_warmup] == [1, 16]
    assert list(served.input[0].dims) == [4]
    with ShopsightClient(server.grpc_url, deadline_seconds=HANG_SECONDS) as asking:
        factor, exclude = np.ones((1, 4), np.float32), np.array([[3, 8]], np.int64)
        answer = asking.infer("mf_retrieval", {"USER_FACTOR": factor, "EXCLUDE_ITEM": exclude})
    assert answer["SCORE"].tolist() == [[-1, -1, -1, -1]]
    assert answer["NUM_EXCLUDED"].tolist() == [[8]]


@pytest.mark.triton
def test_a_warmup_without_its_data_fails_the_load(tmp_path: Path, start_server: Any) -> None:
    publish(tmp_path, CONTRACT, render_member_config(CONTRACT, warmup=WARMUP), None)
    server = start_server(tmp_path)
    with pytest.raises(ModelLoadError, match="warmup"):
        server.load("mf_retrieval")


def test_a_golden_survives_json_into_the_same_warmup() -> None:
    again = json.loads(json.dumps([[1.5, 2.25, 3.125, -0.1]]))
    tensor = GoldenTensor("USER_FACTOR", "FP32", (1, 4), again)
    (content,) = warmup_files(Golden(request=(tensor,), answer=())).values()
    np.testing.assert_array_equal(
        np.frombuffer(content, np.float32), np.array([1.5, 2.25, 3.125, -0.1], np.float32)
    )


@pytest.mark.parametrize("name", sorted(ROUTERS))
def test_a_routers_config_is_the_one_rendered_from_its_tensors(name: str) -> None:
    written = (routers_folder() / name / "config.pbtxt").read_text(encoding="utf-8")
    assert written == render_router_config(name, ROUTERS[name]), (
        "a tensor list changed: run python -m shopsight.serving.router_configs"
    )
    config = parse_config(written)
    assert [tensor.name for tensor in config.input] == [spec.name for spec in ROUTERS[name].inputs]
    assert [tensor.name for tensor in config.output] == [spec.name for spec in ROUTERS[name].outputs]
    assert [list(tensor.dims) for tensor in config.input] == [list(s.dims) for s in ROUTERS[name].inputs]
