"""Finds texts of other people that name a customer, by name, mail and phone, and masks them on request."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import writing
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.phrases import Finder, Phrase, phrases_of
from shopsight.training.data.intent_examples import read_taught, write_taught
from shopsight.training.data.quarantine import read_quarantine, write_quarantine
from shopsight.training.data.tables import read_table, scan_table, write_tables
from shopsight.training.privacy.people import Person
from shopsight.training.privacy.places import (
    QUARANTINE,
    TABLES,
    TAUGHT,
    contacts_of,
    is_theirs,
    taught_by,
    whose,
)

_MESSAGES = f"{TABLES}messages"


@dataclass(frozen=True)
class Mention:
    """A text of someone else that names the customer: where, which one, and by what (name, mail, phone)."""

    place: str
    row: str
    kinds: tuple[str, ...]


def names_of(
    workspace: Workspace, people: Collection[Person], key: PseudonymKey
) -> tuple[Phrase, ...] | None:
    """Return the names and contacts of these people; None if no ingest stored those of the accounts."""
    found = contacts_of(workspace, people, key)
    return None if found is None else phrases_of(*found)


def with_initials(
    workspace: Workspace, accounts: pl.DataFrame, people: Collection[Person], key: PseudonymKey
) -> pl.DataFrame:
    """Return accounts with the column initials, which reveals a false join; null without a known name."""
    found = contacts_of(workspace, people, key)
    if found is None:
        return accounts.with_columns(pl.lit(None, dtype=pl.String).alias("initials"))
    own = found[0].filter(found[1])
    name = pl.concat_str("given_name", "family_name", separator=" ", ignore_nulls=True)
    name = pl.when(name != "").then(name).otherwise("full_name").str.to_uppercase()
    letters = name.str.extract_all(r"\p{Han}|[\p{L}\p{N}]+").list.eval(pl.element().str.head(1) + ".")
    hashes = [key.pseudonym(source, raw) for source, raw in own.select("source", "source_id").iter_rows()]
    told = own.select(
        "source", pl.Series("source_id", hashes, dtype=pl.String), letters.list.join(" ").alias("initials")
    )
    told = told.drop_nulls("initials").unique(["source", "source_id"], keep="first", maintain_order=True)
    return accounts.join(told, on=["source", "source_id"], how="left", maintain_order="left")


def mentions(
    workspace: Workspace, people: Collection[Person], phrases: Collection[Phrase], key: PseudonymKey
) -> tuple[Mention, ...]:
    """Find the phrases in messages and refused rows of others, and in the examples of `learn-intents`."""
    finder = Finder(phrases)
    found = []
    for place, row, text in _texts(workspace, people, key):
        if hits := finder.find(text or ""):
            found.append(Mention(place, row, tuple(sorted({hit.kind for hit in hits}))))
    return tuple(found)


def mask_mentions(workspace: Workspace, phrases: Collection[Phrase]) -> None:
    """Replace the phrases by [name], [mail] and [phone] in every place that `mentions` searches."""
    finder = Finder(phrases)
    with writing(workspace.tables, "forget"):
        messages = read_table(workspace.tables, "messages", forgotten=True)
        if (masked := _masked(messages, "text", finder)) is not None:
            write_tables(workspace.tables, {"messages": masked}, erase_old=True)
    refused = read_quarantine(workspace.quarantine)
    if (masked := _masked(refused, "raw", finder)) is not None:
        write_quarantine(workspace.quarantine, masked)
    taught = read_taught(workspace.taught)
    if (masked := _masked(taught, "text", finder)) is not None:
        write_taught(workspace.taught, masked)


def _texts(
    workspace: Workspace, people: Collection[Person], key: PseudonymKey
) -> Iterator[tuple[str, str, str | None]]:
    theirs = pl.col("customer_id").is_in(whose(people)).fill_null(False)
    messages = scan_table(workspace.tables, "messages").filter(~theirs).select("message_id", "text").collect()
    for message_id, text in messages.iter_rows():
        yield _MESSAGES, message_id, text
    refused = read_quarantine(workspace.quarantine)
    others = refused.filter(~is_theirs(refused, people, key))
    for file, row, raw in others.select("file", "row", "raw").iter_rows():
        yield QUARANTINE, f"{file}, row {row}", raw
    own = taught_by(workspace, people)
    for number, (text, gone) in enumerate(
        zip(read_taught(workspace.taught)["text"], own, strict=True), start=1
    ):
        if not gone:
            yield TAUGHT, f"example {number}", text


def _masked(rows: pl.DataFrame, column: str, finder: Finder) -> pl.DataFrame | None:
    """Return the rows with masked texts; None if there is nothing to mask."""
    texts = [text and finder.masked(text) for text in rows[column]]
    changed = rows.with_columns(pl.Series(column, texts, dtype=pl.String))
    return None if changed.equals(rows) else changed
