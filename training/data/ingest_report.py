"""The report of an ingest: rows by file and refusals by rule, checked to add up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl
from rich.table import Table

from shopsight.training.data.errors import IngestError
from shopsight.training.data.loading import Loaded
from shopsight.training.data.quarantine import REASONS, named, relative_name
from shopsight.training.data.quarantine import SCHEMA as QUARANTINE
from shopsight.training.data.reading.extent import Extent


@dataclass(frozen=True)
class FileReport:
    """Rows of one file as one source reads it: accepted + refused = read.

    `folded` counts the accepted rows that share a row of the tables with others: an item's titles in order
    lines, an account's records. `extent` counts the lines of a text file.
    """

    source: str
    kind: str
    file: str
    read: int
    accepted: int
    refused: int
    folded: int
    derived: bool = False
    extent: Extent | None = None


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did: rows by file, refusals by rule, rows by table, customers, time.

    flagged: by rule, rows that stay in the tables and are named in the flags table; clocks: of each channel
    its period, and whether its day looks hours off (training/data/cleaning/clocks.py); notes: how files were
    read where that was found out and not said, which were read again and why, and what does not add up;
    unread: files among several that could not be read, and why.
    """

    files: tuple[FileReport, ...]
    refused: dict[str, int]
    tables: dict[str, int]
    customers: dict[str, int]
    read: int
    accepted: int
    seconds: float
    rows_per_second: float
    backend: str
    snapshot_sha256: str
    flagged: dict[str, int] = field(default_factory=dict)
    clocks: list[dict[str, Any]] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    unchanged: bool = False
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return asdict(self)

    def table(self) -> Table:
        """The report for a terminal."""
        began = "nothing changed since the last run; " if self.unchanged else ""
        title = began + (
            f"{self.read:,} rows read in {self.seconds:.1f} s "
            f"({self.rows_per_second:,.0f}/s, {self.backend}), {self.accepted:,} accepted, "
            f"{self.read - self.accepted:,} refused; "
            f"{self.customers['accounts']:,} ids are {self.customers['customers']:,} customers"
        )
        table = Table(title=title, title_justify="left")
        for name in ("source", "kind", "file"):
            table.add_column(name)
        for name in ("read", "accepted", "refused", "folded"):
            table.add_column(name, justify="right")
        for row in self.files:
            counts = (f"{n:,}" for n in (row.read, row.accepted, row.refused, row.folded))
            table.add_row(row.source, row.kind, row.file, *counts)
        rules = "".join(
            f"\n  {reason} {count:,}: {REASONS.get(reason, '')}" for reason, count in self.refused.items()
        )
        flagged = ", ".join(f"{rule} {count:,}" for rule, count in self.flagged.items() if count)
        late = [f"{c['channel']} by {c['hours']} h" for c in self.clocks if c["suspect"]]
        table.caption = f"refused: {rules or 'nothing'}\nflagged: {flagged or 'nothing'}" + (
            f"\nthe clock looks wrong: {', '.join(late)}; see timezone of the source" if late else ""
        )
        unread = [f"not read, nothing of it is in the tables: {problem}" for problem in self.unread]
        table.caption = "\n".join([table.caption, *self.notes, *unread])
        table.caption_justify = "left"
        return table


def account(loaded: list[Loaded], refused: pl.DataFrame) -> tuple[pl.DataFrame, tuple[FileReport, ...]]:
    """Bring refusals to their files: the quarantine, and the count of every file."""
    quarantine, reports = [pl.DataFrame(schema=QUARANTINE)], []
    for part in loaded:
        last_file = part.first_file + len(part.files)
        theirs = pl.concat(
            [
                part.all_refused(),
                refused.filter(pl.col("file").is_between(part.first_file, last_file, "left")),
            ]
        )
        quarantine.append(named(theirs, part.source, part.files, part.first_file))
        reports += _file_reports(part, theirs)
    return pl.concat(quarantine), tuple(reports)


def _file_reports(part: Loaded, refused: pl.DataFrame) -> list[FileReport]:
    by_file = dict(refused.group_by("file").len().iter_rows())
    late = dict(refused.filter(pl.col("raw").is_null()).group_by("file").len().iter_rows())
    entity = {"items": "item_id", "customers": "source_id"}.get(part.source.kind)
    reports = []
    for number, (path, entry) in enumerate(zip(part.files, part.entries, strict=True), part.first_file):
        kept = distinct = entry.num_read if part.source.derived else entry.num_rows - late.get(number, 0)
        if entity is not None:
            distinct = part.rows.filter(pl.col("file") == number)[entity].drop_nulls().n_unique()
        report = FileReport(
            source=part.source.name,
            kind=part.source.kind,
            file=relative_name(part.source, path),
            read=entry.num_read,
            accepted=kept,
            refused=by_file.get(number, 0) + entry.num_forgotten,
            folded=kept - distinct,
            derived=part.source.derived,
            extent=entry.extent,
        )
        if report.accepted + report.refused != report.read:
            raise AssertionError(f"{path}: {report.accepted} + {report.refused} rows are not {report.read}")
        reports.append(report)
    return reports


def notes(loaded: list[Loaded], files: tuple[FileReport, ...]) -> tuple[str, ...]:
    found = [
        f"{relative_name(part.source, path)}: {note}"
        for part in loaded
        for path, entry in zip(part.files, part.entries, strict=True)
        for note in entry.notes
    ]
    for file in files:
        found += [f"{file.file}: {doubt}" for doubt in (file.extent.doubts(file.read) if file.extent else [])]
    return tuple(dict.fromkeys(found))


def refuse_empty_sources(loaded: list[Loaded], files: tuple[FileReport, ...], refused: pl.DataFrame) -> None:
    """Raise IngestError for a source of which no row is used, unless others had all of its rows before."""
    first = 0
    for part in loaded:
        reports = files[first : first + len(part.files)]
        first += len(part.files)
        if part.source.derived or any(file.accepted > 0 for file in reports):
            continue
        names = [file.file for file in reports]
        theirs = refused.filter(pl.col("source") == part.source.name, pl.col("file").is_in(names))
        theirs = theirs.filter(~pl.col("reason").is_in(["duplicate", "repeated_order"]))
        if theirs.is_empty():
            continue
        counts = theirs.group_by("reason", "field").len().sort("len", "reason", descending=[True, False])
        told = ", ".join(
            f"{n:,} {reason} ({name or 'row'})" for reason, name, n in counts.head(3).iter_rows()
        )
        row = theirs.row(0, named=True)
        raise IngestError(
            f"{part.source.label}: none of its {sum(file.read for file in reports):,} rows can be used: "
            f"{told}; the first is row {row['row']} of {row['file']}; the tables stay as they were"
        )
