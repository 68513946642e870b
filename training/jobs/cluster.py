"""Connects to a Ray cluster, or starts one on this machine that ends with the command."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopsight.training.jobs.errors import JobError

LOCAL = "local"
# Exit codes of processes that a signal ended, as in a shell.
TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT
ADDRESS_VARIABLE = "RAY_ADDRESS"
_MODE, _TOKEN, _TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_PROBE_SECONDS = 5.0  # without it, Ray retries an unreachable address for many minutes
_LOCAL_STORE_BYTES = 200 * 2**20  # the object store carries only paths and settings, never rows
# By default Ray checks its workers every two seconds. Checking more often shortens the delay after a death,
# but five checks a second take 2 % of a core.
_HEALTH_CHECK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1")


@dataclass(frozen=True)
class Resources:
    """Resources of a job: equal workers, each with CPUs and optionally one GPU.

    address: `host:port` of a cluster's head, "auto" for the cluster on this machine, "local" for a new one
    that ends with the command; None takes RAY_ADDRESS, which Ray sets inside `ray job submit`, else "local".
    max_restarts: how often a job resumes from its last checkpoint after workers died.
    """

    num_workers: int = 1
    cpus_per_worker: int = 1
    use_gpu: bool = False
    address: str | None = None
    max_restarts: int = 3

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.cpus_per_worker < 1:
            words = f"num_workers {self.num_workers}, cpus_per_worker {self.cpus_per_worker}"
            raise JobError(f"{words}: both must be 1 or above")


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Yield the connected `ray` module; at the end, disconnect and end a cluster that was started here.

    Raises JobError if Ray is not installed, the address does not answer, or there is no token. SIGTERM ends
    the block as Ctrl-C does, so that its clean-up runs.
    """
    if importlib.util.find_spec("ray") is None:
        raise JobError("ray is not installed; remedy: pip install 'shopsight[distributed]'")
    source = "--address" if address else ADDRESS_VARIABLE
    address = address or os.environ.get(ADDRESS_VARIABLE) or LOCAL
    os.environ.setdefault(*_HEALTH_CHECK)
    options: dict[str, Any] = {"address": address}
    # Ray reads the mode and the token when it is imported.
    if address == LOCAL:
        _authenticate_own_cluster()
        options |= {
            "num_cpus": len(os.sched_getaffinity(0)),
            "object_store_memory": _LOCAL_STORE_BYTES,
            "include_dashboard": False,
        }
    else:
        _probe(address, source)
        _authenticate(address)
    import ray

    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        raise JobError(
            f"the Ray cluster at {address} refused the token: set {_TOKEN}, or the file {_TOKEN_FILE}, to "
            f"the token that it was started with, and see that it runs Ray {ray.__version__}"
        ) from error
    try:
        with _ended_by_signals():
            yield ray
    finally:
        ray.shutdown()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Exit with TERMINATED on SIGTERM and INTERRUPTED on SIGINT, in place of Ray's handlers.

    Ray's handler of SIGTERM prints a C++ stack trace, its handler of SIGINT exits with 0, and calls into Ray
    change the code of any exit to 1.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminated = threading.Event()

    def end(*_: Any) -> None:
        terminated.set()
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except SystemExit:
        sys.exit(TERMINATED if terminated.is_set() else INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def require_room(ray: Any, resources: Resources) -> None:
    """Raise JobError if the live nodes cannot hold all workers at the same time."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": resources.cpus_per_worker} | ({"GPU": 1} if resources.use_gpu else {})
    room = sum(int(min(node.get(name, 0) // each for name, each in wanted.items())) for node in nodes)
    if room >= resources.num_workers:
        return
    cpus, gpus = (int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
    each = " and ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in wanted.items())
    raise JobError(
        f"{resources.num_workers} workers of {each} do not fit: the cluster has {cpus} CPUs and {gpus} GPUs "
        f"on {len(nodes)} node{'s' * (len(nodes) != 1)}, room for {room}; remedy: "
        f"--num-workers {max(room, 1)}, or add nodes with 'ray start --address'"
    )


def _authenticate_own_cluster() -> None:
    """Set a token for the duration of the command, unless the user already has one."""
    os.environ.setdefault(_MODE, "token")
    os.environ.setdefault(_TOKEN, secrets.token_urlsafe(32))


def _authenticate(address: str) -> None:
    if os.environ.setdefault(_MODE, "token").lower() != "token":
        return
    file = Path(os.environ.get(_TOKEN_FILE) or Path.home() / ".ray" / "auth_token")
    if not os.environ.get(_TOKEN) and not file.is_file():
        raise JobError(
            f"no token for the cluster at {address}: set {_TOKEN} to the one it was started with, or put it "
            f"into {file} ('ray get-auth-token --generate' makes one for a new cluster)"
        )


def _probe(address: str, source: str) -> None:
    """Raise JobError, naming the source of the address, if nothing listens there."""
    remedy = f"start one with 'ray start --head', or leave out {source} to use this machine alone"
    head = address
    if address == "auto":
        file = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
        head = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        if not head:
            raise JobError(f"address 'auto' (from {source}): no Ray cluster runs on this machine; {remedy}")
    host, _, port = head.rpartition(":")
    if "://" in head or not host or not port.isdigit():
        raise JobError(
            f"address {address!r} (from {source}) is not host:port of a cluster's head, 'auto' or 'local'; "
            "the dashboard's http address belongs to 'ray job submit --address'"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        raise JobError(
            f"no Ray cluster answers at {head} ({error}), the address {address!r} from {source}; {remedy}"
        ) from error
