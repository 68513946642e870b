"""The results of analyses: Parquet tables in the workspace, and figures for people."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.durable import flush_folder, private
from shopsight.training.artifacts.snapshots import snapshot_sha256
from shopsight.training.artifacts.workspace import Workspace

_NOTE = "shopsight"  # the key of what an analysis says of itself, in the metadata of its tables
_PEOPLE = "customer_id"


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    name: the verb's word. settings: what was asked, JSON-ready. notes: sentences on what was counted and left
    out. tables: by name, the main one first; one with a customer_id is written but not shown.
    """

    name: str
    settings: dict[str, Any]
    notes: tuple[str, ...]
    tables: dict[str, pl.DataFrame]

    def figures(self, workspace: Workspace, num_rows: int) -> dict[str, Any]:
        """Return the analysis as JSON-ready data: at most `num_rows` rows of each table, and its file.

        A column with its bounds is one value {value, low, high}.
        """
        shown = {
            table: _records(frame.head(num_rows))
            for table, frame in self.tables.items()
            if _PEOPLE not in frame.columns
        }
        files = {
            table: {"rows": frame.height, "file": str(_path(workspace, self.name, table))}
            for table, frame in self.tables.items()
        }
        return {**self.settings, **shown, "tables": files, "notes": list(self.notes)}


def save(workspace: Workspace, analysis: Analysis) -> None:
    """Write every table of an analysis to a file of its own; each is replaced in one step."""
    workspace.behaviour.mkdir(parents=True, exist_ok=True)
    made_of = snapshot_sha256(workspace.tables)
    note = json.dumps({"settings": analysis.settings, "notes": analysis.notes, "tables": made_of})
    for table, frame in analysis.tables.items():
        path = _path(workspace, analysis.name, table)
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        with private(staged) as stream:
            frame.write_parquet(stream, compression="zstd", metadata={_NOTE: note})
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(path)
    flush_folder(workspace.behaviour)


def saved(workspace: Workspace, name: str, table: str) -> Analysis | None:
    """Return a saved analysis with one of its tables; None if it was never made.

    A note says so if the workspace's tables changed since.
    """
    path = _path(workspace, name, table)
    if not path.is_file():
        return None
    note = json.loads(pl.read_parquet_metadata(path)[_NOTE])
    notes = list(note["notes"])
    if note["tables"] != snapshot_sha256(workspace.tables):
        notes.append(f"the tables changed since; 'shopsight behaviour {name}' makes this analysis anew")
    return Analysis(name, note["settings"], tuple(notes), {table: pl.read_parquet(path)})


def _path(workspace: Workspace, name: str, table: str) -> Path:
    return workspace.behaviour / f"{name}_{table}.parquet"


def _records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    bounded = [c for c in frame.columns if f"{c}_low" in frame.columns]
    bounds = {f"{c}_{end}" for c in bounded for end in ("low", "high")}
    records = []
    for row in frame.to_dicts():
        record = {c: value for c, value in row.items() if c not in bounds}
        for c in bounded:
            record[c] = (
                None
                if row[c] is None
                else {"value": row[c], "low": row[f"{c}_low"], "high": row[f"{c}_high"]}
            )
        records.append(record)
    return records
