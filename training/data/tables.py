"""The workspace's tables: their columns, and their rows in snapshots (training/artifacts/snapshots.py)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.contract import sha256_of
from shopsight.serving.durable import private
from shopsight.serving.forgotten import Forgotten
from shopsight.training.artifacts.snapshots import (
    FORMAT_VERSION,
    SNAPSHOT_FILE,
    Manifest,
    TablesError,
    collect,
    commit,
    content_sha256,
    opened,
    present,
    writing,
)

_UTC = pl.Datetime("us", "UTC")
MONEY = pl.Decimal(18, 4)
PRICE = pl.Decimal(20, 8)  # of one unit, so that the total of thousands of units keeps its cents
QUANTITY = pl.Decimal(18, 4)  # pieces, kilograms, litres

EVENT_TYPES = ("view", "cart", "purchase", "return", "rating", "review", "search", "message", "exposure")

# What a customer may allow or forbid: recommendations from what they did; features, segment, value and churn;
# learning from their messages; being contacted.
PURPOSES = ("personalisation", "profiling", "language", "marketing")

# One schema per table; ingest writes these columns in this order and nothing else.
SCHEMAS: dict[str, dict[str, Any]] = {
    "events": {
        "event_id": pl.String,
        "customer_id": pl.String,
        "item_id": pl.String,
        "event": pl.String,
        "channel": pl.String,
        "timestamp": _UTC,
        "session_id": pl.String,
        "order_id": pl.String,
        "line_id": pl.String,
        "quantity": QUANTITY,
        "price": PRICE,
        "currency": pl.String,
        "discount": MONEY,
        "rating": pl.Float32,
        "request_id": pl.String,
    },
    "customers": {
        "customer_id": pl.String,
        "first_seen": _UTC,
        "last_seen": _UTC,
        "num_sources": pl.Int64,
        "country": pl.String,
        "city": pl.String,
        "birth_year": pl.Int32,
    },
    "identities": {
        "source": pl.String,
        "source_id": pl.String,  # keyed hash, serving/pseudonym.py
        "key_id": pl.String,
        "customer_id": pl.String,
        "rule": pl.String,
        "score": pl.Float64,
        "valid_from": _UTC,
        "valid_to": _UTC,
        "merged_into": pl.String,
    },
    "facts": {
        "customer_id": pl.String,
        "field": pl.String,
        "value": pl.String,
        "rule": pl.String,  # of survivorship.py
        "source": pl.String,  # the account that it came from
        "source_id": pl.String,  # keyed hash
        "key_id": pl.String,
        "since": _UTC,
    },
    "items": {
        "item_id": pl.String,
        "title": pl.String,
        "category_path": pl.String,
        "brand": pl.String,
        "price": PRICE,
        "cost": MONEY,
        "attributes": pl.String,
        "image_path": pl.String,
        "available_from": _UTC,
        "available_to": _UTC,
        "goods": pl.Boolean,  # false: postage, a fee, a discount … (training/data/cleaning/goods.py)
    },
    "messages": {
        "message_id": pl.String,
        "customer_id": pl.String,
        "item_id": pl.String,
        "channel": pl.String,
        "timestamp": _UTC,
        "text": pl.String,
        "language": pl.String,
        "rating": pl.Float32,
    },
    "labels": {
        "message_id": pl.String,
        "task": pl.String,  # intent, sentiment
        "label": pl.String,
        "split": pl.String,  # train, validation, test, or null: not yet split
    },
    "answers": {
        "answer_id": pl.String,
        "question": pl.String,
        "answer": pl.String,
        "language": pl.String,
        "intent": pl.String,
    },
    "exposures": {
        "request_id": pl.String,
        "customer_id": pl.String,
        "item_id": pl.String,
        "rank": pl.Int32,
        "experiment": pl.String,
        "arm": pl.String,
        "propensity": pl.Float64,
        "timestamp": _UTC,
        "release": pl.String,
    },
    "flags": {
        "table": pl.String,  # events, messages
        "id": pl.String,  # event_id, message_id
        "customer_id": pl.String,
        "rule": pl.String,  # training/data/cleaning/flags.py
        "related_id": pl.String,  # the row that a duplicate repeats, a return takes back
        "value": pl.Float64,
    },
    "consents": {
        "customer_id": pl.String,
        "purpose": pl.String,
        "allowed": pl.Boolean,
        "timestamp": _UTC,
    },
}


def scan_table(tables: Path, name: str, *, forgotten: bool = False) -> pl.LazyFrame:
    """Scan one table of the present snapshot; a table without rows has its schema all the same.

    The parts stay readable until this process ends, whatever is committed meanwhile, unless rows in them are
    erased. Rows of forgotten customers are left out, unless `forgotten` asks for them: to erase them.
    """
    return _scan(tables, opened(tables), name, forgotten)


def read_table(tables: Path, name: str, *, forgotten: bool = False) -> pl.DataFrame:
    """Read one table of the present snapshot into memory, as `scan_table`; for a writer, inside `writing`."""
    return _scan(tables, present(tables)[0], name, forgotten).collect()


def _scan(tables: Path, manifest: Manifest, name: str, forgotten: bool) -> pl.LazyFrame:
    entry = manifest["tables"].get(name)
    if entry is None or not entry["files"]:
        return pl.LazyFrame(schema=SCHEMAS[name])
    parts = [tables / f["path"] for f in entry["files"]]
    if lacking := [c for c in SCHEMAS[name] if c not in pl.read_parquet_schema(parts[0])]:
        raise TablesError(
            f"{tables}: the table {name} has no column {', '.join(lacking)}: an earlier release wrote it; "
            "run 'shopsight ingest SOURCES.toml', which makes the tables anew"
        )
    rows = pl.scan_parquet(parts)
    gone = set() if forgotten else Forgotten.read(tables.parent).customer_ids
    if gone and "customer_id" in SCHEMAS[name]:  # a restored backup of the tables brings nobody back
        rows = rows.filter(~pl.col("customer_id").is_in(sorted(gone)).fill_null(False))
    return rows


class SnapshotWriter:
    """Writes the next snapshot: parts of tables one after the other, then `commit` in one step.

    Used inside `writing`, which holds the lock. Nobody sees a part before `commit`; without it the parts are
    removed by the next one.
    """

    def __init__(self, tables: Path) -> None:
        tables.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._tables = tables
        self._manifest: Manifest = {"format_version": FORMAT_VERSION, "tables": {}, "note": {}}
        if (tables / SNAPSHOT_FILE).is_file():
            self._manifest = present(tables)[0]
        self._named: set[str] = set()

    def add(self, name: str, frame: pl.DataFrame) -> None:
        """Add a part to a table; the first one replaces what the table had.

        The frame must have the columns of SCHEMAS in order; raises TablesError otherwise.
        """
        if dict(frame.schema) != dict(pl.Schema(SCHEMAS[name])):
            raise TablesError(f"table {name}: columns are {frame.schema}, expected {SCHEMAS[name]}")
        if name not in self._named:
            self._named.add(name)
            self._manifest["tables"][name] = {"rows": 0, "files": []}
        entry = self._manifest["tables"][name]
        entry["files"].append(_write_part(self._tables, name, frame))
        entry["rows"] += frame.height

    def rows(self) -> dict[str, int]:
        """Rows of every table as they would be committed now."""
        return {name: entry["rows"] for name, entry in self._manifest["tables"].items()}

    def sha256(self) -> str:
        """The hash of the snapshot's content as it would be committed now."""
        return content_sha256(self._manifest)

    def paths(self, name: str) -> list[Path]:
        """The files of a table as they would be committed now."""
        return [self._tables / file["path"] for file in self._manifest["tables"][name]["files"]]

    def commit(self, note: dict[str, Any] | None = None) -> None:
        """Make the tables that were added to the present ones; tables that were not named stay as they are.

        `note` is kept in the manifest (counts, sources, the backend that ran).
        """
        if note is not None:
            self._manifest["note"] = note
        commit(self._tables, self._manifest)
        collect(self._tables, even_if_read=False)


def write_tables(
    tables: Path,
    frames: dict[str, pl.DataFrame],
    *,
    note: dict[str, Any] | None = None,
    erase_old: bool = False,
) -> None:
    """Replace the named tables in one step, one part each; as SnapshotWriter otherwise.

    erase_old: what was in them must be nowhere afterwards: earlier snapshots do not wait for their readers.
    """
    with writing(tables, "write tables"):
        writer = SnapshotWriter(tables)
        for name, frame in frames.items():
            writer.add(name, frame)
        writer.commit(note)
        if erase_old:
            collect(tables, even_if_read=True)


def rewrite_tables(tables: Path, keep: dict[str, pl.Expr]) -> dict[str, int]:
    """Keep the rows of the named tables for which an expression holds; returns rows removed by table.

    Files without a row to remove stay as they are; all tables change in one snapshot. Every other snapshot is
    removed at once, also one that a process reads: what is erased is nowhere afterwards.
    """
    with writing(tables, "forget"):
        manifest, removed = present(tables)[0], {}
        for name, expression in keep.items():
            entry = manifest["tables"].get(name, {"files": []})
            files, count = [], 0
            for file in entry["files"]:
                rows = pl.read_parquet(tables / file["path"])
                left = rows.filter(expression)
                count += rows.height - left.height
                files.append(file if left.height == rows.height else _write_part(tables, name, left))
            if count:
                manifest["tables"][name] = entry | {"files": files, "rows": entry["rows"] - count}
                removed[name] = count
        if removed:
            commit(tables, manifest)
        collect(tables, even_if_read=True)
    return removed


def _write_part(tables: Path, name: str, frame: pl.DataFrame) -> dict[str, Any]:
    folder = tables / name
    folder.mkdir(exist_ok=True, mode=0o700)
    staged = folder / f".part.{os.getpid()}"
    with private(staged) as stream:
        frame.write_parquet(stream, compression="zstd", compression_level=1, statistics=True)
        stream.flush()
        os.fsync(stream.fileno())
    digest = sha256_of(staged)
    final = folder / f"part-{digest[:16]}.parquet"
    staged.replace(final)
    return {"path": str(final.relative_to(tables)), "sha256": digest, "rows": frame.height}
