"""The state file that a running server writes into its repository, by which other commands find it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

STATE_FILE = ".server.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ServerState:
    """A running server: its process, its loopback ports, and the secret that opens model control.

    `process_started` is the kernel's start time of `pid` in clock ticks since boot. It distinguishes the
    server from a later process with the same number. `started_at` is UTC, ISO 8601.
    """

    pid: int
    process_started: int
    server_id: str
    secret: str
    http_port: int
    grpc_port: int
    metrics_port: int
    runtime_folder: str
    log_file: str
    started_at: str
    key_file: str | None = None
    supervisor: int | None = None
    supervisor_started: int | None = None
    format_version: int = FORMAT_VERSION

    def write(self, repository: Path) -> None:
        """Write the state file atomically, readable only by its owner."""
        descriptor, temporary = tempfile.mkstemp(dir=repository, prefix=STATE_FILE)  # mkstemp: mode 600
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(repository / STATE_FILE)

    @staticmethod
    def read(repository: Path) -> ServerState | None:
        """Read the state file; None if there is none or another version wrote it."""
        try:
            raw = json.loads((repository / STATE_FILE).read_text(encoding="utf-8"))
            state = ServerState(**raw)
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None
        return state if state.format_version == FORMAT_VERSION else None

    @property
    def is_supervised(self) -> bool:
        """Whether the supervisor process, which restarts the server, is alive."""
        return self.supervisor is not None and process_started(self.supervisor) == self.supervisor_started

    @property
    def process_is_alive(self) -> bool:
        """Whether the server's process still runs, and its number was not reused."""
        return process_started(self.pid) == self.process_started


def remove_state(repository: Path, server_id: str) -> None:
    """Remove the state file if it is still that of `server_id`."""
    state = ServerState.read(repository)
    if state is not None and state.server_id == server_id:
        (repository / STATE_FILE).unlink(missing_ok=True)


def process_started(pid: int) -> int | None:
    """Return a live process's start time in clock ticks since boot; None if it has ended or is a zombie."""
    try:
        # The command's name, in parentheses, may contain spaces; the fields after the last ")" are regular.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
