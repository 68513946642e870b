"""Detects files with the same orders, whose money would count twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from shopsight.training.data.cleaning.times import parse_times
from shopsight.training.data.errors import IngestError
from shopsight.training.data.fields import plain_ids
from shopsight.training.data.reading.readers import files_of, read_chunks
from shopsight.training.data.sources.source import Source

_LEAST_SHARED = 0.5  # of the orders of the file that has fewer
_SAME_DAYS = 2  # between what two exports say of the time of an order


@dataclass(frozen=True)
class Overlap:
    """Two files of which most orders of one are in the other; `fewer` has fewer orders, or came later."""

    more: Path
    fewer: Path
    shared: int
    of: int
    example: str

    @property
    def question(self) -> str:
        """What is asked of the two files."""
        return (
            f"asked: {self.fewer.name} and {self.more.name} have {self.shared:,} of {self.of:,} order ids "
            f"in common, as {self.example!r}: are they the same orders?"
        )


def shared_orders(sources: list[Source]) -> list[Overlap]:
    """Find each two files that have most order ids of one in common, at about the same times."""
    paths: list[Path] = []
    frames = [pl.DataFrame(schema={"file": pl.Int64, "order": pl.String, "first": pl.String})]
    for source in sources:
        if source.derived or source.kind not in ("events", "orders") or "order_id" not in source.columns:
            continue
        if source.constants.get("event") == "return":
            continue
        for path in files_of(source):
            try:
                orders = _orders(source, path)
            except IngestError:  # reported when the rows of the file are read
                continue
            frames.append(orders.select(pl.lit(len(paths), dtype=pl.Int64).alias("file"), "order", "first"))
            paths.append(path)
    orders = pl.concat(frames)
    counts = dict(orders.group_by("file").len().iter_rows())
    twice = orders.filter(pl.len().over("order") > 1)
    pairs = twice.join(twice, on="order", suffix="_other").filter(pl.col("file") < pl.col("file_other"))
    found = []
    for (one, other), both in sorted(pairs.group_by("file", "file_other"), key=lambda pair: pair[0]):
        fewest = min(counts[one], counts[other])
        if both.height >= _LEAST_SHARED * fewest and _at_the_same_times(both):
            more, fewer = (one, other) if counts[one] >= counts[other] else (other, one)
            example = str(both["order"].min())
            found.append(Overlap(paths[more], paths[fewer], both.height, fewest, example))
    return found


def _orders(source: Source, path: Path) -> pl.DataFrame:
    """The orders of a file, each once, with the first time that is written for it."""
    own = source.own
    has_time = "timestamp" in own.columns
    wanted = {name: c for name, c in own.columns.items() if name.split("\n")[0] in ("order_id", "timestamp")}
    parts = [chunk.rows for chunk in read_chunks(replace(own, columns=wanted, lookup=()), path)]
    time = pl.col("timestamp") if has_time else pl.lit(None, dtype=pl.String)
    rows = pl.concat(parts).with_columns(plain_ids("order_id")).filter(pl.col("order_id").is_not_null())
    order = pl.col("order_id").str.strip_chars_start("#").alias("order")
    return rows.group_by(order).agg(time.drop_nulls().first().alias("first")).sort("order")


def _at_the_same_times(both: pl.DataFrame) -> bool:
    """Whether at least half of the orders have the same time in both files, or no time can be compared."""
    apart = [
        (parse_times(both["first"], day_first=ours) - parse_times(both["first_other"], day_first=theirs))
        .dt.total_hours()
        .abs()
        for ours in (True, False)
        for theirs in (True, False)
    ]
    least = pl.DataFrame({str(i): hours for i, hours in enumerate(apart)}).min_horizontal().drop_nulls()
    return bool(least.is_empty() or (least <= 24 * _SAME_DAYS).mean() >= 0.5)  # type: ignore[operator]
