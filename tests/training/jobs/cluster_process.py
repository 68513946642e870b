"""A real Ray cluster on loopback for tests: token authentication, ports of its own, ended by process id."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_until

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class RayCluster:
    """One running head node; `environment` lets a child process in."""

    process: subprocess.Popen[bytes]
    folder: Path
    address: str
    dashboard: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a command that talks to this cluster."""
        return command_environment() | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_ADDRESS": self.address,
        }

    def stop(self) -> None:
        """End the processes of the session that was started here, and no others."""
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, ending)
                self.process.wait(timeout=3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        shutil.rmtree(self.folder, ignore_errors=True)


def command_environment() -> dict[str, str]:
    """This process's environment without what would connect a command to any other cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    return kept | quiet | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def start_cluster(num_cpus: int) -> RayCluster:
    """Start a head node of `num_cpus` logical CPUs and wait until its dashboard takes jobs."""
    # A short path: the sockets below it may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ss-ray-", dir="/tmp"))
    token = secrets.token_urlsafe(32)
    port, dashboard, client, agent = free_ports(4)
    environment = command_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = [
        str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", f"--port={port}",
        "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
        f"--num-cpus={num_cpus}", f"--object-store-memory={200 * 2**20}", f"--temp-dir={folder}",
    ]  # fmt: skip
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    cluster = RayCluster(process, folder, f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", token)
    listening = [port, dashboard, agent]
    wait_until(lambda: process.poll() is not None or all(map(_listens, listening)), "the cluster listens")
    if process.poll() is not None:
        said = (folder / "start.log").read_text(errors="replace")
        cluster.stop()
        raise RuntimeError(f"the cluster did not start:\n{said}")
    return cluster


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody used a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0
