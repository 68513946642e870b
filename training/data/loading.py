"""Loads the clean rows of each source through the intake, removes duplicates, and counts refusals by file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.progress import Advance, Progress, counted
from shopsight.training.data.cleaning.conventions import (
    Convention,
    Settled,
    better_guess,
    first_guess,
    needs_reading_again,
    settle,
)
from shopsight.training.data.errors import IngestError
from shopsight.training.data.fields import is_stored
from shopsight.training.data.intake import Entry, Intake
from shopsight.training.data.intake_writer import IDS_SCHEMA, NUM_BUCKETS
from shopsight.training.data.presets import convention_of
from shopsight.training.data.quarantine import relative_name
from shopsight.training.data.reading.chunks import REFUSED_SCHEMA
from shopsight.training.data.reading.readers import files_of, format_of, header_of
from shopsight.training.data.sources.kinds import PROMISE_IDS
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import SCHEMAS

FILE = pl.UInt32  # the number of a file among all files of one ingest
REFUSED: dict[str, Any] = {"file": FILE, **REFUSED_SCHEMA}
# Kinds of which there may be more rows than memory holds; the others are gathered as one frame.
STREAMED = ("events", "orders", "exposures")


@dataclass
class Loaded:
    """What one source holds: its files with their entries, numbered from `first_file`, and refusals so far.

    `rows` are the accepted rows of a kind that is gathered (None before `gather`, and for STREAMED kinds).
    """

    source: Source
    files: list[Path]
    entries: list[Entry]
    first_file: int
    refused: list[pl.DataFrame] = field(default_factory=list)
    gathered: pl.DataFrame | None = None

    @property
    def rows(self) -> pl.DataFrame:
        """The accepted rows, gathered."""
        if self.gathered is None:
            self.gathered = self.scan().collect()
        return self.gathered

    @rows.setter
    def rows(self, rows: pl.DataFrame) -> None:
        self.gathered = rows

    def scan(self, first: int = 0, last: int = NUM_BUCKETS) -> pl.LazyFrame:
        """Rows of some buckets in the order of files and rows: `file`, the typed fields, constants, channel.

        Gathered kinds have `source_id`, streamed ones `who`, unique over all files.
        """
        frames = []
        for number, entry in enumerate(self.entries, start=self.first_file):
            if not entry.parts:  # a header without rows
                continue
            rows = entry.scan(first, last).with_columns(pl.lit(number, dtype=FILE).alias("file"))
            if self.source.derived:
                pass
            elif self.source.kind in STREAMED:
                rows = rows.with_columns(unique_who(number))
            elif self.has_ids:
                ids = entry.ids().lazy().select("who", "source_id")
                rows = rows.join(ids, on="who", how="left", maintain_order="left").drop("who")
            frames.append(rows)
        constants = {k: v for k, v in self.source.constants.items() if not is_stored(k)}
        constants = {k: v for k, v in constants.items() if k not in self.source.columns}
        if self.source.tells_currency:
            constants.pop("currency", None)
        columns = [pl.lit(v).alias(k) for k, v in constants.items()]
        if "channel" not in self.source.columns and "channel" not in constants:
            columns.append(pl.lit(self.source.channel or self.source.name).alias("channel"))
        return pl.concat(frames).with_columns(columns)

    @property
    def has_ids(self) -> bool:
        """Whether rows of this source can name who they are about."""
        return self.source.has("source_id")

    def ids(self) -> pl.DataFrame:
        """Every raw id, once a file: `who` (unique over all files), IDS_SCHEMA, `source`."""
        parts = [pl.DataFrame(schema={**IDS_SCHEMA, "who": pl.UInt64, "source": pl.String})]
        if self.has_ids and not self.source.derived:
            for number, entry in enumerate(self.entries, start=self.first_file):
                ids = entry.ids().with_columns(unique_who(number), pl.lit(self.source.name).alias("source"))
                parts.append(ids)
        return pl.concat(parts)

    def refuse(self, bad: pl.Expr, field_name: str | None, reason: str) -> None:
        """Take gathered rows with a fault out and remember why; a derived source only drops them."""
        mask = self.rows.select(bad.fill_null(False).alias("bad")).to_series()
        if not mask.any():
            return
        if not self.source.derived:
            self.refused.append(refusals(self.rows.filter(mask), field_name, reason))
        self.rows = self.rows.filter(~mask)

    def all_refused(self) -> pl.DataFrame:
        """Every refusal: REFUSED."""
        parts = [pl.DataFrame(schema=REFUSED), *self.refused]
        if not self.source.derived:
            for number, entry in enumerate(self.entries, start=self.first_file):
                parts.append(entry.refused().select(pl.lit(number, dtype=FILE).alias("file"), pl.all()))
        return pl.concat(parts)


@dataclass
class LoadedSources:
    """All sources in order; `notes` says how their values are read, `known` what later runs remember.

    `unread` says which files among several could not be read, and why.
    """

    parts: list[Loaded]
    notes: list[str]
    known: dict[str, dict[str, Any]]
    unread: list[str]


@dataclass(frozen=True)
class _Group:
    """What sources that share their files have read: the files, the entries by source, what was settled."""

    files: list[Path]
    entries: list[list[Entry]]
    settled: Settled
    unread: list[str]


def load_all(
    sources: list[Source],
    intake: Intake,
    remembered: Mapping[str, Mapping[str, Any]],
    show: Progress,
) -> LoadedSources:
    """Read every file of every source, or find it in the intake.

    remembered: `known` of the last run. One file among several that does not match its source is left out and
    reported. Raises IngestError for a source without any readable file, for a channel without ids, and if the
    format of dates or numbers cannot be decided.
    """
    paths = {path for source in sources for path in files_of(source)}
    with counted(show, "reading", sum(map(_size, paths))) as done:
        return _load_all(sources, intake, remembered, show, done)


def _load_all(
    sources: list[Source],
    intake: Intake,
    remembered: Mapping[str, Mapping[str, Any]],
    show: Progress,
    done: Advance,
) -> LoadedSources:
    result = LoadedSources([], [], {}, [])
    read: dict[str, _Group] = {}
    for source in sources:
        group, where = [s for s in sources if (s.base, s.path) == (source.base, source.path)], source.path
        if where not in read:
            read[where] = _read_group(group, intake, remembered.get(where, {}), done)
            result.notes += read[where].settled.notes
            result.unread += read[where].unread
            if read[where].settled.known:
                result.known[where] = read[where].settled.known
        first_file = sum(len(part.files) for part in result.parts)
        entries = read[where].entries[group.index(source)]
        part = Loaded(source, read[where].files, entries, first_file)
        if not sum(entry.num_read for entry in entries):
            names = ", ".join(str(path) for path in part.files[:3])
            raise IngestError(f"{names}: a header but no rows; export it again or take the source out")
        _check_ids(part)
        result.parts.append(part)
        show(f"read {sum(entry.num_read for entry in entries):,} rows of {source.label}")
    return result


def _read_group(group: list[Source], intake: Intake, remembered: Mapping[str, Any], done: Advance) -> _Group:
    """Read the files that some sources share under one convention, settled by the values of all of them.

    Files that were read under another one, before all were seen, are read again. Raises IngestError where no
    file can be read.
    """
    exporter = _exporter(group[0])
    guess = first_guess(group, remembered, exporter)
    files: list[Path] = []
    entries: list[list[Entry]] = [[] for _ in group]
    errors: list[IngestError] = []
    for path in files_of(group[0]):
        try:
            made = []
            for source in group:
                made.append(intake.entry(source, path, guess))
                if not remembered:
                    guess = better_guess(guess, made[-1].evidence)
        except IngestError as error:
            errors.append(error)
            continue
        finally:
            done(_size(path))
        files.append(path)
        for read, entry in zip(entries, made, strict=True):
            read.append(entry)
    if not files:
        raise errors[0]
    formats = [format_of(group[0], path) for path in files]
    seen = [
        (relative_name(source, path), entry.evidence)
        for source, read in zip(group, entries, strict=True)
        for path, entry in zip(files, read, strict=True)
    ]
    settled = settle(group, formats, seen, remembered, exporter)
    for source, read in zip(group, entries, strict=True):
        for i, path in enumerate(files):
            if needs_reading_again(read[i].evidence, read[i].convention, settled.convention):
                read[i] = intake.entry(source, path, settled.convention)
    return _Group(files, entries, settled, [str(error) for error in errors])


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 for one that has gone, which its reader will report."""
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _exporter(source: Source) -> Convention | None:
    """How a known exporter writes, by the header of the first file that has one."""
    for path in files_of(source):
        if format_of(source, path) != "csv":
            return None
        with contextlib.suppress(IngestError):
            return convention_of(header_of(source.own, path))
    return None


def refuse_duplicates(loaded: list[Loaded]) -> None:
    """Of gathered kinds, refuse raw records that are the same as an earlier one of the same name and kind."""
    groups: dict[tuple[str, str], list[Loaded]] = {}
    for part in loaded:
        if part.source.kind not in STREAMED and not part.source.derived:
            groups.setdefault((part.source.name, part.source.kind), []).append(part)
    for parts in groups.values():
        keys = pl.concat([part.rows.select("hi", "lo") for part in parts])
        first = keys.select(pl.struct("hi", "lo").is_first_distinct().alias("first")).to_series()
        begin = 0
        for part in parts:
            mine = first.slice(begin, part.rows.height)
            begin += part.rows.height
            if not mine.all():
                part.rows = part.rows.with_columns(mine)
                part.refuse(~pl.col("first"), None, "duplicate")
                part.rows = part.rows.drop("first")


def refusals(rows: pl.DataFrame, field_name: str | None, reason: str) -> pl.DataFrame:
    """Rows that were read well and are refused all the same: REFUSED.

    Their raw text is not kept: the rows are whole in their file, or in the tables as the duplicate's twin.
    """
    columns = {"field": field_name, "reason": reason, "raw": None, "source_id": None}
    return rows.select("file", "row", *(pl.lit(v, dtype=pl.String).alias(k) for k, v in columns.items()))


def unique_who(file_number: int) -> pl.Expr:
    """`who` of one file as a number that no other file has."""
    return (pl.col("who").cast(pl.UInt64) + (file_number << 32)).alias("who")


def mode(rows: pl.DataFrame, key: str | list[str], name: str) -> pl.DataFrame:
    """The most frequent value of `name` for each key (ties: the smallest), keys without any left out.

    A column `weight` says how often a row was seen.
    """
    keys = [key] if isinstance(key, str) else key
    seen = pl.col("weight").sum() if "weight" in rows.columns else pl.len()
    counts = rows.drop_nulls([*keys, name]).group_by(*keys, name).agg(seen.alias("seen"))
    return (
        counts.sort("seen", name, descending=[True, False])
        .group_by(keys, maintain_order=True)
        .first()
        .drop("seen")
    )


def as_table(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Bring rows to the columns of one table; what a source does not have is null."""
    schema = SCHEMAS[table]
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in schema.items() if n not in rows.columns]
    return rows.with_columns(missing).select(pl.col(n).cast(t) for n, t in schema.items())


def _check_ids(loaded: Loaded) -> None:
    source = loaded.source
    if (
        source.kind not in PROMISE_IDS
        or source.anonymous
        or source.derived
        or "source_id" in source.constants
    ):
        return
    if not any(entry.num_rows for entry in loaded.entries):
        return
    if loaded.ids().is_empty():
        raise IngestError(
            f'{source.label}: a channel without ids: column "{source.columns.get("source_id")}" is empty in '
            f"every row of {relative_name(source, loaded.files[0])}; "
            "map another column, or say anonymous = true"
        )
