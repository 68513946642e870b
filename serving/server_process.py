"""One server process on loopback: its arguments, its ports, its private folder, and cleaning up after it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from shopsight.serving.locking import lock
from shopsight.serving.processes import end_stubs
from shopsight.serving.pseudonym import KEY_FILE_VARIABLE
from shopsight.serving.server_errors import PortInUseError, ServerError
from shopsight.serving.server_state import ServerState, process_started, remove_state
from shopsight.serving.triton_environment import find_triton, prepare_runtime

LOOPBACK = "127.0.0.1"
# Only holders of the secret in the state file may change what is served or make the server write files.
RESTRICTED_APIS = "shared-memory,model-repository,logging,trace"
SECRET_HEADER = "shopsight-secret"
LOG_FILE = ".server.log"
_LOG_START = "=== server "  # start of the first log line of each server
_MAX_LOG_BYTES = 64 * 2**20  # a log that is larger when a server starts is put aside as .server.log.1
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")
_SERVER_ID = re.compile(r"shopsight-[0-9a-f]{12}")
EXIT_TIMEOUT_SECONDS = 5  # what Triton grants to running requests and idle HTTP connections at shutdown


@dataclass(frozen=True)
class Ports:
    """Loopback ports of one server."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True)
class StartOptions:
    """Options of a server; `TritonServer.start` documents them."""

    ports: Ports
    key_file: Path | None
    auto_complete: bool
    supervised: bool
    replica_address: str | None = None


def launch(repository: Path, options: StartOptions) -> tuple[ServerState, subprocess.Popen[bytes]]:
    """Start a server's process, on free ports unless the options name some, without waiting for it."""
    ports = with_free_ports(options.ports)
    installation = find_triton()
    server_id, secret = f"shopsight-{secrets.token_hex(6)}", secrets.token_urlsafe(32)
    folder = Path(tempfile.mkdtemp(prefix="triton-", dir=_runtime_root()))
    try:
        run = prepare_runtime(installation, folder)
        # Triton passes its stubs' paths to a shell without quotes, so that the repository needs a plain name.
        (folder / "repository").symlink_to(repository, target_is_directory=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if options.key_file is not None:
        run.environment[KEY_FILE_VARIABLE] = str(options.key_file.absolute())
    command = run.arguments + server_arguments(
        folder / "repository", ports, server_id, secret, options.replica_address or LOOPBACK
    )
    if not options.auto_complete:
        command.append("--disable-auto-complete-config")
    parent = Path(__file__).with_name("end_with_parent.py")
    command = [sys.executable, "-I", str(parent), str(os.getpid()), *command]
    log_file = repository / LOG_FILE if options.replica_address is None else folder / LOG_FILE
    is_container = options.replica_address not in (None, LOOPBACK)
    with _opened_log(log_file) as log:
        log.write(f"{_LOG_START}{server_id} at {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command,
            cwd=run.working_folder,
            env=run.environment,
            stdin=subprocess.DEVNULL,
            stdout=None if is_container else log,  # a container's log is its output
            stderr=None if is_container else subprocess.STDOUT,
            umask=0o077,  # files of the server and its stubs are private
            start_new_session=True,  # Ctrl-C reaches only this process, which then stops the server
        )
    state = ServerState(
        pid=process.pid,
        process_started=process_started(process.pid) or 0,
        server_id=server_id,
        secret=secret,
        http_port=ports.http,
        grpc_port=ports.grpc,
        metrics_port=ports.metrics,
        runtime_folder=str(folder),
        log_file=str(log_file),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        key_file=run.environment.get(KEY_FILE_VARIABLE),
        supervisor=os.getpid() if options.supervised else None,
        supervisor_started=process_started(os.getpid()) if options.supervised else None,
    )
    state.write(folder)
    return state, process


def server_arguments(
    repository: Path, ports: Ports, server_id: str, secret: str, address: str = LOOPBACK
) -> list[str]:
    """Return Triton's arguments: explicit model control, restricted to holders of `secret`."""
    return [
        f"--id={server_id}",
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        f"--http-address={address}",
        f"--http-port={ports.http}",
        f"--grpc-address={address}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={address}",
        f"--metrics-port={ports.metrics}",
        "--allow-gpu-metrics=false",
        f"--http-restricted-api={RESTRICTED_APIS}:{SECRET_HEADER}={secret}",
        f"--grpc-restricted-protocol={RESTRICTED_APIS}:{SECRET_HEADER}={secret}",
        f"--backend-config=python,shm-region-prefix-name={server_id}",
        "--backend-config=python,thread-pool-size=2",
        f"--exit-timeout-secs={EXIT_TIMEOUT_SECONDS}",
    ]


def hide_from_process_list(pid: int, secret: str) -> None:
    """Overwrite `secret` in a child's command line, which every user of the machine can read.

    Triton accepts the secret only as an argument, and has read it by now. If the kernel forbids writing to a
    child's memory, the secret stays readable to users of this machine.
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    with contextlib.suppress(PermissionError), Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(begin)
        arguments = memory.read(end - begin)
        memory.seek(begin)
        memory.write(arguments.replace(secret.encode(), b"*" * len(secret)))


def check_free(wanted: Ports) -> None:
    for kind, port in (("http", wanted.http), ("grpc", wanted.grpc), ("metrics", wanted.metrics)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise PortInUseError(
                    f"port {port} on {LOOPBACK} is not free ({error.strerror}); "
                    f"choose another with --{kind}-port (0 takes a free one)"
                ) from error


def with_free_ports(wanted: Ports) -> Ports:
    with contextlib.ExitStack() as held:  # held together, so that no port is given twice

        def fill(port: int) -> int:
            if port:
                return port
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            return int(probe.getsockname()[1])

        return Ports(fill(wanted.http), fill(wanted.grpc), fill(wanted.metrics))


@contextlib.contextmanager
def only_one_starts(repository: Path) -> Iterator[None]:
    descriptor = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, repository, wait=True)
        yield
    finally:
        os.close(descriptor)


def clear_leftovers(repository: Path) -> None:
    _sweep_runtimes()
    state = ServerState.read(repository)
    if state is None:
        return
    if state.process_is_alive:
        raise ServerError(
            f"a server (process {state.pid}, HTTP port {state.http_port}) already serves {repository}; "
            "stop it first, or use it"
        )
    if state.supervisor != os.getpid():  # else the next state file replaces this one
        remove_state(repository, state.server_id)
    remove_runtime(state)


def _sweep_runtimes() -> None:
    """Remove what servers left that were killed and whose repository may be gone too."""
    for folder in _runtime_root().glob("triton-*"):
        state = ServerState.read(folder)
        if state is not None and not state.process_is_alive:
            remove_runtime(state)


def _runtime_root() -> Path:
    """Return the folder of all servers' private folders: in the user's cache, if its path is plain."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    root = cache / "shopsight"
    if not _PLAIN_PATH.fullmatch(str(root)):
        root = Path(tempfile.gettempdir()).absolute() / f"shopsight-{os.getuid()}"
    if not _PLAIN_PATH.fullmatch(str(root)):
        raise ServerError(
            f"neither {cache} nor {tempfile.gettempdir()} is a path that Triton can read; "
            "name a folder of ASCII letters and digits in $XDG_CACHE_HOME or $TMPDIR"
        )
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ServerError(f"{root} is not a folder of your own; remove it")
    return root


def remove_runtime(state: ServerState) -> None:
    """Remove what an ended server left: its stubs, its private folder, its shared memory."""
    if not _SERVER_ID.fullmatch(state.server_id):
        return
    end_stubs(state.server_id)
    runtime = Path(state.runtime_folder)
    if runtime.parent == _runtime_root() and runtime.name.startswith("triton-"):
        shutil.rmtree(runtime, ignore_errors=True)
    for region in Path("/dev/shm").glob(f"{state.server_id}*"):
        region.unlink(missing_ok=True)


def log_tail(log_file: Path, lines: int = 12) -> str:
    """Return the last lines that the latest server wrote."""
    latest = log_file.read_text(encoding="utf-8", errors="replace").rpartition(_LOG_START)[2]
    return "\n".join(latest.splitlines()[1:][-lines:])


def _opened_log(log_file: Path) -> BinaryIO:
    """Open the log in append mode, so that the end of the previous server's log stays readable."""
    if log_file.exists() and log_file.stat().st_size > _MAX_LOG_BYTES:
        log_file.replace(log_file.with_name(f"{log_file.name}.1"))
    return os.fdopen(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "ab")
