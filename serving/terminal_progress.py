"""Progress on the terminal: lines with the elapsed time, and bars with an estimate of the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from shopsight.serving.progress import Advance

if TYPE_CHECKING:
    from rich.progress import Progress


class TerminalProgress:
    """Shows lines and, on a terminal, a bar for each amount of work that is being counted.

    Elsewhere (a pipe, a log, a file) there are lines alone. The bars of work inside other work stand below
    each other, and all vanish when they are done.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self._clock, self._began = console, clock, clock()
        self._bars: Progress | None = None

    def __call__(self, line: str) -> None:
        """Show a line with the time since the start."""
        self.console.print(f"[dim]{self.elapsed()}[/dim]  {escape(line)}", highlight=False, soft_wrap=True)

    def elapsed(self) -> str:
        """Return the minutes and seconds since the start."""
        minutes, seconds = divmod(int(self._clock() - self._began), 60)
        return f"{minutes:02d}:{seconds:02d}"

    @contextmanager
    def counted(self, what: str, total: float) -> Iterator[Advance]:
        """Show how much of `total` is done, and the time that the rest will take at the speed so far."""
        if not self.console.is_terminal:
            yield lambda _: None
            return
        bars = self._bars = self._bars or self._started()
        task = bars.add_task(what, total=total)
        try:
            yield lambda amount: bars.advance(task, amount)
        finally:
            bars.remove_task(task)
            if not bars.tasks:
                bars.stop()
                self._bars = None

    def _started(self) -> Progress:
        # Only work that is counted on a terminal needs it, and it takes a while to import.
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
        left = TextColumn("about"), TimeRemainingColumn(compact=True), TextColumn("left")
        bars = Progress(*columns, *left, console=self.console, transient=True, get_time=self._clock)
        bars.start()
        return bars
