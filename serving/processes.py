"""The stub processes of a Triton server: each runs one instance of a Python model at one version."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_STUB = b"triton_python_backend_stub"
_ENDED, _STOPPED = "ZX", "Tt"


@dataclass(frozen=True)
class Stub:
    """One stub process; `is_stopped` if a signal (SIGSTOP) stopped it."""

    pid: int
    model: str
    version: int
    is_stopped: bool


def stubs(server_id: str) -> list[Stub]:
    """Return the live stubs of a server, including those that outlived it.

    The command line of each stub names its model's file and a region of shared memory with the server's id.
    """
    return list(_found(server_id))


def end_stubs(server_id: str, model: str | None = None) -> None:
    """Kill a server's stubs, those of one model or all."""
    for stub in stubs(server_id):
        if model in (None, stub.model):
            with contextlib.suppress(ProcessLookupError):
                os.kill(stub.pid, signal.SIGKILL)


def _found(server_id: str) -> Iterator[Stub]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if len(arguments) < 3 or not arguments[0].endswith(_STUB):
                continue
            state = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if state in _ENDED:
            continue
        file = Path(os.fsdecode(arguments[1]))
        if arguments[2].startswith(server_id.encode()) and file.parent.name.isdecimal():
            yield Stub(int(folder.name), file.parent.parent.name, int(file.parent.name), state in _STOPPED)
