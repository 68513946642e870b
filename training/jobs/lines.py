"""Progress lines on their way from workers to whoever started the job."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str], None]
_POLL_SECONDS = 0.2


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
    from ray.util.queue import Empty, Queue

    queue, over = Queue(actor_options={"num_cpus": 0}), threading.Event()

    def listen() -> None:
        while True:
            ending = over.is_set()
            try:
                progress(queue.get(timeout=_POLL_SECONDS))
            except Empty:
                if ending:
                    return
            except Exception:  # the cluster is gone; what became of the job, its caller hears
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield Say(queue)
    finally:
        over.set()
        listener.join()
        queue.shutdown(force=True)
