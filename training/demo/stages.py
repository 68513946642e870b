"""Named stages of long work, with progress lines, wall time and peak memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from shopsight.serving.progress import Advance
from shopsight.serving.terminal_progress import TerminalProgress

_CLEAR_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass
class Stages:
    """Prints each stage and its progress lines, and records its wall time and peak memory.

    whole: is told the expected share of each stage when it is done, in percent of all stages.
    """

    progress: TerminalProgress
    whole: Advance
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, percent: float) -> Iterator[None]:
        """Run the block as one stage; a failed stage is printed before its exception propagates."""
        self.progress.console.print(f"[bold]{self.progress.elapsed()} {name}[/bold]")
        _forget_peak()
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.progress.console.print(f"[red]{self.progress.elapsed()} {name} did not finish[/red]")
            raise
        self.seconds[name] = time.monotonic() - began
        self.peak_bytes[name] = _peak_bytes()
        self.whole(percent)

    def table(self) -> Table:
        """Return the stages with wall time and peak resident memory."""
        table = Table(title="what each stage cost")
        table.add_column("stage")
        table.add_column("seconds", justify="right")
        table.add_column("peak memory", justify="right")
        for name, seconds in self.seconds.items():
            table.add_row(name, f"{seconds:.1f}", f"{self.peak_bytes[name] / 2**30:.2f} GiB")
        table.add_row(
            "all", f"{sum(self.seconds.values()):.1f}", f"{max(self.peak_bytes.values()) / 2**30:.2f} GiB"
        )
        return table


def _forget_peak() -> None:
    # Linux keeps one peak value per process; it is reset at the start of each stage.
    try:
        _CLEAR_PEAK.write_text("5")
    except OSError:
        return


def _peak_bytes() -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
