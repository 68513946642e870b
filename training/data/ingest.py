"""Raw files to the tables: sources read and cleaned, customers joined, refused rows kept with reasons."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from kernels import backend
from serving.pseudonym import PseudonymKey
from training.data.customers import customers_table
from training.data.events import events_table, exposures_table
from training.data.identity import Resolution, resolve
from training.data.items import items_table, refuse_unknown_items
from training.data.loading import Loaded, load, mode
from training.data.messages import answers_table, labels_table, messages_table, prepare_messages
from training.data.quarantine import relative_name, with_raw_text, write_quarantine
from training.data.sources import IngestError, load_sources
from training.data.tables import SCHEMAS, SNAPSHOT_FILE, scan_table, snapshot_sha256, write_tables
from training.workspace import Workspace

__all__ = ["FileReport", "IngestError", "IngestReport", "ingest"]


@dataclass(frozen=True)
class FileReport:
    """Rows of one file as one source reads it: accepted + refused = read.

    `folded` counts the accepted rows that share a row of the tables with others: an item's titles in order
    lines, an account's records.
    """

    source: str
    kind: str
    file: str
    read: int
    accepted: int
    refused: int
    folded: int
    derived: bool = False


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did: rows by file, refusals by rule, rows by table, customers, time."""

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
    stages: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return asdict(self)

    def table(self) -> Table:
        """The report for a terminal."""
        title = (
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
        rules = ", ".join(f"{reason} {count:,}" for reason, count in self.refused.items())
        table.caption = f"refused: {rules or 'nothing'}"
        return table


def ingest(
    sources_file: Path,
    workspace: Workspace,
    key: PseudonymKey,
    *,
    progress: Callable[[str], None] | None = None,
) -> IngestReport:
    """Read the raw files that a sources file names into the workspace's tables, in one snapshot.

    The same files give the same snapshot, in any order of rows. Refused rows go to the workspace's
    quarantine with file, row and reason. A customer known from an earlier run keeps their customer_id.
    Raises IngestError, with what, where and the remedy, before anything is written.
    """
    show = progress or (lambda _: None)
    clock = _Clock()
    _check_writable(workspace.root)
    loaded = []
    for source in load_sources(sources_file):
        loaded.append(load(source))
        show(f"read {sum(loaded[-1].num_read):,} rows of {source.label}")
    items = items_table([part for part in loaded if part.source.kind == "items"])
    if any(part.source.kind == "items" for part in loaded):
        refuse_unknown_items(loaded, items)
    prepare_messages(loaded)
    clock.lap("read")
    people = resolve(_account_records(loaded), _seen_ids(loaded), _previous_identities(workspace), key)
    show(f"joined {people.customers.height:,} ids into {people.num_customers:,} customers")
    clock.lap("identity")
    frames = _tables(loaded, items, people)
    quarantine = pl.concat([with_raw_text(p.source, p.files, p.all_refused()) for p in loaded])
    files = _file_reports(loaded)
    _check_counts(files)
    clock.lap("tables")
    reasons = quarantine.group_by("reason").len().sort("reason")
    refused = {reason: int(count) for reason, count in reasons.iter_rows()}
    counts = {name: frame.height for name, frame in frames.items()}
    ran_on = backend.resolve("cpu").name
    write_quarantine(workspace.quarantine, quarantine)
    note = {"files": [asdict(f) for f in files], "refused": refused, "backend": ran_on}
    write_tables(workspace.tables, frames, note=note)
    clock.lap("write")
    # A derived source reads rows that its file's owner has counted.
    owned = [file for file in files if not file.derived]
    read, seconds = sum(file.read for file in owned), clock.total()
    show(f"wrote {sum(counts.values()):,} rows, {quarantine.height:,} to quarantine, in {seconds:.1f} s")
    return IngestReport(
        files=files,
        refused=refused,
        tables=counts,
        customers=_customer_counts(people),
        read=read,
        accepted=sum(file.accepted for file in owned),
        seconds=seconds,
        rows_per_second=read / max(seconds, 1e-9),
        backend=ran_on,
        snapshot_sha256=snapshot_sha256(workspace.tables),
        stages=clock.laps,
    )


def _tables(loaded: list[Loaded], items: pl.DataFrame, people: Resolution) -> dict[str, pl.DataFrame]:
    events = events_table(loaded, people.customers)
    return {
        "events": events,
        "customers": customers_table(people, events),
        "identities": people.identities,
        "items": items,
        "messages": messages_table(loaded, people.customers),
        "labels": labels_table(loaded),
        "answers": answers_table(loaded),
        "exposures": exposures_table(loaded, people.customers),
        "consents": pl.DataFrame(schema=SCHEMAS["consents"]),
    }


def _account_records(loaded: list[Loaded]) -> pl.DataFrame:
    """Every record of a person; those taken out of order lines are folded to one an id, the usual value."""
    parts = [pl.DataFrame(schema={"source": pl.String, "source_id": pl.String})]
    for part in loaded:
        if part.source.kind != "customers":
            continue
        rows = part.rows.filter(pl.col("source_id").is_not_null())
        if part.source.derived:
            folded = rows.select(pl.col("source_id").unique())
            for name in (n for n in part.source.columns if n != "source_id"):
                folded = folded.join(mode(rows, "source_id", name), on="source_id", how="left")
            rows = folded
        else:
            rows = rows.drop("file", "row", "digest", "channel")
        parts.append(rows.with_columns(pl.lit(part.source.name).alias("source")))
    return pl.concat(parts, how="diagonal")


def _seen_ids(loaded: list[Loaded]) -> pl.DataFrame:
    """Every id in any file, and when it was first seen."""
    schema = {"source": pl.String, "source_id": pl.String, "first_seen": SCHEMAS["events"]["timestamp"]}
    parts = [pl.DataFrame(schema=schema)]
    for part in loaded:
        if "source_id" not in part.rows.columns:
            continue
        rows = part.rows.filter(pl.col("source_id").is_not_null())
        when = (
            pl.col("timestamp").min()
            if "timestamp" in rows.columns
            else pl.lit(None, dtype=schema["first_seen"])
        )
        ids = rows.group_by("source_id").agg(when.alias("first_seen"))
        parts.append(ids.with_columns(pl.lit(part.source.name).alias("source")).select(list(schema)))
    return pl.concat(parts).group_by("source", "source_id").agg(pl.col("first_seen").min())


def _previous_identities(workspace: Workspace) -> pl.DataFrame:
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return pl.DataFrame(schema=SCHEMAS["identities"])
    return scan_table(workspace.tables, "identities").collect()


def _file_reports(loaded: list[Loaded]) -> tuple[FileReport, ...]:
    reports = []
    for part in loaded:
        refused = dict(part.all_refused().group_by("file").len().iter_rows())
        accepted = dict(part.rows.group_by("file").len().iter_rows())
        entity = {"items": "item_id", "customers": "source_id"}.get(part.source.kind)
        for number, path in enumerate(part.files):
            read = part.num_read[number]
            kept = read if part.source.derived else accepted.get(number, 0)
            distinct = kept
            if entity is not None:
                distinct = part.rows.filter(pl.col("file") == number)[entity].drop_nulls().n_unique()
            reports.append(
                FileReport(
                    source=part.source.name,
                    kind=part.source.kind,
                    file=relative_name(part.source, path),
                    read=read,
                    accepted=kept,
                    refused=refused.get(number, 0),
                    folded=kept - distinct,
                    derived=part.source.derived,
                )
            )
    return tuple(reports)


def _check_counts(files: tuple[FileReport, ...]) -> None:
    for file in files:
        if file.accepted + file.refused != file.read:
            raise AssertionError(f"{file.file}: {file.accepted} + {file.refused} rows are not {file.read}")


def _customer_counts(people: Resolution) -> dict[str, int]:
    return {
        "accounts": people.customers.height,
        "customers": people.num_customers,
        "candidate_pairs": int(people.linkage.left.size),
        "merged": people.num_merged,
        "split": people.num_split,
    }


def _check_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise IngestError(
            f"{root}: the workspace cannot be written ({error.strerror}); choose another or change its owner"
        ) from error


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now

    def total(self) -> float:
        return time.monotonic() - self._began
