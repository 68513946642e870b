"""Counts and erases the rows of customers in every place of a workspace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.folders import remove_leftovers
from shopsight.training.artifacts.model_folders import changing_models
from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.artifacts.trained_state import folder_of, search_folder
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.forgetting import ids_in
from shopsight.training.data.identity.contacts import CONTACTS_FILE, read_contacts, write_contacts
from shopsight.training.data.identity.review import erase_pairs
from shopsight.training.data.intent_examples import read_taught, write_taught
from shopsight.training.data.quarantine import read_quarantine, write_quarantine
from shopsight.training.data.tables import SCHEMAS, rewrite_tables, scan_table
from shopsight.training.privacy.artefacts import count_people, drop_quotes, erase_people, people_rows
from shopsight.training.privacy.people import Person
from shopsight.training.privacy.trained import (
    customer_files,
    erase_trained,
    leave_out,
    num_rows_of,
    place_of,
    trained_rows,
)

_TELLING_CHARS = 25  # a shorter text may occur elsewhere by chance
TABLES, QUARANTINE, TAUGHT = "tables/", "quarantine", "taught"


def held_rows(workspace: Workspace, people: Collection[Person], key: PseudonymKey) -> dict[str, int]:
    """Return the number of rows that `erase_rows` would remove, by place; empty places are left out."""
    counts = {
        f"{TABLES}{name}": _rows_of(workspace, name).filter(gone).select(pl.len()).collect().item()
        for name, gone in _gone_from_tables(workspace, people).items()
    }
    counts[TAUGHT] = int(taught_by(workspace, people).sum())
    counts[QUARANTINE] = int(is_theirs(read_quarantine(workspace.quarantine), people, key).sum())
    counts |= _learned_counts(workspace, people)
    for folder in _models(workspace):
        counts[f"models/{folder.name}"] = count_in(folder, people)
    return {place: rows for place, rows in counts.items() if rows}


def erase_rows(workspace: Workspace, people: Collection[Person], key: PseudonymKey) -> dict[str, int]:
    """Remove the rows of customers from every place; returns rows removed by place.

    The tables change in one snapshot. The quarantine loses the rows that `is_theirs` finds, and the examples
    of `learn-intents` those that they wrote. Removed completely and not counted: the recommenders'
    checkpoints (rows of factors of all customers, useless once the tables changed), the intake (a cache of
    the raw files) except the contacts of other accounts, running searches, and review rules about these
    people.
    """
    gone = _gone_from_tables(workspace, people)
    erased = _erase_taught(workspace, people)
    removed = rewrite_tables(workspace.tables, {name: ~expression for name, expression in gone.items()})
    erased |= {f"{TABLES}{name}": rows for name, rows in removed.items()}
    refused = read_quarantine(workspace.quarantine)
    named = is_theirs(refused, people, key)
    if named.any():
        write_quarantine(workspace.quarantine, refused.filter(~named))
        erased[QUARANTINE] = int(named.sum())
    theirs = {pair for person in people for pair in person.pseudonyms}
    erase_pairs(workspace.root, theirs, key)
    _erase_intake(workspace, people, key)
    shutil.rmtree(search_folder(workspace), ignore_errors=True)
    erased |= _erase_learned(workspace, people)
    drop_quotes(folder_of(workspace, "language"))
    with changing_models(workspace, "forget"):
        remove_leftovers(workspace.models)
        for folder in _models(workspace):
            drop_quotes(folder)
            erased[f"models/{folder.name}"] = erase_people(folder, whose(people), _hashes(people))
    return {place: rows for place, rows in erased.items() if rows}


def is_theirs(refused: pl.DataFrame, people: Collection[Person], key: PseudonymKey) -> pl.Series:
    """Return which refused rows belong to one of the people, Boolean.

    A row is matched by its id or, if the id could not be read, by any word of its raw text that is one of
    their ids. Rows without any of their ids cannot be attributed to them.
    """
    theirs = {pair for person in people for pair in person.pseudonyms}
    found = [
        any((source, key.pseudonym(source, word)) in theirs for word in ids_in(raw, source_id))
        for source, raw, source_id in refused.select("source", "raw", "source_id").iter_rows()
    ]
    return pl.Series(found, dtype=pl.Boolean)


def contacts_of(
    workspace: Workspace, people: Collection[Person], key: PseudonymKey
) -> tuple[pl.DataFrame, pl.Series] | None:
    """Return the contacts of all accounts, and which rows belong to these people; None if none are stored."""
    contacts = read_contacts(workspace.intake)
    if contacts is None:
        return None
    theirs = pl.repeat(False, contacts.height, dtype=pl.Boolean, eager=True)
    for source in {source for person in people for source, _ in person.pseudonyms}:
        wanted = {hashed for person in people for name, hashed in person.pseudonyms if name == source}
        ids = contacts.filter(pl.col("source") == source)["source_id"].unique()
        mine = [i for i, p in zip(ids, key.pseudonyms(source, ids), strict=True) if p in wanted]
        theirs |= (contacts["source"] == source) & contacts["source_id"].is_in(mine)
    return contacts, theirs


def learned_rows(workspace: Workspace, people: Collection[Person]) -> dict[str, list[dict[str, Any]]]:
    """Return the data on these people in checkpoints and models: their rows by file, and served features."""
    found = {}
    for path in (*customer_files(workspace.checkpoints), *_other_files(workspace)):
        rows = pl.read_parquet(path).filter(_is_of(people))
        if rows.height:
            found[place_of(workspace, path)] = rows.to_dicts()
    for folder in _models(workspace):
        if served := people_rows(folder, whose(people)):
            found[f"models/{folder.name}"] = served
    return found


def own_texts(workspace: Workspace, people: Collection[Person]) -> frozenset[str]:
    """Return the messages that identify these people: long ones that no other person wrote."""
    messages = _rows_of(workspace, "messages").filter(pl.col("text").str.len_chars() >= _TELLING_CHARS)
    theirs, others = (
        messages.filter(gone).select("text").collect()["text"] for gone in (_is_of(people), ~_is_of(people))
    )
    answers = scan_table(workspace.tables, "answers").select("question", "answer").collect()
    return frozenset(theirs) - set(others) - set(answers["question"]) - set(answers["answer"])


def traces(folders: Iterable[Path], people: Collection[Person], texts: Collection[str] = ()) -> list[Path]:
    """Return files below the folders that hold an id or pseudonym of the people, or one of the texts."""
    wanted = [*whose(people), *_hashes(people)]
    found = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
        if path.suffix == ".parquet":
            columns = pl.read_parquet(path).select(pl.col(pl.String)).get_columns()
            hit = any(column.is_in([*wanted, *texts]).any() for column in columns)
        else:
            content = path.read_bytes()
            spelled = (
                form
                for one in texts
                for form in (one, *(json.dumps(one, ensure_ascii=a)[1:-1] for a in (True, False)))
            )
            hit = any(one.encode() in content for one in (*wanted, *spelled))
        if hit:
            found.append(path)
    return found


def count_in(folder: Path, people: Collection[Person]) -> int:
    """Return how many rows a served model has of these people."""
    return count_people(folder, whose(people), _hashes(people))


def whose(people: Collection[Person]) -> list[str]:
    """Return all customer ids of these people."""
    return [customer_id for person in people for customer_id in person.customer_ids]


def _hashes(people: Collection[Person]) -> list[str]:
    return [pseudonym for person in people for _, pseudonym in person.pseudonyms]


def _is_of(people: Collection[Person]) -> pl.Expr:
    return pl.col("customer_id").is_in(whose(people)).fill_null(False)


def _gone_from_tables(workspace: Workspace, people: Collection[Person]) -> dict[str, pl.Expr]:
    """Return, for each table with rows of customers, the condition for rows of these people."""
    messages = _rows_of(workspace, "messages").filter(_is_of(people)).select("message_id").collect()
    gone = {}
    for name in read_snapshot(workspace.tables)["tables"]:
        if name == "labels":
            gone[name] = pl.col("message_id").is_in(messages["message_id"].to_list())
        elif "customer_id" in SCHEMAS[name]:
            gone[name] = _is_of(people)
    # An account that a merge or a split brought here keeps closed rows under ids of other people.
    gone["identities"] |= pl.col("source_id").is_in(_hashes(people))
    return gone


def taught_by(workspace: Workspace, people: Collection[Person]) -> pl.Series:
    """Return which examples of intents are messages of these people, Boolean."""
    own = _rows_of(workspace, "messages").filter(_is_of(people)).select("text").collect()["text"]
    return read_taught(workspace.taught)["text"].is_in(own.to_list())


def _erase_taught(workspace: Workspace, people: Collection[Person]) -> dict[str, int]:
    theirs = taught_by(workspace, people)
    if not theirs.any():
        return {}
    write_taught(workspace.taught, read_taught(workspace.taught).filter(~theirs))
    return {TAUGHT: int(theirs.sum())}


def _rows_of(workspace: Workspace, table: str) -> pl.LazyFrame:
    """A table with the rows of those whose tombstones lie already, which are to be erased."""
    return scan_table(workspace.tables, table, forgotten=True)


def _learned_counts(workspace: Workspace, people: Collection[Person]) -> dict[str, int]:
    """Rows of these people in trained states, and in Parquet files of models and reports, by place."""
    theirs = whose(people)
    if not theirs:  # models are not trained on refused rows
        return {}
    counts = {place_of(workspace, path): num_rows_of(path, theirs) for path in _other_files(workspace)}
    return {place: rows for place, rows in (counts | trained_rows(workspace, theirs)).items() if rows}


def _erase_learned(workspace: Workspace, people: Collection[Person]) -> dict[str, int]:
    theirs, counts = whose(people), _learned_counts(workspace, people)
    if theirs:
        erase_trained(workspace, theirs)
        for path in _other_files(workspace):
            if num_rows_of(path, theirs):
                leave_out(path, theirs)
    return counts


def _erase_intake(workspace: Workspace, people: Collection[Person], key: PseudonymKey) -> None:
    if not workspace.intake.is_dir():
        return
    for path in workspace.intake.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != CONTACTS_FILE:
            path.unlink()
    found = contacts_of(workspace, people, key)
    if found is not None and found[1].any():
        write_contacts(workspace.intake, found[0].filter(~found[1]))


def _models(workspace: Workspace) -> list[Path]:
    return [path.parent for path in sorted(workspace.models.glob("*/contract.json"))]


def _other_files(workspace: Workspace) -> list[Path]:
    return [*customer_files(workspace.models), *customer_files(workspace.reports)]
