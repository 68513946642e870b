"""One hung instance of several is found and replaced while the others answer; health checks ask goldens."""

from __future__ import annotations

import functools
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
from onnx import TensorProto, helper, numpy_helper

from shopsight.serving import at_work, staging
from shopsight.serving.contract import ModelContract, file_entry
from shopsight.serving.health import unanswered_router
from shopsight.serving.processes import stubs
from shopsight.serving.repository import publish
from shopsight.serving.supervisor import Supervisor
from shopsight.serving.triton_config import render_member_config
from tests.serving.tiny_models import TinyShop

FOREVER = 1e9  # a feature of this size asks for more turns of a loop than a day has time for
MODELS = ("segment", "profile")


def turns_for_large_features(path: Path) -> None:
    """Let a graph turn in a loop before it answers, as often as the first feature says beyond a million."""
    model = onnx.load(path)
    node, graph = helper.make_node, model.graph
    body = helper.make_graph(
        [
            node("Identity", ["going"], ["goes_on"]),
            node("Sin", ["before"], ["turned"]),
            node("Mul", ["turned", "nothing"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, []),
        ],
    )
    for at in graph.node:
        at.input[:] = ["given" if name == "FEATURE" else name for name in at.input]
    first = [
        node("IsNaN", ["FEATURE"], ["unknown"]),
        node("Where", ["unknown", "nothing", "FEATURE"], ["known"]),
        node("ReduceMax", ["known"], ["largest"], keepdims=0),
        node("Sub", ["largest", "million"], ["beyond"]),
        node("Relu", ["beyond"], ["positive"]),
        node("Mul", ["positive", "million"], ["wanted"]),
        node("Cast", ["wanted"], ["turns"], to=TensorProto.INT64),
        node("Loop", ["turns", "yes", "nothing"], ["nothing_new"], body=body),
        node("Add", ["FEATURE", "nothing_new"], ["given"]),
    ]
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for name, value in (("nothing", np.float32(0)), ("million", np.float32(1e6)), ("yes", np.True_)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    onnx.checker.check_model(model)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("hung")
    models = TinyShop(seed=1).write(folder / "models", MODELS)
    turns_for_large_features(models / "segment" / "model.onnx")
    contract = ModelContract.read(models / "segment")
    entry = file_entry(models / "segment", "model.onnx")
    ModelContract(**(vars(contract) | {"files": (entry,)})).write(models / "segment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            staging, "render_member_config", functools.partial(render_member_config, num_instances=2)
        )
        publish(models, folder / "repository")
    found = Supervisor(folder / "repository", (0, 0, 0), lambda _: None)
    found.start()
    yield found
    found.server.stop()


def ask(supervisor: Supervisor, feature: float, seconds: float) -> Any:
    with triton_grpc.InferenceServerClient(supervisor.server.grpc_url) as client:
        config = client.get_model_metadata("segment").inputs[0]
        given = triton_grpc.InferInput("FEATURE", [1, int(config.shape[1])], "FP32")
        given.set_data_from_numpy(np.full((1, int(config.shape[1])), feature, dtype=np.float32))
        return client.infer("segment", [given], client_timeout=seconds).as_numpy("SEGMENT")


def pids(supervisor: Supervisor, model: str) -> set[int]:
    return {stub.pid for stub in stubs(supervisor.server.state.server_id) if stub.model == model}


@pytest.mark.triton
def test_an_instance_that_a_request_hangs_is_replaced_while_the_other_answers(
    supervisor: Supervisor,
) -> None:
    before, server = pids(supervisor, "segment"), supervisor.server.state.pid
    assert len(before) == 2
    with pytest.raises(Exception, match="Deadline Exceeded"):
        ask(supervisor, FOREVER, 1.0)
    assert ask(supervisor, 1.0, 60.0).shape == (1, 1)  # the other instance: goldens do not tell
    deadline = time.monotonic() + 120
    while pids(supervisor, "segment") & before and time.monotonic() < deadline:
        supervisor.mend()
    assert not pids(supervisor, "segment") & before
    assert len(pids(supervisor, "segment")) == 2
    assert supervisor.server.state.pid == server
    assert ask(supervisor, 1.0, 60.0).shape == (1, 1)


@pytest.mark.triton
def test_every_instance_notes_its_work_and_its_end(supervisor: Supervisor) -> None:
    folder = Path(supervisor.server.state.runtime_folder) / at_work.FOLDER
    for _ in range(8):
        ask(supervisor, 1.0, 60.0)
    noted = {int(path.name): struct.unpack("<d", path.read_bytes())[0] for path in folder.iterdir()}
    living = pids(supervisor, "segment") | pids(supervisor, "profile")
    done = {pid: since for pid, since in noted.items() if pid in living}
    assert done and set(done.values()) == {0.0}


@pytest.mark.triton
def test_a_health_check_asks_a_golden_of_each_router(supervisor: Supervisor) -> None:
    url, repository = supervisor.server.grpc_url, supervisor.repository
    assert unanswered_router(repository, url) is None
    (router,) = pids(supervisor, "profile")
    os.kill(router, signal.SIGSTOP)
    try:
        assert supervisor.server.ready("profile")  # readiness alone does not notice
        assert "profile of release 1, golden request 0 failed" in str(unanswered_router(repository, url))
    finally:
        os.kill(router, signal.SIGCONT)
    supervisor.mend()
    assert "has all routers of no release" in str(unanswered_router(repository.parent / "models", url))


def test_a_wait_for_another_model_is_no_work_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / at_work.FOLDER).mkdir()
    monkeypatch.setenv(at_work.FOLDER_VARIABLE, str(tmp_path / at_work.FOLDER))
    noted, me = at_work.AtWork(), os.getpid()

    def is_at_work() -> bool:
        return at_work.seconds_at_work(tmp_path, me) > 0

    assert not is_at_work()
    with pytest.raises(ValueError, match="of the router"), noted.batch():
        assert is_at_work()
        with noted.waiting():
            assert not is_at_work()
            with noted.waiting():
                assert not is_at_work()
            assert not is_at_work()
        assert is_at_work()
        raise ValueError("of the router")
    assert not is_at_work()
    (tmp_path / at_work.FOLDER / str(me)).write_bytes(b"cut")
    assert not is_at_work()
