"""Ends a server after its parent process ended, if necessary by SIGKILL.

It runs as `python -m shopsight.serving.guard FOLDER`. `FOLDER` is the server's private folder, with its state
file. The parent holds the other end of standard input, and the kernel closes it however the parent ends.
SIGTERM is not enough: a stopped or hung stub would survive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from shopsight.serving.server_process import EXIT_TIMEOUT_SECONDS, remove_runtime
from shopsight.serving.server_state import ServerState

_POLL_SECONDS = 0.05


def post(folder: Path) -> subprocess.Popen[bytes]:
    """Start the guard of a server; after the server ended, closing its standard input ends the guard."""
    return subprocess.Popen(
        [sys.executable, "-m", "shopsight.serving.guard", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[1],
        start_new_session=True,
    )


def dismiss(guard: subprocess.Popen[bytes]) -> None:
    """Close the guard's standard input and wait for its end."""
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait()


def main() -> None:
    """Wait for the end of the parent process, then end the server and its stubs."""
    state = ServerState.read(Path(sys.argv[1]))
    sys.stdin.buffer.read()
    if state is not None:
        _end(state)


def _end(state: ServerState) -> None:
    deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS + 5
    with contextlib.suppress(ProcessLookupError):
        if state.process_is_alive:
            os.kill(state.pid, signal.SIGTERM)
        while state.process_is_alive and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if state.process_is_alive:
            os.killpg(state.pid, signal.SIGKILL)
        while state.process_is_alive:
            time.sleep(_POLL_SECONDS)
    remove_runtime(state)


if __name__ == "__main__":
    main()
