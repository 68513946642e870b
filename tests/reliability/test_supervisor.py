"""What is dead or stuck is replaced while the rest serves on, and nothing outlives its server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shopsight.serving.client import ShopsightClient
from shopsight.serving.processes import Stub, stubs
from shopsight.serving.repository import publish
from shopsight.serving.server import ServerNotRunningError, TritonServer
from shopsight.serving.server_state import ServerState, process_started
from shopsight.serving.status import status
from tests.serving.tiny_models import TinyShop

pytestmark = pytest.mark.triton
ROOT = Path(__file__).resolve().parents[2]
GENEROUS_SECONDS = 120.0


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GENEROUS_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


@dataclass
class Served:
    """A supervised server of releases 1 and 2 of a member and a router."""

    repository: Path
    tiny: TinyShop
    process: subprocess.Popen[str]

    @property
    def state(self) -> ServerState:
        found = ServerState.read(self.repository)
        assert found is not None
        return found

    def stubs(self) -> list[Stub]:
        return stubs(self.state.server_id)

    def answers(self) -> bool:
        try:
            told = status(self.repository)
        except Exception:  # it is being started again just now
            return False
        if not told["models"] or not all(model["ready"] for model in told["models"].values()):
            return False
        with ShopsightClient(TritonServer.attach(self.repository).grpc_url, deadline_seconds=30) as client:
            return list(client.recommend(customer_id="c0003").items) == self.tiny.recommend(3, 10)[0]


def supervise(repository: Path) -> subprocess.Popen[str]:
    """Start a supervisor and return when the release answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shopsight.serving.supervisor", str(repository), "0", "0", "0"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as lines:
        assert any(line == "ready\n" for line in lines)
    return process


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    for seed in (1, 2):
        tiny = TinyShop(seed=seed)
        publish(tiny.write(folder / "models", ("mf_retrieval", "recommend")), folder / "repository")
    served = Served(folder / "repository", tiny, supervise(folder / "repository"))
    yield served
    served.process.terminate()
    served.process.wait(GENEROUS_SECONDS)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("which", range(4))
def test_every_stub_that_dies_or_stops_is_replaced(served: Served, which: int, how: signal.Signals) -> None:
    """Two models at two releases: four stubs; the server itself goes on."""
    assert wait_for(served.answers)
    before, server = sorted(served.stubs(), key=lambda s: (s.model, s.version)), served.state.pid
    assert [(s.model, s.version) for s in before] == [
        (name, version) for name in ("mf_retrieval", "recommend") for version in (1, 2)
    ]
    os.kill(before[which].pid, how)
    assert wait_for(lambda: before[which].pid not in {stub.pid for stub in served.stubs()})
    assert wait_for(served.answers)
    assert len(served.stubs()) == 4
    assert served.state.pid == server


def test_status_says_which_model_does_not_answer(served: Served) -> None:
    assert wait_for(served.answers)
    os.kill(served.process.pid, signal.SIGSTOP)  # nobody mends meanwhile
    try:
        victim = next(stub for stub in served.stubs() if (stub.model, stub.version) == ("recommend", 2))
        os.kill(victim.pid, signal.SIGKILL)
        assert wait_for(lambda: victim.pid not in {stub.pid for stub in served.stubs()})
        told = status(served.repository)["models"]
        assert not told["recommend"]["ready"]
        assert "processes ended" in told["recommend"]["problem"]
        assert told["mf_retrieval"]["ready"]
    finally:
        os.kill(served.process.pid, signal.SIGCONT)
    assert wait_for(served.answers)


def test_a_server_that_dies_is_started_again_on_its_ports_and_its_stubs_end(served: Served) -> None:
    assert wait_for(served.answers)
    before, orphans = served.state, served.stubs()
    os.kill(orphans[0].pid, signal.SIGSTOP)  # it would run on for good
    os.kill(before.pid, signal.SIGKILL)
    assert wait_for(lambda: served.state.pid != before.pid and served.answers())
    after = served.state
    assert (after.http_port, after.grpc_port) == (before.http_port, before.grpc_port)
    assert stubs(before.server_id) == []
    assert all(process_started(stub.pid) is None for stub in orphans)
    assert not Path(before.runtime_folder).exists()


def test_its_memory_is_for_its_owner_alone(served: Served) -> None:
    assert wait_for(served.answers)
    regions = list(Path("/dev/shm").glob(f"{served.state.server_id}*"))
    assert len(regions) >= 4
    assert [region.name for region in regions if region.stat().st_mode & 0o077] == []


def test_a_killed_supervisor_leaves_neither_server_nor_stopped_stubs(served: Served) -> None:
    assert wait_for(served.answers)
    state, left = served.state, served.stubs()
    os.kill(left[0].pid, signal.SIGSTOP)
    served.process.kill()
    served.process.wait(GENEROUS_SECONDS)
    assert wait_for(lambda: process_started(state.pid) is None and stubs(state.server_id) == [])
    assert wait_for(lambda: not Path(state.runtime_folder).exists())
    served.process = supervise(served.repository)


def test_stop_ends_the_supervisor_its_server_and_all_stubs(served: Served) -> None:
    assert wait_for(served.answers)
    state, left = served.state, served.stubs()
    os.kill(left[-1].pid, signal.SIGSTOP)
    TritonServer.of(served.repository).stop()
    assert served.process.wait(GENEROUS_SECONDS) == 0
    assert process_started(state.pid) is None
    assert stubs(state.server_id) == []
    with pytest.raises(ServerNotRunningError):
        TritonServer.attach(served.repository)
