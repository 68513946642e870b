"""Progress lines on their way from workers to whoever started the job."""

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
    """Sends a line from any worker; a training does not fail because nobody hears it any more."""

    queue: Any

    def __call__(self, line: str) -> None:
        with contextlib.suppress(Exception):
            self.queue.put_nowait(line)


@contextlib.contextmanager
def heard(progress: Progress) -> Iterator[Say]:
    """Yield a `Say` for workers, whose lines are given to `progress` here in their order."""
    from ray.util.queue import Queue

    queue = Queue(actor_options={"num_cpus": 0})

    def listen() -> None:
        # Waits without asking again and again: where workers fill all cores, each question stops one of them.
        with contextlib.suppress(Exception):  # the cluster is gone; what became of the job, its caller hears
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
