"""Raw files to the tables: sources read and cleaned, customers joined, refused rows kept with reasons."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from shopsight.kernels import backend
from shopsight.serving.forgotten import Forgotten
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import SNAPSHOT_FILE, read_snapshot, snapshot_sha256, writing
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.conventions import Convention
from shopsight.training.data.cleaning.flags import counts_of, find_flags, write_quality
from shopsight.training.data.cleaning.goods import StatedGoods, fee_ids, marked
from shopsight.training.data.consent_table import consents_table
from shopsight.training.data.customers import ACTIVE, active_times, customers_table
from shopsight.training.data.errors import IngestError
from shopsight.training.data.events import directory, events_table, exposures_table
from shopsight.training.data.forgetting import Gone
from shopsight.training.data.identity.also_ids import ALSO_ID, stated_links
from shopsight.training.data.identity.config import IdentityConfig, load_identity_config
from shopsight.training.data.identity.contacts import write_contacts
from shopsight.training.data.identity.linkage_page import linkage_row, write_linkage_report
from shopsight.training.data.identity.resolve import Resolution, resolve
from shopsight.training.data.identity.review import JOINS_FILE
from shopsight.training.data.identity.rules import read_rules, write_private
from shopsight.training.data.intake import Intake
from shopsight.training.data.items import items_table, refuse_unknown_items
from shopsight.training.data.loading import REFUSED, Loaded, load_all, mode, refuse_duplicates
from shopsight.training.data.messages import answers_table, labels_table, messages_table, prepare_messages
from shopsight.training.data.money import Currencies
from shopsight.training.data.quarantine import REASONS, named, relative_name, write_quarantine
from shopsight.training.data.quarantine import SCHEMA as QUARANTINE
from shopsight.training.data.reading.extent import Extent
from shopsight.training.data.reading.readers import files_of
from shopsight.training.data.sources.load import consent_defaults, load_currencies, load_goods, load_sources
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import SCHEMAS, SnapshotWriter, read_table

__all__ = ["FileReport", "IngestError", "IngestReport", "ingest"]


_RELEASE = "the rules of this release"


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


def ingest(
    sources_file: Path,
    workspace: Workspace,
    key: PseudonymKey,
    *,
    progress: Callable[[str], None] | None = None,
) -> IngestReport:
    """Read the raw files that a sources file names into the workspace's tables, in one snapshot.

    The same files give the same snapshot, in any order of rows or of adding them; files that were read
    before are not read again, and when nothing changed at all nothing is done. Refused rows go to the
    workspace's quarantine with file, row and reason. A customer known from an earlier run keeps their
    customer_id. One file among several that cannot be read is left out, and the report names it. Another
    ingest of the workspace is waited for. Raises IngestError, with what, where and the remedy, before
    anything is written.
    """
    show = progress or (lambda _: None)
    _check_writable(workspace.root)
    with writing(workspace.tables, "ingest", show):
        return _ingest(sources_file, workspace, key, show)


def _ingest(
    sources_file: Path, workspace: Workspace, key: PseudonymKey, show: Callable[[str], None]
) -> IngestReport:
    clock = _Clock()
    sources = load_sources(sources_file)
    forgotten = Forgotten.read(workspace.root)
    intake = Intake(workspace.intake, Gone(forgotten, key) if forgotten.tombstones else None)
    config, defaults = load_identity_config(sources_file), consent_defaults(sources_file)
    currencies, stated = load_currencies(sources_file), load_goods(sources_file)
    rules = read_rules(workspace.root, key)
    inputs = _inputs(sources, intake, config, defaults, currencies, stated, key, rules.to_dicts())
    before = _inputs_before(workspace)
    if before == inputs and (report := _unchanged(workspace)) is not None:
        show(f"nothing changed in {len(report.files)} files since the last run")
        return replace(report, seconds=clock.total(), rows_per_second=0.0, stages={}, unchanged=True)
    found = load_all(sources, intake, _remembered(workspace), show)
    loaded, notes = found.parts, (*_made_anew(before, inputs), *intake.read_again, *found.notes)
    for note in (*notes, *found.unread):
        show(note)
    refuse_duplicates(loaded)
    items = items_table([part for part in loaded if part.source.kind == "items"])
    items, said_of_items = marked(items, _items_of_events(loaded, intake.engine), stated)
    # Order lines that tell titles list what was bought, not what there is: they refuse nothing.
    listed = any(part.source.kind == "items" and not part.source.derived for part in loaded)
    known_items = items["item_id"] if listed else None
    if known_items is not None:
        refuse_unknown_items(loaded, items)
    prepare_messages(loaded, key)
    clock.lap("read")
    records, previous = _account_records(loaded), _previous_identities(workspace)
    links, doubts = stated_links(loaded)
    people = resolve(records, _seen_ids(loaded), previous, key, config, forgotten.customer_ids, rules, links)
    show(f"joined {people.customers.height:,} ids into {people.num_customers:,} customers")
    if people.num_merged or people.num_split:
        changed = f"{people.num_merged:,} known customers were merged, {people.num_split:,} split"
        show(f"{changed}; {rules.height:,} rules of a review hold")
    clock.lap("identity")
    writer = SnapshotWriter(workspace.tables)
    refused, quality = _write(writer, loaded, items, known_items, people, key, intake.engine, defaults)
    clock.lap("tables")
    quarantine, files = _account(loaded, refused)
    _refuse_empty_sources(loaded, files, quarantine)
    counts = writer.rows()
    reasons = dict(quarantine.group_by("reason").len().sort("reason").iter_rows())
    if num_forgotten := sum(entry.num_forgotten for part in loaded for entry in part.entries):
        reasons["forgotten"] = num_forgotten  # their rows are in no quarantine
    # A derived source reads rows that its file's owner has counted.
    owned = [file for file in files if not file.derived]
    read, seconds = sum(file.read for file in owned), clock.total()
    report = IngestReport(
        files=files,
        refused=reasons,
        tables=counts,
        customers=_customer_counts(people),
        read=read,
        accepted=sum(file.accepted for file in owned),
        seconds=seconds,
        rows_per_second=read / max(seconds, 1e-9),
        backend=backend.resolve().name,
        snapshot_sha256=writer.sha256(),
        flagged=quality["flagged"],
        clocks=quality["clocks"],
        notes=(*notes, *said_of_items, *doubts, *_notes(loaded, files)),
        unread=tuple(found.unread),
    )
    for note in report.notes:
        show(note)
    write_quarantine(workspace.quarantine, quarantine)
    write_contacts(workspace.intake, records)
    writer.commit(
        {
            "files": [asdict(f) for f in files],
            "refused": reasons,
            "backend": report.backend,
            "inputs": inputs,
            "report": report.as_dict(),
            "decided": found.known,
            "currencies": currencies.as_dict(),
            "linkage": linkage_row(people.linkage),
        }
    )
    write_private(workspace.root / JOINS_FILE, people.joins)
    write_linkage_report(workspace.reports, people.linkage)
    write_quality(
        workspace.reports,
        {
            "refused": reasons,
            "flagged": report.flagged,
            "clocks": report.clocks,
            "files": [asdict(f) for f in files],
            "tables": counts,
            "snapshot_sha256": report.snapshot_sha256,
        },
    )
    intake.keep_only({entry.folder.name for part in loaded for entry in part.entries})
    clock.lap("write")
    show(
        f"wrote {sum(counts.values()):,} rows, {quarantine.height:,} to quarantine, in {clock.total():.1f} s"
    )
    return replace(report, stages=clock.laps)


def _remembered(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """How dates and numbers of each path are written, as the values of earlier runs decided it."""
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return {}
    known: dict[str, dict[str, Any]] = read_snapshot(workspace.tables)["note"].get("decided", {})
    return known


def _refuse_empty_sources(loaded: list[Loaded], files: tuple[FileReport, ...], refused: pl.DataFrame) -> None:
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


def _inputs(
    sources: list[Source],
    intake: Intake,
    config: IdentityConfig,
    defaults: dict[str, bool],
    currencies: Currencies,
    stated: StatedGoods,
    key: PseudonymKey,
    rules: list[dict[str, Any]],
) -> dict[str, str]:
    """Hashes of all that the tables follow from, by what people call it."""
    usual = Convention()
    files = [[relative_name(s, path), intake.key(s, path, usual)] for s in sources for path in files_of(s)]
    told = {
        "the files or how they are read": files,
        "[identity]": asdict(config),
        "[consent_default]": defaults,
        "[currency]": currencies.as_dict(),
        "[goods]": asdict(stated),
        "the key of pseudonyms": key.key_id,
        "the rules of a review": rules,
    }
    hashes = {name: hashlib.sha256(json.dumps(value).encode()).hexdigest() for name, value in told.items()}
    # Vocabularies and presets lie beside the code and are as much a rule as it is.
    code = (p for p in sorted(Path(__file__).parent.rglob("*")) if p.suffix in (".py", ".toml"))
    hashes[_RELEASE] = hashlib.sha256(b"\0".join(path.read_bytes() for path in code)).hexdigest()
    return hashes


def _inputs_before(workspace: Workspace) -> dict[str, str] | None:
    """What the present tables follow from; None without tables, empty for those of an earlier release."""
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return None
    inputs = read_snapshot(workspace.tables)["note"].get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _made_anew(before: dict[str, str] | None, inputs: dict[str, str]) -> list[str]:
    """Why tables that there are are made anew, in words."""
    if before is None:
        return []
    changed = [name for name in inputs if before.get(name) != inputs[name]] if before else [_RELEASE]
    return [f"the tables are made anew, changed: {', '.join(changed)}"] if changed else []


def _unchanged(workspace: Workspace) -> IngestReport | None:
    """The report of the last run, which read the same, if its tables are whole."""
    manifest = read_snapshot(workspace.tables)
    files = [workspace.tables / f["path"] for table in manifest["tables"].values() for f in table["files"]]
    report = manifest["note"].get("report")
    if not report or not all(map(Path.is_file, files)):
        return None
    if report["snapshot_sha256"] != snapshot_sha256(workspace.tables):
        return None
    read = tuple(_file_report(file) for file in report["files"])
    told = {name: tuple(report[name]) for name in ("notes", "unread")}
    return IngestReport(**{**report, "files": read, **told})


def _file_report(raw: dict[str, Any]) -> FileReport:
    return FileReport(**{**raw, "extent": Extent(**raw["extent"]) if raw["extent"] else None})


def _write(
    writer: SnapshotWriter,
    loaded: list[Loaded],
    items: pl.DataFrame,
    known_items: pl.Series | None,
    people: Resolution,
    key: PseudonymKey,
    engine: Any,
    defaults: dict[str, bool],
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Write every table; returns what was refused on the way (REFUSED), and what the rules found."""
    who, refused = directory(loaded, people.customers), [pl.DataFrame(schema=REFUSED)]
    active = [pl.DataFrame(schema=ACTIVE)]
    for bucket in events_table(loaded, who, known_items, key, engine):
        writer.add("events", bucket.table)
        refused += bucket.refused
        active.append(active_times(bucket.table))
    for bucket in exposures_table(loaded, who, known_items, key, engine):
        writer.add("exposures", bucket.table)
        refused += bucket.refused
    writer.add("customers", customers_table(people, pl.concat(active)))
    writer.add("identities", people.identities)
    writer.add("facts", people.facts)
    writer.add("items", items)
    messages = messages_table(loaded, who)
    writer.add("messages", messages)
    writer.add("labels", labels_table(loaded))
    writer.add("answers", answers_table(loaded, key))
    writer.add("consents", consents_table(loaded, who, defaults))
    flags, found_clocks = find_flags(writer.paths("events"), messages, fee_ids(items), engine)
    writer.add("flags", flags)
    return pl.concat(refused), {"flagged": counts_of(flags), "clocks": found_clocks}


def _account_records(loaded: list[Loaded]) -> pl.DataFrame:
    """Every record of a person; those taken out of order lines are folded to one an id, the usual value."""
    parts = [pl.DataFrame(schema={"source": pl.String, "source_id": pl.String})]
    for part in loaded:
        if part.source.kind != "customers":
            continue
        rows = part.rows.filter(pl.col("source_id").is_not_null())
        if part.source.derived:
            folded = rows.select(pl.col("source_id").unique())
            for name in (n for n in part.source.fields if n not in ("source_id", ALSO_ID)):
                folded = folded.join(mode(rows, "source_id", name), on="source_id", how="left")
            rows = folded
        else:
            rows = rows.drop("file", "row", "hi", "lo", "bucket", "channel")
        parts.append(rows.with_columns(pl.lit(part.source.name).alias("source")))
    return pl.concat(parts, how="diagonal")


def _seen_ids(loaded: list[Loaded]) -> pl.DataFrame:
    """Every id in any file, and when it was first seen."""
    schema = {"source": pl.String, "source_id": pl.String, "first_seen": SCHEMAS["events"]["timestamp"]}
    parts = [pl.DataFrame(schema=schema), *(part.ids().select(list(schema)) for part in loaded)]
    return pl.concat(parts).group_by("source", "source_id").agg(pl.col("first_seen").min())


def _items_of_events(loaded: list[Loaded], engine: Any) -> pl.Series:
    """Every item that an event names, once."""
    parts = [part.scan() for part in loaded if part.source.kind in ("events", "orders")]
    parts = [part.select("item_id") for part in parts if "item_id" in part.collect_schema().names()]
    ids = pl.concat([pl.LazyFrame(schema={"item_id": pl.String}), *parts]).unique().sort("item_id")
    return ids.collect(engine=engine)["item_id"]


def _previous_identities(workspace: Workspace) -> pl.DataFrame:
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return pl.DataFrame(schema=SCHEMAS["identities"])
    return read_table(workspace.tables, "identities")


def _account(loaded: list[Loaded], refused: pl.DataFrame) -> tuple[pl.DataFrame, tuple[FileReport, ...]]:
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


def _notes(loaded: list[Loaded], files: tuple[FileReport, ...]) -> tuple[str, ...]:
    found = [
        f"{relative_name(part.source, path)}: {note}"
        for part in loaded
        for path, entry in zip(part.files, part.entries, strict=True)
        for note in entry.notes
    ]
    for file in files:
        found += [f"{file.file}: {doubt}" for doubt in (file.extent.doubts(file.read) if file.extent else [])]
    return tuple(dict.fromkeys(found))


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
