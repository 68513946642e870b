"""What a caller of the server must not be able to do, and what of it others must not see."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from shopsight.serving.server import TritonServer
from tests.serving.conftest import write_python_model
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    repository = tmp_path_factory.mktemp("repository")
    write_python_model(repository, "double")
    with TritonServer.start(repository, models=["double"]) as server:
        yield server


def post(server: TritonServer, path: str, body: Any = None, **headers: str) -> int:
    request = urllib.request.Request(
        f"http://{server.http_url}/v2/{path}",
        data=json.dumps(body or {}).encode(),
        headers={"Content-Type": "application/json", **headers},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


CLOSED_PATHS = {
    "load": ("repository/models/double/load", {}),
    "unload": ("repository/models/double/unload", {}),
    "index": ("repository/index", {}),
    "load of a file sent along": (
        "repository/models/evil/load",
        {"parameters": {"config": '{"backend": "python"}', "file:1/model.py": "cHJpbnQoMSk="}},
    ),
    "shared memory": ("systemsharedmemory/region/x/register", {"key": "/x", "offset": 0, "byte_size": 8}),
    "log file": ("logging", {"log_file": "/tmp/shopsight-must-not-exist"}),
    "trace file": ("trace/setting", {"trace_file": "/tmp/shopsight-must-not-exist"}),
}


@pytest.mark.parametrize("case", CLOSED_PATHS)
def test_http_control_is_closed_without_the_secret(server: TritonServer, case: str) -> None:
    path, body = CLOSED_PATHS[case]
    assert post(server, path, body) == 403
    assert post(server, path, body, **{"shopsight-secret": "guess"}) == 403
    assert server.ready("double")
    assert not Path("/tmp/shopsight-must-not-exist").exists()


CLOSED_CALLS: dict[str, Callable[[Any], Any]] = {
    "load": lambda client: client.load_model("double"),
    "unload": lambda client: client.unload_model("double"),
    "index": lambda client: client.get_model_repository_index(),
    "shared memory": lambda client: client.register_system_shared_memory("x", "/x", 8),
    "log file": lambda client: client.update_log_settings({"log_file": "/tmp/shopsight-must-not-exist"}),
    "trace file": lambda client: client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"}),
}


@pytest.mark.parametrize("case", CLOSED_CALLS)
def test_grpc_control_is_closed_without_the_secret(server: TritonServer, case: str) -> None:
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            CLOSED_CALLS[case](client)
        assert client.is_model_ready("double")


def test_the_secret_opens_model_control(server: TritonServer) -> None:
    assert post(server, "repository/index", {}, **{"shopsight-secret": server.state.secret}) == 200
    server.load("double")


def listening_addresses(pid: int) -> set[str]:
    """Local addresses, in the kernel's hexadecimal, on which a process listens."""
    sockets = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                addresses.add(fields[1].split(":")[0])
    return addresses


def test_it_listens_on_loopback_alone(server: TritonServer) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    found = listening_addresses(server.state.pid)
    assert found
    assert found <= loopback


def test_its_private_folder_note_and_log_keep_the_secret(server: TritonServer) -> None:
    assert (server.repository / ".server.json").stat().st_mode & 0o077 == 0
    assert Path(server.state.runtime_folder).stat().st_mode & 0o077 == 0
    log = Path(server.state.log_file)
    assert log.stat().st_mode & 0o077 == 0
    assert server.state.secret not in log.read_text(encoding="utf-8")


def test_the_process_list_does_not_tell_the_secret(server: TritonServer) -> None:
    for name in ("cmdline", "environ"):
        assert server.state.secret.encode() not in Path(f"/proc/{server.state.pid}/{name}").read_bytes()
    shown = Path(f"/proc/{server.state.pid}/cmdline").read_bytes()
    assert server.state.server_id.encode() in shown
    assert b"shopsight-secret=***" in shown
    server.load("double")


def test_secrets_and_ids_are_new_for_every_server(server: TritonServer, tmp_path: Path) -> None:
    with TritonServer.start(tmp_path) as other:
        assert other.state.secret != server.state.secret
        assert other.state.server_id != server.state.server_id
        assert len(other.state.secret) >= 32
