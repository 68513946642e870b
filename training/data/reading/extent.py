"""Counts lines of text independently of the parser, and reports differences from the number of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shopsight.training.data.reading.records import Block

_LONG_LINES, _LONG_BYTES = 50, 65_536


@dataclass(frozen=True)
class Extent:
    """Counts of a text file or a part of it, from the line after its header.

    `lines` line ends, `blank` blank lines, `joined` lines that continue a row; of the row with the most
    bytes its number, lines and bytes.
    """

    lines: int = 0
    blank: int = 0
    joined: int = 0
    longest_row: int = 0
    longest_lines: int = 0
    longest_bytes: int = 0

    def __add__(self, other: Extent) -> Extent:
        """The extent of both together."""
        longer = self if self.longest_bytes >= other.longest_bytes else other
        return replace(
            longer,
            lines=self.lines + other.lines,
            blank=self.blank + other.blank,
            joined=self.joined + other.joined,
        )

    def doubts(self, num_rows: int) -> list[str]:
        """What does not add up between these lines and the rows that were read."""
        found = []
        if self.lines != num_rows + self.blank + self.joined:
            found.append(
                f"{self.lines:,} lines after the header are not {num_rows:,} rows, {self.blank:,} blank "
                f"lines and {self.joined:,} lines that continue a row"
            )
        if self.longest_lines > _LONG_LINES or self.longest_bytes > _LONG_BYTES:
            found.append(
                f"row {self.longest_row:,} is {self.longest_lines:,} lines and {self.longest_bytes:,} bytes "
                "long; look whether a quote is missing before it"
            )
        return found


def extent_of(block: Block, first: int) -> Extent:
    """Measure a block whose first record is row `first`."""
    kept_lines = block.data.count(b"\n")
    blank = block.num_lines - kept_lines
    if not len(block):
        return Extent(lines=block.num_lines, blank=blank)
    longest = int(np.argmax(block.stops - block.starts))
    record = block.record(longest)
    return Extent(
        lines=block.num_lines,
        blank=blank,
        joined=kept_lines - len(block),
        longest_row=first + longest,
        longest_lines=record.count(b"\n") + 1,
        longest_bytes=len(record),
    )
