"""Progress of long work: lines of text, and amounts done, from which the remaining time is estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Progress = Callable[[str], None]
Advance = Callable[[float], None]


@runtime_checkable
class Counting(Protocol):
    """A `Progress` that can show how much of a known amount of work is done."""

    def __call__(self, line: str) -> None:
        """Show a line."""

    def counted(self, what: str, total: float) -> AbstractContextManager[Advance]:
        """Show `what` until the block ends; the block calls the function with each amount that it did."""


def silent(_: str) -> None:
    """Show nothing."""


@contextmanager
def counted(progress: Progress, what: str, total: float) -> Iterator[Advance]:
    """Yield a function that is told of each amount of work done, of `total` in any unit.

    It has no effect where `progress` shows lines alone.
    """
    if not isinstance(progress, Counting):
        yield lambda _: None
        return
    with progress.counted(what, total) as advance:
        yield advance
