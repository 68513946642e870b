"""Sends progress lines from workers to the process that started the job."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str], None]
_LAST = None
_ENDING_SECONDS = 10.0


@dataclass(frozen=True)
class Say:
    """Sends a line from any worker; a training does not fail if the receiver is gone."""

    queue: Any

    def __call__(self, line: str) -> None:
        with contextlib.suppress(Exception):
            self.queue.put_nowait(line)


@contextlib.contextmanager
def heard(progress: Progress) -> Iterator[Say]:
    """Yield a `Say` for workers; their lines are passed to `progress` in this process, in order."""
    from ray.util.queue import Queue

    queue = Queue(actor_options={"num_cpus": 0})

    def listen() -> None:
        # A blocking wait instead of polling: if workers use all cores, each poll interrupts one of them.
        with contextlib.suppress(Exception):  # the cluster is gone; the caller gets the job's error
            while (line := queue.get()) is not _LAST:
                progress(line)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield Say(queue)
    finally:
        with contextlib.suppress(Exception):
            queue.put(_LAST)
            listener.join(_ENDING_SECONDS)
            queue.shutdown(force=True)
