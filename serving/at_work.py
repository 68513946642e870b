"""Records how long each process of a server has worked on its batch, to find a hung one among others.

A model's process writes to a file of its own when it takes a batch and when it is done. A probe request
cannot find a hung process: Triton sends nothing to a busy process, so that another process answers the probe.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER_VARIABLE = "SHOPSIGHT_AT_WORK_FOLDER"
FOLDER = "at-work"  # in a server's private folder
_SECONDS = struct.Struct("<d")
_IDLE = 0.0


class AtWork:
    """The record of this process; without a folder in the environment nothing is recorded."""

    def __init__(self) -> None:
        folder = os.environ.get(FOLDER_VARIABLE)
        self._descriptor = -1
        self._num_calls = 0
        if folder:
            path = Path(folder) / str(os.getpid())
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Record this process as working on a batch for the block."""
        self._note(time.monotonic())
        try:
            yield
        finally:
            self._note(_IDLE)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Record this process as waiting for another model for the block; several waits may overlap."""
        self._num_calls += 1
        self._note(_IDLE)
        try:
            yield
        finally:
            self._num_calls -= 1
            if self._num_calls == 0:
                self._note(time.monotonic())

    def _note(self, since: float) -> None:
        if self._descriptor >= 0:
            os.pwrite(self._descriptor, _SECONDS.pack(since), 0)


def seconds_at_work(runtime_folder: Path, pid: int) -> float:
    """Return how many seconds a process has worked on its current batch; 0 if it has none."""
    try:
        content = (runtime_folder / FOLDER / str(pid)).read_bytes()
        (since,) = _SECONDS.unpack(content)
    except (OSError, struct.error):
        return 0.0
    return 0.0 if since == _IDLE else time.monotonic() - since
