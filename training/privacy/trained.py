"""Removes customers from trained states: their rows, or all weights if they consist of customers' rows."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from functools import partial
from pathlib import Path

import polars as pl

from shopsight.training.artifacts.trained_state import erase, folder_of, rewrite
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.column_files import COLUMNS_FILE, map_columns
from shopsight.training.pipeline.families import FAMILIES

_WEIGHTS = re.compile(r"/weights-[^/]+/")
_WHOLE = tuple(family.name for family in FAMILIES if family.erasure == "weights")
_BY_ROW = tuple(family.name for family in FAMILIES if family.erasure == "rows")


def trained_rows(workspace: Workspace, customer_ids: Collection[str]) -> dict[str, int]:
    """Return the number of rows that `erase_trained` would remove, by place; empty places are left out."""
    counts = {f"checkpoints/{family}": _num_rows(folder_of(workspace, family)) for family in _WHOLE}
    for path in _files_by_row(workspace):
        counts[place_of(workspace, path)] = num_rows_of(path, customer_ids)
    return {place: rows for place, rows in counts.items() if rows}


def erase_trained(workspace: Workspace, customer_ids: Collection[str]) -> None:
    """Remove customers from the trained states of all families, including those of earlier versions.

    The recommenders' weights are removed completely, as they are one row of factors per customer or the
    events of all customers, and useless once the tables changed. Their settings stay.
    """
    for family in _WHOLE:
        erase(workspace, family)
    for family in _BY_ROW:
        rewrite(workspace, family, partial(_leave_out, customer_ids))
    for path in _files_by_row(workspace):
        if num_rows_of(path, customer_ids):
            leave_out(path, customer_ids)


def place_of(workspace: Workspace, path: Path) -> str:
    """Return the name of a file for people, without that of the weights' folder."""
    return _WEIGHTS.sub("/", path.relative_to(workspace.root).as_posix())


def customer_files(folder: Path) -> list[Path]:
    """Return the Parquet files below a folder that have rows of customers."""
    return [p for p in sorted(folder.rglob("*.parquet")) if "customer_id" in pl.read_parquet_schema(p)]


def num_rows_of(path: Path, customer_ids: Collection[str]) -> int:
    """Return how many rows of a Parquet file are of these customers."""
    theirs = pl.col("customer_id").is_in(customer_ids)
    return pl.scan_parquet(path).filter(theirs).select(pl.len()).collect().item()  # type: ignore[no-any-return]


def leave_out(path: Path, customer_ids: Collection[str]) -> None:
    """Replace a Parquet file by one without these customers."""
    staged = path.with_name(f".{path.name}.new")
    theirs = pl.col("customer_id").is_in(customer_ids).fill_null(False)
    pl.read_parquet(path).filter(~theirs).write_parquet(staged, compression="zstd")
    with staged.open("rb") as stream:
        os.fsync(stream.fileno())
    staged.replace(path)


def _leave_out(customer_ids: Collection[str], folder: Path) -> None:
    for path in customer_files(folder):
        leave_out(path, customer_ids)


def _num_rows(folder: Path) -> int:
    """Return the customers with factors, and the number of events in the columns of an embedding training."""
    customers = sum(pl.read_parquet(path).height for path in folder.rglob("customers.parquet"))
    events = (len(map_columns(path.parent).get("item", ())) for path in folder.rglob(COLUMNS_FILE))
    return customers + sum(events)


def _files_by_row(workspace: Workspace) -> list[Path]:
    whole = [folder_of(workspace, family) for family in _WHOLE]
    files = customer_files(workspace.checkpoints)
    return [path for path in files if not any(path.is_relative_to(folder) for folder in whole)]
