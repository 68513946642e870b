"""A progress that keeps what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shopsight.serving.progress import Advance


class RecordedProgress:
    """told: lines, ("begins", what, total), (what, amount) and ("ends", what), in their order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __call__(self, line: str) -> None:
        self.told.append(line)

    @contextmanager
    def counted(self, what: str, total: float) -> Iterator[Advance]:
        self.told.append(("begins", what, total))
        yield lambda amount: self.told.append((what, amount))
        self.told.append(("ends", what))

    def total_of(self, what: str) -> float:
        """Return the total that was announced."""
        (total,) = [one[2] for one in self.told if one[:2] == ("begins", what)]
        return float(total)

    def done_of(self, what: str) -> float:
        """Return the sum of the amounts done."""
        return float(sum(one[1] for one in self.told if isinstance(one, tuple) and one[0] == what))
