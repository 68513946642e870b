"""One source from its files to clean rows: read, typed, duplicates out, every refusal counted by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.data.cleaning import conform
from training.data.quarantine import relative_name
from training.data.readers import REFUSED_SCHEMA, files_of, read_chunks
from training.data.sources import PROMISE_IDS, IngestError, Source
from training.data.tables import SCHEMAS

_REFUSED = {"file": pl.UInt16, **REFUSED_SCHEMA}


@dataclass
class Loaded:
    """The accepted rows of a source with `file` (number in `files`) and `row`, and what it refused so far."""

    source: Source
    files: list[Path]
    num_read: list[int]
    rows: pl.DataFrame
    refused: list[pl.DataFrame]

    def refuse(self, bad: pl.Expr, field: str | None, reason: str) -> None:
        """Take the rows with a fault out and remember why; a derived source only drops them."""
        mask = self.rows.select(bad.fill_null(False).alias("bad")).to_series()
        if not mask.any():
            return
        if not self.source.derived:
            reasons = pl.lit(field, dtype=pl.String).alias("field"), pl.lit(reason).alias("reason")
            self.refused.append(self.rows.filter(mask).select("file", "row", *reasons))
        self.rows = self.rows.filter(~mask)

    def all_refused(self) -> pl.DataFrame:
        """Every refusal: file, row, field, reason."""
        return pl.concat([pl.DataFrame(schema=_REFUSED), *self.refused])


def load(source: Source) -> Loaded:
    """Read every file of a source; exact duplicates of a row, in any of its files, are refused.

    Raises IngestError for files that are not what the source says, and for a channel without ids.
    """
    files = files_of(source)
    num_read, accepted, refused = [], [], []
    for number, path in enumerate(files):
        count = 0
        for chunk in read_chunks(source, path):
            rows, faults = conform(source, chunk.rows)
            lit = pl.lit(number, dtype=pl.UInt16).alias("file")
            accepted.append(rows.select(lit, pl.all()))
            if not source.derived:
                refused += [chunk.refused.select(lit, pl.all()), faults.select(lit, pl.all())]
            count += chunk.num_read
        num_read.append(count)
    if not sum(num_read):
        where = ", ".join(str(path) for path in files[:3])
        raise IngestError(f"{where}: a header but no rows; export it again or take the source out")
    loaded = Loaded(source, files, num_read, pl.concat(accepted), refused)
    _check_ids(loaded)
    if not source.derived:
        loaded.refuse(~pl.col("digest").is_first_distinct(), None, "duplicate")
    return loaded


def _check_ids(loaded: Loaded) -> None:
    source, rows = loaded.source, loaded.rows
    if source.kind not in PROMISE_IDS or source.anonymous or source.derived or rows.is_empty():
        return
    if rows["source_id"].null_count() == rows.height:
        raise IngestError(
            f'{source.label}: a channel without ids: column "{source.columns.get("source_id")}" is empty in '
            f"every row of {relative_name(source, loaded.files[0])}; "
            "map another column, or say anonymous = true"
        )


def mode(rows: pl.DataFrame, key: str | list[str], name: str) -> pl.DataFrame:
    """The most frequent value of `name` for each key (ties: the smallest), keys without any left out."""
    keys = [key] if isinstance(key, str) else key
    counts = rows.select(*keys, name).drop_nulls().group_by(*keys, name).len()
    return (
        counts.sort("len", name, descending=[True, False])
        .group_by(keys, maintain_order=True)
        .first()
        .drop("len")
    )


def as_table(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Bring rows to the columns of one table; what a source does not have is null."""
    schema = SCHEMAS[table]
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in schema.items() if n not in rows.columns]
    return rows.with_columns(missing).select(pl.col(n).cast(t) for n, t in schema.items())
