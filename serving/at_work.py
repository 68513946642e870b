"""Since when each process of a server has been at one batch: how a hung one is found while others answer.

A model's process notes in a file of its own when it takes a batch and when it is done. A request of the
supervisor cannot tell: Triton gives nothing more to a process that is at work, so that the others answer it.
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
    """The note of this process; without a folder in the environment nothing is noted."""

    def __init__(self) -> None:
        folder = os.environ.get(FOLDER_VARIABLE)
        self._descriptor = -1
        self._num_calls = 0
        if folder:
            path = Path(folder) / str(os.getpid())
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Be at work for the block."""
        self._note(time.monotonic())
        try:
            yield
        finally:
            self._note(_IDLE)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for another model for the block: that one is at work. Several waits may overlap."""
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
    """Return how long a process has been at its present batch; 0 when it is at none or never had one."""
    try:
        content = (runtime_folder / FOLDER / str(pid)).read_bytes()
        (since,) = _SECONDS.unpack(content)
    except (OSError, struct.error):
        return 0.0
    return 0.0 if since == _IDLE else time.monotonic() - since
