"""Sends progress from workers to the process that started the job: lines, and amounts of work done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shopsight.serving.progress import Advance, Progress, counted

_LAST = None
_ENDING_SECONDS = 10.0
_SMALLEST_SHARE = 0.01  # of the total, in one message


@dataclass(frozen=True)
class Done:
    """An amount of the work `what` that a worker did, of `total` by all workers."""

    what: str
    total: float
    amount: float


@dataclass(frozen=True)
class Say:
    """Sends a line from any worker; a training does not fail if the receiver is gone."""

    queue: Any

    def __call__(self, line: str) -> None:
        self.send(line)

    @contextlib.contextmanager
    def counted(self, what: str, total: float) -> Iterator[Advance]:
        """Send the amounts done in messages of a hundredth of the total or more."""
        kept = 0.0

        def advance(amount: float) -> None:
            nonlocal kept
            kept += amount
            if kept >= _SMALLEST_SHARE * total:
                self.send(Done(what, total, kept))
                kept = 0.0

        yield advance
        self.send(Done(what, total, kept))

    def send(self, message: str | Done) -> None:
        """Send one message, unless the receiver is gone."""
        with contextlib.suppress(Exception):
            self.queue.put_nowait(message)


@contextlib.contextmanager
def heard(progress: Progress) -> Iterator[Say]:
    """Yield a `Say` for workers; what they send is shown by `progress` in this process, in order."""
    from ray.util.queue import Queue

    queue = Queue(actor_options={"num_cpus": 0})

    def listen() -> None:
        # A blocking wait instead of polling: if workers use all cores, each poll interrupts one of them.
        with contextlib.suppress(Exception), _Counts(progress) as counts:
            while (message := queue.get()) is not _LAST:
                if isinstance(message, Done):
                    counts.add(message)
                else:
                    progress(message)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield Say(queue)
    finally:
        with contextlib.suppress(Exception):
            queue.put(_LAST)
            listener.join(_ENDING_SECONDS)
            queue.shutdown(force=True)


class _Counts:
    """Shows the work that workers count, one kind at a time: the one before has ended when another begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._what = progress, ""
        self._shown = contextlib.ExitStack()
        self._advance: Advance = lambda _: None

    def __enter__(self) -> _Counts:
        return self

    def add(self, done: Done) -> None:
        """Show an amount."""
        if done.what != self._what:
            self._shown.close()
            self._what = done.what
            self._advance = self._shown.enter_context(counted(self._progress, done.what, done.total))
        self._advance(done.amount)

    def __exit__(self, *_: object) -> None:
        self._shown.close()
