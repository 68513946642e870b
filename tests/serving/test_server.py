"""A server starts, is found by other commands, says why it cannot, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopsight.serving import server_process
from shopsight.serving.client import ShopsightClient
from shopsight.serving.server import (
    ModelLoadError,
    PortInUseError,
    ServerError,
    ServerNotRunningError,
    TritonMissingError,
    TritonServer,
    find_triton,
    short_reason,
)
from shopsight.serving.server_state import STATE_FILE, ServerState, process_started
from tests.serving.conftest import write_python_model
from tests.waiting import HANG_SECONDS, wait_until

ROOT = Path(__file__).resolve().parents[2]

SLOW_DOUBLE = """
import time
from pathlib import Path
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        Path(pb_utils.get_model_dir(), "begun").touch()
        while not Path(pb_utils.get_model_dir(), "go").exists():
            time.sleep(0.01)
        tensors = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", 2 * tensor)]) for tensor in tensors]
"""
FACTS = """
import importlib.util, json, os, sys
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        facts = {
            "numpy": np.__version__,
            "packages": [n for n in ("shopsight.serving", "shopsight.kernels", "torch", "polars")
                         if importlib.util.find_spec(n)],
            "below": sorted(os.listdir(os.path.dirname(importlib.util.find_spec("shopsight").origin))),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "key": os.environ.get("SHOPSIGHT_KEY_FILE"),
        }
        text = np.array([json.dumps(facts).encode()], dtype=np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("FACTS", text)]) for _ in requests]
"""
FACTS_CONFIG = (
    'input { name: "X" data_type: TYPE_FP32 dims: 1 } output { name: "FACTS" data_type: TYPE_STRING dims: 1 }'
)
NOTES_ITS_LOAD = """
from pathlib import Path
class TritonPythonModel:
    def initialize(self, args):
        with (Path(args["model_repository"]).parent / "loads.txt").open("a") as stream:
            stream.write(args["model_name"] + " ")
    def execute(self, requests):
        return []
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


def infer(server: TritonServer, model: str, values: list[float]) -> dict[str, Any]:
    with ShopsightClient(server.grpc_url, deadline_seconds=HANG_SECONDS) as client:
        return client.infer(model, {"X": np.array(values, dtype=np.float32)})


def leftovers(server: TritonServer) -> list[str]:
    """What a stopped server must not leave: its processes, private folder, shared memory and note."""
    found = [str(path) for path in Path("/dev/shm").glob(f"{server.state.server_id}*")]
    found += [server.state.runtime_folder] if Path(server.state.runtime_folder).exists() else []
    found += [STATE_FILE] if (server.repository / STATE_FILE).exists() else []
    return found + [f"process {pid}" for pid in processes_of(server.state)]


def processes_of(state: ServerState) -> list[int]:
    """The server and its backends' processes: all that run in the server's session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, session = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()[3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == state.pid and process_started(name) is not None:
            found.append(name)
    return found


@pytest.mark.triton
def test_a_server_loads_in_order_answers_and_leaves_nothing(repository: Path) -> None:
    for name in ("second", "first", "third"):
        write_python_model(repository, name, NOTES_ITS_LOAD)
    write_python_model(repository, "double")
    with TritonServer.start(repository, models=["first", "second", "third", "double"]) as server:
        assert (repository / "loads.txt").read_text() == "first second third "
        assert infer(server, "double", [1, 2])["Y"].tolist() == [2, 4]
        assert server.is_running()
        assert server.ready("double")
        assert server.ready("double", 1)
        assert not server.ready("double", 2)
        assert not server.ready("absent")
        assert len(processes_of(server.state)) > 1
    assert not server.is_running()
    assert leftovers(server) == []


@pytest.mark.triton
def test_other_commands_find_it_by_its_note(repository: Path, start_server: Any) -> None:
    write_python_model(repository, "double")
    server = start_server(repository)
    note = repository / STATE_FILE
    assert note.stat().st_mode & 0o777 == 0o600
    assert json.loads(note.read_text())["pid"] == server.state.pid
    found = TritonServer.attach(repository)
    found.load("double")
    assert infer(found, "double", [3, 4])["Y"].tolist() == [6, 8]
    found.unload("double")
    wait_until(lambda: not server.ready("double"), "it is unloaded")
    with pytest.raises(ServerError, match="already serves"):
        TritonServer.start(repository)
    assert server.is_running()
    found.stop()
    assert leftovers(server) == []
    with pytest.raises(ServerNotRunningError, match="shopsight serve"):
        TritonServer.attach(repository)


@pytest.mark.triton
def test_versions_come_and_go_while_the_model_serves(repository: Path, start_server: Any) -> None:
    write_python_model(repository, "double")
    server = start_server(repository, models=["double"])
    triple = (repository / "double" / "1" / "model.py").read_text().replace("2 * tensor", "3 * tensor")
    for version, source in (("2", triple), ("3", triple.replace("3 *", "undefined *"))):
        (repository / "double" / version).mkdir()
        (repository / "double" / version / "model.py").write_text(source)
    server.load("double")
    assert [server.ready("double", version) for version in (1, 2, 3)] == [False, True, True]
    (repository / "double" / "4").mkdir()
    (repository / "double" / "4" / "model.py").write_text("raise RuntimeError('no weights here')")
    with pytest.raises(ModelLoadError, match="no weights here"):
        server.load("double")
    assert server.ready("double", 2)


@pytest.mark.triton
def test_a_model_that_fails_is_named_with_its_reason_and_nothing_is_left(repository: Path) -> None:
    write_python_model(repository, "good")
    write_python_model(repository, "bad", "import module_that_is_not_there")
    with pytest.raises(ModelLoadError) as refused:
        TritonServer.start(repository, models=["good", "bad"])
    assert refused.value.model == "bad"
    assert "No module named 'module_that_is_not_there'" in refused.value.reason
    assert "At:" not in refused.value.reason
    assert not (repository / STATE_FILE).exists()


@pytest.mark.triton
def test_routers_get_our_packages_numpy_1_and_the_key_but_none_of_our_environment(
    repository: Path, tmp_path: Path, start_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_python_model(repository, "facts", FACTS, FACTS_CONFIG)
    server = start_server(repository, models=["facts"], key_file=tmp_path / "key.json")
    facts = json.loads(infer(server, "facts", [0])["FACTS"][0])
    assert facts["packages"] == ["shopsight.serving", "shopsight.kernels"]
    assert facts["below"] == ["__init__.py", "kernels", "serving"]
    assert facts["numpy"].split(".")[0] == "1"
    assert facts["threads"] == "1"
    assert facts["key"] == str(tmp_path / "key.json")


@pytest.mark.triton
def test_a_running_request_is_answered_before_the_end(repository: Path, start_server: Any) -> None:
    write_python_model(repository, "slow", SLOW_DOUBLE)
    server = start_server(repository, models=["slow"])
    version = repository / "slow" / "1"
    answers: list[list[float]] = []
    asking = threading.Thread(target=lambda: answers.append(infer(server, "slow", [5, 6])["Y"].tolist()))
    asking.start()
    wait_until((version / "begun").exists, "the model has begun")
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    wait_until(lambda: not server.is_running() or not server.ready("slow"), "the server is ending")
    (version / "go").touch()
    stopping.join(HANG_SECONDS)
    asking.join(HANG_SECONDS)
    assert answers == [[10, 12]]


@pytest.mark.triton
def test_a_killed_server_is_recognised_and_replaced(repository: Path, start_server: Any) -> None:
    write_python_model(repository, "double")
    first = start_server(repository, models=["double"])
    os.kill(first.state.pid, signal.SIGKILL)
    wait_until(lambda: not first.is_running(), "it has ended")
    with pytest.raises(ServerNotRunningError):
        TritonServer.attach(repository)
    with pytest.raises(ModelLoadError, match="the server has ended"):
        first.load("double")
    second = start_server(repository, models=["double"])
    assert infer(second, "double", [1, 1])["Y"].tolist() == [2, 2]
    first.stop()  # must not touch the other server's note
    assert TritonServer.attach(repository).state == second.state
    assert not Path(first.state.runtime_folder).exists()
    assert Path(second.state.runtime_folder).exists()
    wait_until(lambda: processes_of(first.state) == [], "its processes have ended")


@pytest.mark.triton
def test_what_a_killed_server_left_goes_even_when_its_repository_is_gone(
    tmp_path: Path, start_server: Any
) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    killed, other = start_server(tmp_path / "one"), start_server(tmp_path / "two")
    os.kill(killed.state.pid, signal.SIGKILL)
    wait_until(lambda: not killed.is_running(), "it has ended")
    shutil.rmtree(tmp_path / "one")
    start_server(tmp_path / "three")
    assert not Path(killed.state.runtime_folder).exists()
    assert Path(other.state.runtime_folder).exists()


@pytest.mark.triton
@pytest.mark.parametrize("hung", [False, True])
def test_no_server_and_no_stub_outlives_a_killed_command(repository: Path, hung: bool) -> None:
    write_python_model(repository, "double")
    script = f"""
import os, signal
from pathlib import Path
from shopsight.serving.server import TritonServer
from shopsight.serving.processes import stubs
server = TritonServer.start(Path({str(repository)!r}), models=["double"])
if {hung}:
    for stub in stubs(server.state.server_id):
        os.kill(stub.pid, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=HANG_SECONDS, check=False)
    state = ServerState.read(repository)
    assert state is not None
    wait_until(lambda: processes_of(state) == [], "its processes have ended")
    wait_until(lambda: not Path(state.runtime_folder).exists(), "its private folder is removed")


@pytest.mark.triton
def test_two_repositories_have_servers_beside_each_other(tmp_path: Path, start_server: Any) -> None:
    servers = []
    for name in ("one", "two"):
        write_python_model(tmp_path / name, "double")
        servers.append(start_server(tmp_path / name, models=["double"]))
    one, two = servers
    ports = [(s.state.http_port, s.state.grpc_port, s.state.metrics_port) for s in servers]
    assert len({port for three in ports for port in three}) == 6
    one.stop()
    assert infer(two, "double", [1, 2])["Y"].tolist() == [2, 4]


@pytest.mark.triton
@pytest.mark.parametrize("kind", ["http", "grpc", "metrics"])
def test_a_taken_port_is_named_with_the_flag_that_changes_it(repository: Path, kind: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} .*--{kind}-port"):
            TritonServer.start(repository, **{f"{kind}_port": port})  # type: ignore[arg-type]
    assert not (repository / STATE_FILE).exists()


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"no model repository at .*absent; 'shopsight publish' makes one"):
        TritonServer.start(tmp_path / "absent")
    with pytest.raises(ServerNotRunningError, match="absent"):
        TritonServer.attach(tmp_path / "absent")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_repository_that_cannot_be_written_is_named(repository: Path) -> None:
    repository.chmod(0o500)
    with pytest.raises(ServerError, match="not writable"):
        TritonServer.start(repository)


def test_a_missing_environment_says_how_to_make_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSIGHT_TRITON_ENV", str(tmp_path / "nothing"))
    with pytest.raises(TritonMissingError, match="make install"):
        TritonServer.start(repository)
    assert list(repository.iterdir()) == []


def test_a_native_server_in_path_is_preferred_unless_an_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = tmp_path / "tritonserver"
    native.write_text("#!/bin/sh\n")
    native.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("SHOPSIGHT_TRITON_ENV", raising=False)
    assert find_triton().is_native
    assert find_triton().binary == native
    monkeypatch.setenv("SHOPSIGHT_TRITON_ENV", str(tmp_path))
    with pytest.raises(TritonMissingError):
        find_triton()


@pytest.fixture
def state(tmp_path: Path) -> ServerState:
    return ServerState(
        pid=os.getpid(),
        process_started=process_started(os.getpid()) or 0,
        server_id="shopsight-test",
        secret="secret",
        http_port=1,
        grpc_port=2,
        metrics_port=3,
        runtime_folder=str(tmp_path / "elsewhere"),
        log_file="log",
        started_at="2026-01-01T00:00:00+00:00",
    )


def test_a_note_is_stale_when_its_process_is_gone_or_another_one(
    repository: Path, state: ServerState
) -> None:
    state.write(repository)
    assert ServerState.read(repository) == state
    assert state.process_is_alive
    assert not replace(state, process_started=state.process_started - 1).process_is_alive
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not replace(state, pid=gone.pid).process_is_alive


def test_a_zombie_is_not_alive(state: ServerState) -> None:
    zombie = subprocess.Popen(["true"])
    wait_until(lambda: process_started(zombie.pid) is None, "the child is a zombie")
    assert not replace(state, pid=zombie.pid).process_is_alive
    zombie.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\xff"])
def test_a_broken_note_counts_as_none(repository: Path, text: str) -> None:
    (repository / STATE_FILE).write_bytes(text.encode("latin-1"))
    assert ServerState.read(repository) is None


@pytest.mark.triton
def test_a_stale_note_never_removes_a_folder_that_is_not_ours(
    repository: Path, state: ServerState, tmp_path: Path, start_server: Any
) -> None:
    (tmp_path / "elsewhere").mkdir()
    replace(state, process_started=1).write(repository)
    start_server(repository)
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ValueError: no\n\nAt:\n",
            "Internal: ValueError: no",
        ),
        (
            "failed to load 'm', failed to poll from model repository",
            "failed to load 'm', failed to poll from",
        ),
        ("x" * 1000, "x" * 500),
    ],
)
def test_a_reason_is_short(message: str, reason: str) -> None:
    assert short_reason(message).startswith(reason)
    assert len(short_reason(message)) <= 500
    assert "\n" not in short_reason(message)


@pytest.mark.triton
def test_a_restart_keeps_the_log_of_the_server_before(
    tmp_path: Path, start_server: Callable[..., TritonServer]
) -> None:
    first = start_server(tmp_path)
    first.stop()
    second = start_server(tmp_path)
    log = Path(second.state.log_file).read_text(encoding="utf-8")
    assert first.state.server_id in log
    assert second.state.server_id in log


@pytest.mark.triton
def test_a_log_that_grew_large_is_put_aside_at_a_start(
    tmp_path: Path, start_server: Callable[..., TritonServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "_MAX_LOG_BYTES", 10)
    first = start_server(tmp_path)
    first.stop()
    second = start_server(tmp_path)
    log = Path(second.state.log_file)
    aside = log.with_name(f"{log.name}.1")
    assert first.state.server_id in aside.read_text(encoding="utf-8")
    assert first.state.server_id not in log.read_text(encoding="utf-8")
    assert (log.stat().st_mode | aside.stat().st_mode) & 0o077 == 0


PRINTS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        value = np.full(2, {value}, dtype=np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)]) for _ in requests]
"""


@pytest.mark.triton
def test_a_planted_bytecode_file_is_not_run_and_none_is_written(repository: Path, start_server: Any) -> None:
    write_python_model(repository, "facts", PRINTS.format(value=1))
    version = repository / "facts" / "1"
    planted = version / "planted.py"
    planted.write_text(PRINTS.format(value=666))
    cached = version / "__pycache__" / "model.cpython-311.pyc"
    py_compile.compile(
        str(planted), cfile=str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    planted.unlink()
    server = start_server(repository, models=["facts"])
    assert infer(server, "facts", [0, 0])["Y"].tolist() == [1, 1]
    assert list(repository.rglob("*.pyc")) == [cached]
