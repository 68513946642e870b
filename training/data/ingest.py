"""Ingest: reads and cleans sources, joins customers, and writes the tables and the quarantine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.kernels import backend
from shopsight.serving.forgotten import Forgotten
from shopsight.serving.progress import Progress, silent
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import writing
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.flags import write_quality
from shopsight.training.data.cleaning.goods import StatedGoods, marked
from shopsight.training.data.errors import IngestError
from shopsight.training.data.forgetting import Gone
from shopsight.training.data.identity.also_ids import stated_links
from shopsight.training.data.identity.config import IdentityConfig, load_identity_config
from shopsight.training.data.identity.contacts import write_contacts
from shopsight.training.data.identity.linkage_page import linkage_row, write_linkage_report
from shopsight.training.data.identity.resolve import Resolution, resolve
from shopsight.training.data.identity.review import JOINS_FILE
from shopsight.training.data.identity.rules import read_rules, write_private
from shopsight.training.data.ingest_inputs import (
    hashed_inputs,
    inputs_before,
    made_anew,
    remembered,
    unchanged,
)
from shopsight.training.data.ingest_report import (
    FileReport,
    IngestReport,
    account,
    notes,
    refuse_empty_sources,
)
from shopsight.training.data.ingest_tables import (
    account_records,
    items_of_events,
    previous_identities,
    seen_ids,
    write_tables,
)
from shopsight.training.data.intake import Intake
from shopsight.training.data.items import items_table, refuse_unknown_items
from shopsight.training.data.loading import Loaded, load_all, refuse_duplicates
from shopsight.training.data.messages import prepare_messages
from shopsight.training.data.money import Currencies
from shopsight.training.data.quarantine import write_quarantine
from shopsight.training.data.sources.load import consent_defaults, load_currencies, load_goods, load_sources
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import SnapshotWriter

__all__ = ["FileReport", "IngestError", "IngestReport", "ingest"]


def ingest(
    sources_file: Path,
    workspace: Workspace,
    key: PseudonymKey,
    *,
    progress: Progress = silent,
) -> IngestReport:
    """Read the raw files that a sources file names into the workspace's tables, in one snapshot.

    The same files give the same snapshot, in any order of rows or of adding them; files that were read
    before are not read again, and when nothing changed at all nothing is done. Refused rows go to the
    workspace's quarantine with file, row and reason. A customer known from an earlier run keeps their
    customer_id. One file among several that cannot be read is left out, and the report names it. Another
    ingest of the workspace is waited for. Raises IngestError, with what, where and the remedy, before
    anything is written.
    """
    _check_writable(workspace.root)
    with writing(workspace.tables, "ingest", progress):
        clock = _Clock()
        stated = _Stated.read(sources_file, workspace, key)
        if (report := stated.unchanged_report()) is not None:
            progress(f"nothing changed in {len(report.files)} files since the last run")
            return replace(report, seconds=clock.total(), rows_per_second=0.0, stages={}, unchanged=True)
        rows = _read(stated, progress)
        clock.lap("read")
        joined = _join(stated, rows, progress)
        clock.lap("identity")
        writer = SnapshotWriter(workspace.tables)
        late, found = write_tables(
            writer,
            rows.parts,
            rows.items,
            rows.known_items,
            joined.people,
            key,
            stated.intake.engine,
            stated.defaults,
        )
        clock.lap("tables")
        quarantine, files = account(rows.parts, late)
        refuse_empty_sources(rows.parts, files, quarantine)
        report = _reported(rows, joined, writer, quarantine, files, found, clock.total())
        for note in report.notes:
            progress(note)
        _keep(stated, rows, joined, writer, quarantine, report)
        clock.lap("write")
        written = sum(report.tables.values())
        progress(f"wrote {written:,} rows, {quarantine.height:,} to quarantine, in {clock.total():.1f} s")
        return replace(report, stages=clock.laps)


@dataclass(frozen=True)
class _Stated:
    """The inputs that are known before a row is read: sources file, review rules, state of earlier runs."""

    workspace: Workspace
    key: PseudonymKey
    sources: list[Source]
    intake: Intake
    identity: IdentityConfig
    defaults: dict[str, bool]
    currencies: Currencies
    goods: StatedGoods
    rules: pl.DataFrame
    forgotten: Forgotten
    inputs: dict[str, str]

    @staticmethod
    def read(sources_file: Path, workspace: Workspace, key: PseudonymKey) -> _Stated:
        """Read all of them; raises IngestError with the location and the remedy."""
        sources = load_sources(sources_file)
        forgotten = Forgotten.read(workspace.root)
        intake = Intake(workspace.intake, Gone(forgotten, key) if forgotten.tombstones else None)
        identity, defaults = load_identity_config(sources_file), consent_defaults(sources_file)
        currencies, goods = load_currencies(sources_file), load_goods(sources_file)
        rules = read_rules(workspace.root, key)
        inputs = hashed_inputs(sources, intake, identity, defaults, currencies, goods, key, rules.to_dicts())
        return _Stated(
            workspace, key, sources, intake, identity, defaults, currencies, goods, rules, forgotten, inputs
        )

    def unchanged_report(self) -> IngestReport | None:
        """Return the report of the last run if this run would give the same tables, else None."""
        same = inputs_before(self.workspace) == self.inputs
        return unchanged(self.workspace) if same else None


@dataclass(frozen=True)
class _Rows:
    """Clean rows by source, the items table, the known items, and notes."""

    parts: list[Loaded]
    items: pl.DataFrame
    known_items: pl.Series | None
    notes: tuple[str, ...]
    said_of_items: tuple[str, ...]
    unread: tuple[str, ...]
    decided: dict[str, dict[str, Any]]


def _read(stated: _Stated, show: Progress) -> _Rows:
    """Read and clean every source through the intake; duplicates and unknown items are refused."""
    found = load_all(stated.sources, stated.intake, remembered(stated.workspace), show)
    loaded = found.parts
    anew = made_anew(inputs_before(stated.workspace), stated.inputs)
    said = (*anew, *stated.intake.read_again, *found.notes)
    for note in (*said, *found.unread):
        show(note)
    refuse_duplicates(loaded)
    items = items_table([part for part in loaded if part.source.kind == "items"])
    items, said_of_items = marked(items, items_of_events(loaded, stated.intake.engine), stated.goods)
    # Order lines that tell titles list what was bought, not what there is: they refuse nothing.
    listed = any(part.source.kind == "items" and not part.source.derived for part in loaded)
    known_items = items["item_id"] if listed else None
    if known_items is not None:
        refuse_unknown_items(loaded, items)
    prepare_messages(loaded, stated.key)
    return _Rows(loaded, items, known_items, said, tuple(said_of_items), tuple(found.unread), found.known)


@dataclass(frozen=True)
class _Joined:
    """The resolved customers, the account records behind them, and notes on doubtful links."""

    people: Resolution
    records: pl.DataFrame
    doubts: tuple[str, ...]


def _join(stated: _Stated, rows: _Rows, show: Progress) -> _Joined:
    """Join accounts to customers."""
    records, previous = account_records(rows.parts), previous_identities(stated.workspace)
    links, doubts = stated_links(rows.parts)
    ids, gone = seen_ids(rows.parts), stated.forgotten.customer_ids
    people = resolve(records, ids, previous, stated.key, stated.identity, gone, stated.rules, links)
    show(f"joined {people.customers.height:,} ids into {people.num_customers:,} customers")
    if people.num_merged or people.num_split:
        changed = f"{people.num_merged:,} known customers were merged, {people.num_split:,} split"
        show(f"{changed}; {stated.rules.height:,} rules of a review hold")
    return _Joined(people, records, tuple(doubts))


def _reported(
    rows: _Rows,
    joined: _Joined,
    writer: SnapshotWriter,
    quarantine: pl.DataFrame,
    files: tuple[FileReport, ...],
    found: dict[str, Any],
    seconds: float,
) -> IngestReport:
    reasons = dict(quarantine.group_by("reason").len().sort("reason").iter_rows())
    if num_forgotten := sum(entry.num_forgotten for part in rows.parts for entry in part.entries):
        reasons["forgotten"] = num_forgotten  # their rows are in no quarantine
    # A derived source reads rows that its file's owner has counted.
    owned = [file for file in files if not file.derived]
    read = sum(file.read for file in owned)
    return IngestReport(
        files=files,
        refused=reasons,
        tables=writer.rows(),
        customers=_customer_counts(joined.people),
        read=read,
        accepted=sum(file.accepted for file in owned),
        seconds=seconds,
        rows_per_second=read / max(seconds, 1e-9),
        backend=backend.resolve().name,
        snapshot_sha256=writer.sha256(),
        flagged=found["flagged"],
        clocks=found["clocks"],
        notes=(*rows.notes, *rows.said_of_items, *joined.doubts, *notes(rows.parts, files)),
        unread=rows.unread,
    )


def _keep(
    stated: _Stated,
    rows: _Rows,
    joined: _Joined,
    writer: SnapshotWriter,
    quarantine: pl.DataFrame,
    report: IngestReport,
) -> None:
    """Commit the snapshot after the files that it needs and before the report on it."""
    workspace, files = stated.workspace, [asdict(file) for file in report.files]
    write_quarantine(workspace.quarantine, quarantine)
    write_contacts(workspace.intake, joined.records)
    writer.commit(
        {
            "files": files,
            "refused": report.refused,
            "backend": report.backend,
            "inputs": stated.inputs,
            "report": report.as_dict(),
            "decided": rows.decided,
            "currencies": stated.currencies.as_dict(),
            "linkage": linkage_row(joined.people.linkage),
        }
    )
    write_private(workspace.root / JOINS_FILE, joined.people.joins)
    write_linkage_report(workspace.reports, joined.people.linkage)
    told = {"refused": report.refused, "flagged": report.flagged, "clocks": report.clocks, "files": files}
    told |= {"tables": report.tables, "snapshot_sha256": report.snapshot_sha256}
    write_quality(workspace.reports, told)
    stated.intake.keep_only({entry.folder.name for part in rows.parts for entry in part.entries})


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
