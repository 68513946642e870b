"""The places of a workspace that hold rows of a customer, and how each is freed of them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import polars as pl

from serving.pseudonym import PseudonymKey
from training.checkpoints import folder_of, search_folder
from training.data.loader import COLUMNS_FILE, map_columns
from training.data.quarantine import write_quarantine
from training.data.tables import SCHEMAS, read_snapshot, rewrite_tables, scan_table
from training.privacy.artefacts import erase_people, people_rows
from training.privacy.people import Person
from training.workspace import Workspace

_WORDS = re.compile(r"[^\s,;|\"'{}\[\]<>]+")


def erase_tables(workspace: Workspace, people: Collection[Person]) -> dict[str, int]:
    """Remove the rows of customers from every table in one snapshot; returns rows removed by table."""
    theirs = whose(people)
    messages = scan_table(workspace.tables, "messages").filter(pl.col("customer_id").is_in(theirs))
    gone_messages = messages.select("message_id").collect()["message_id"].to_list()
    keep = {}
    for name in read_snapshot(workspace.tables)["tables"]:
        columns = SCHEMAS[name]
        if name == "labels":
            keep[name] = ~pl.col("message_id").is_in(gone_messages)
        elif "customer_id" in columns:
            keep[name] = ~pl.col("customer_id").is_in(theirs).fill_null(False)
    # An account that a merge or a split brought here keeps closed rows under ids of other people.
    hashes = [pseudonym for person in people for _, pseudonym in person.pseudonyms]
    keep["identities"] = keep["identities"] & ~pl.col("source_id").is_in(hashes)
    return rewrite_tables(workspace.tables, keep)


def erase_quarantine(
    workspace: Workspace, people: Collection[Person], key: PseudonymKey, raw_ids: Collection[str]
) -> int:
    """Remove refused rows whose raw text names one of the accounts; returns how many.

    A word of the raw text counts when it is an id that was given, or when its keyed hash under the row's
    source is a pseudonym of the person. Rows without any known id of theirs cannot be told to be theirs.
    """
    path = workspace.quarantine / "refused.parquet"
    if not path.is_file():
        return 0
    refused = pl.read_parquet(path)
    named = is_theirs(refused, people, key, raw_ids)
    if named.any():
        write_quarantine(workspace.quarantine, refused.filter(~named))
    return int(named.sum())


def is_theirs(
    refused: pl.DataFrame, people: Collection[Person], key: PseudonymKey, raw_ids: Collection[str]
) -> pl.Series:
    """Which refused rows name one of the people, Boolean."""
    theirs, given = {pair for person in people for pair in person.pseudonyms}, set(raw_ids)
    found = [
        any(word in given or (source, key.pseudonym(source, word)) in theirs for word in words(raw or ""))
        for source, raw in refused.select("source", "raw").iter_rows()
    ]
    return pl.Series(found, dtype=pl.Boolean)


def words(raw: str) -> set[str]:
    """The words of a raw line or JSON object that may be ids."""
    return set(_WORDS.findall(raw)) | {part for word in _WORDS.findall(raw) for part in word.split(":")}


def erase_files(workspace: Workspace, people: Collection[Person]) -> dict[str, int]:
    """Remove rows from every Parquet file with a customer_id in checkpoints, models and reports.

    The recommenders' checkpoints go whole: they are one row of factors a customer, or what all customers did,
    and of no use once the tables changed. The intake, a cache of the raw files, goes whole too, and what a
    search was at work on. Returns rows removed by file, every row of a folder that went, caches apart.
    """
    theirs, removed = whose(people), {}
    shutil.rmtree(workspace.intake, ignore_errors=True)
    shutil.rmtree(search_folder(workspace), ignore_errors=True)
    factors = folder_of(workspace, "recommend")
    if (factors / "customers.parquet").is_file():
        removed["checkpoints/recommend"] = pl.read_parquet(factors / "customers.parquet").height
        shutil.rmtree(factors)
    for folder in sorted(folder_of(workspace, "embedding").glob("*/")):  # all that customers did, in columns
        removed[folder.relative_to(workspace.root).as_posix()] = _num_events(folder)
        shutil.rmtree(folder)
    for path in _customer_files(workspace):
        rows = pl.read_parquet(path)
        left = rows.filter(~pl.col("customer_id").is_in(theirs).fill_null(False))
        if left.height < rows.height:
            _replace(path, left)
            removed[path.relative_to(workspace.root).as_posix()] = rows.height - left.height
    return removed


def learned_rows(workspace: Workspace, people: Collection[Person]) -> dict[str, list[dict[str, Any]]]:
    """What checkpoints and models hold on these people: their rows by file, and their served features."""
    found = {}
    for path in _customer_files(workspace):
        rows = pl.read_parquet(path).filter(pl.col("customer_id").is_in(whose(people)))
        if rows.height:
            found[path.relative_to(workspace.root).as_posix()] = rows.to_dicts()
    for folder in sorted(path.parent for path in workspace.models.glob("*/contract.json")):
        if served := people_rows(folder, whose(people)):
            found[f"models/{folder.name}"] = served
    return found


def erase_models(workspace: Workspace, people: Collection[Person]) -> dict[str, int]:
    """Remove customers from the exported models; returns rows removed by model."""
    hashes = [pseudonym for person in people for _, pseudonym in person.pseudonyms]
    folders = [path.parent for path in sorted(workspace.models.glob("*/contract.json"))]
    removed = {f"models/{folder.name}": erase_people(folder, whose(people), hashes) for folder in folders}
    return {name: rows for name, rows in removed.items() if rows}


def traces(folders: Iterable[Path], people: Collection[Person]) -> list[Path]:
    """Return files below the folders that still hold an id or pseudonym of the people, tombstones apart."""
    wanted = [*whose(people), *(pseudonym for person in people for _, pseudonym in person.pseudonyms)]
    found = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
        if path.suffix == ".parquet":
            texts = pl.read_parquet(path).select(pl.col(pl.String))
            hit = any(column.is_in(wanted).any() for column in texts.iter_columns())
        else:
            content = path.read_bytes()
            hit = any(one.encode() in content for one in wanted)
        if hit:
            found.append(path)
    return found


def whose(people: Collection[Person]) -> list[str]:
    """All customer ids of these people."""
    return [customer_id for person in people for customer_id in person.customer_ids]


def _num_events(folder: Path) -> int:
    """Events in the columns that a training of embeddings made."""
    return sum(
        len(map_columns(columns.parent).get("item", ())) for columns in folder.glob("*/" + COLUMNS_FILE)
    )


def _customer_files(workspace: Workspace) -> list[Path]:
    folders = (workspace.checkpoints, workspace.models, workspace.reports)
    files = [path for folder in folders for path in sorted(folder.rglob("*.parquet"))]
    return [path for path in files if "customer_id" in pl.read_parquet_schema(path)]


def _replace(path: Path, rows: pl.DataFrame) -> None:
    staged = path.with_name(f".{path.name}.new")
    rows.write_parquet(staged, compression="zstd")
    with staged.open("rb") as stream:
        os.fsync(stream.fileno())
    staged.replace(path)
