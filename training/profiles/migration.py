"""Migration of customers between segments, from one training to the next or between two dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

ABSENT = "absent"
_MAX_MOVES = 3
_LEAST_SHARE = 0.05  # of the customers of the segment that they left


@dataclass(frozen=True)
class Migration:
    """Counts of customers by their segment before and after.

    before, after: the two times, as phrases. segments: {key, name} of every segment of either time; the last
    one, "absent", is for customers not there at one time. counts[i][j]: number of customers who moved from
    segment i to segment j. stayed_share: share of the customers of both times who kept their segment; None if
    there are none. words: a summary in sentences.
    """

    before: str
    after: str
    segments: tuple[dict[str, str], ...]
    counts: tuple[tuple[int, ...], ...]
    stayed_share: float | None
    words: str

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


def migrate(
    earlier: pl.DataFrame, later: pl.DataFrame, names: Mapping[str, str], *, before: str, after: str
) -> Migration:
    """Count how customers moved between two frames of customer_id and key (the segment's stable key).

    names: the name of every key of either frame, in the order of the result.
    """
    keys = [*names, ABSENT]
    both = earlier.select("customer_id", "key").join(
        later.select("customer_id", "key"), on="customer_id", how="full", coalesce=True, suffix="_later"
    )
    moved = both.select(pl.col("key", "key_later").fill_null(ABSENT)).group_by("key", "key_later").len()
    counts = np.zeros((len(keys), len(keys)), dtype=np.int64)
    for old, new, rows in moved.iter_rows():
        counts[keys.index(old), keys.index(new)] = rows
    there = counts[:-1, :-1]
    stayed = float(np.trace(there) / there.sum()) if there.sum() else None
    shown = [*names.values(), "Not there"]
    return Migration(
        before=before,
        after=after,
        segments=tuple({"key": key, "name": name} for key, name in zip(keys, shown, strict=True)),
        counts=tuple(tuple(int(n) for n in row) for row in counts),
        stayed_share=stayed,
        words=_words(counts, shown, stayed, before, after),
    )


def _words(
    counts: np.ndarray[Any, Any], names: list[str], stayed: float | None, before: str, after: str
) -> str:
    if stayed is None:
        return f"No customer was there both {before} and {after}."
    sentences = [
        f"Of the {counts[:-1, :-1].sum():,} customers there both {before} and {after}, {stayed:.0%} kept "
        "their segment."
    ]
    moves = counts[:-1, :-1] * (1 - np.eye(len(names) - 1, dtype=np.int64))
    left = counts[:-1, :-1].sum(axis=1)
    largest = sorted(zip(*np.nonzero(moves), strict=True), key=lambda at: -moves[at])
    shown = [
        f"{moves[old, new]:,} went from “{names[old]}” to “{names[new]}” "
        f"({moves[old, new] / left[old]:.0%} of the former)"
        for old, new in largest
        if moves[old, new] >= _LEAST_SHARE * left[old]
    ][:_MAX_MOVES]
    if shown:
        sentences.append(f"The largest moves: {'; '.join(shown)}.")
    if counts[-1, :-1].sum():
        sentences.append(f"New since: {counts[-1, :-1].sum():,}.")
    if counts[:-1, -1].sum():
        sentences.append(f"No longer there: {counts[:-1, -1].sum():,}.")
    return " ".join(sentences)
