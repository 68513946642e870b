"""Finds the customer of a source's raw id, with all their customer ids and accounts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from shopsight.serving.forgotten import Forgotten
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.identity.given_ids import forms_of
from shopsight.training.data.identity.resolve import renew
from shopsight.training.data.quarantine import read_quarantine
from shopsight.training.data.sources.faults import nearest
from shopsight.training.data.tables import scan_table

_ACCOUNT = ("source", "source_id", "customer_id", "rule", "score", "valid_from")


class UnknownSourceError(LookupError):
    """No account, refused row or tombstone of the workspace is of this source."""


@dataclass(frozen=True)
class Person:
    """customer_ids: the present one, if any, and those that were merged into it; pseudonyms: (source,
    keyed hash) of every account that is theirs now.
    """

    customer_ids: tuple[str, ...]
    pseudonyms: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Found:
    """people: the distinct customers of the ids. unknown: the given ids without a customer."""

    people: tuple[Person, ...]
    unknown: tuple[str, ...]


def find_people(workspace: Workspace, key: PseudonymKey, source: str, source_ids: Sequence[str]) -> Found:
    """Find the customers of raw ids in a source; ids are also tried in the forms of `forms_of`.

    A customer whose erasure was begun is found by the tombstone, with all ids recorded there. A person with
    refused rows only is found by the id alone. Changes nothing. Raises UnknownSourceError.
    """
    identities = _identities(workspace, key)
    refused = read_quarantine(workspace.quarantine)
    stones = Forgotten.read(workspace.root).renewed(key).tombstones
    buried = {pair: stone for stone in stones for pair in stone.pseudonyms}
    _check_source(source, {*identities["source"], *refused["source"], *(name for name, _ in buried)})
    present = identities.filter(pl.col("valid_to").is_null(), pl.col("source") == source)["source_id"]
    refused_ids = set(refused.filter(pl.col("source") == source)["source_id"].drop_nulls())
    accounts, people, unknown = set(present), [], []
    for source_id in source_ids:
        pairs = {form: (source, key.pseudonym(source, form)) for form in forms_of(source_id)}
        known = next(
            (f for f, p in pairs.items() if p in buried or p[1] in accounts or f in refused_ids), None
        )
        if known is None:
            unknown.append(source_id)
        elif stone := buried.get(pairs[known]):
            people.append(Person(stone.customer_ids, stone.pseudonyms))
        else:
            people.append(_person(identities, pairs[known]))
    return Found(tuple(dict.fromkeys(people)), tuple(unknown))


def find_person(workspace: Workspace, key: PseudonymKey, source: str, source_id: str) -> Person:
    """Find the customer with exactly this raw id in this source.

    An unknown id gives a person with this one pseudonym and no customer_id. An account that a split took away
    from the customer belongs to another person and is not included.
    """
    return _person(_identities(workspace, key), (source, key.pseudonym(source, source_id)))


def accounts_of(workspace: Workspace, key: PseudonymKey, people: Collection[Person]) -> pl.DataFrame:
    """Return the accounts of people: source, source_id (keyed hash), customer_id, rule, score, valid_from.

    rule and score are the evidence that joined the account to the customer (training/data/identity/linkage).
    """
    identities = _identities(workspace, key).filter(pl.col("valid_to").is_null())
    theirs = [pair for person in people for pair in person.pseudonyms]
    schema = {name: identities.schema[name] for name in ("source", "source_id")}
    wanted = pl.DataFrame(theirs, schema=schema, orient="row")
    rows = identities.select(_ACCOUNT).join(wanted, on=["source", "source_id"], how="semi")
    return rows.sort("customer_id", "source", "source_id")


def _person(identities: pl.DataFrame, asked: tuple[str, str]) -> Person:
    present = identities.filter(pl.col("valid_to").is_null())
    theirs = present.filter((pl.col("source") == asked[0]) & (pl.col("source_id") == asked[1]))
    if theirs.is_empty():
        return Person((), (asked,))
    current = theirs["customer_id"][0]
    merged = [current]
    for customer_id in merged:  # the list grows in the loop, to follow chains of merges
        into = identities.filter(pl.col("merged_into") == customer_id)["customer_id"].unique().sort()
        merged += [earlier for earlier in into if earlier not in merged]
    accounts = present.filter(pl.col("customer_id") == current).select("source", "source_id").sort(pl.all())
    return Person(tuple(merged), tuple(accounts.iter_rows()))


def _identities(workspace: Workspace, key: PseudonymKey) -> pl.DataFrame:
    """Return the identities table with pseudonyms renewed to `key`."""
    return renew(scan_table(workspace.tables, "identities").collect(), key)


def _check_source(source: str, known: set[str]) -> None:
    if source not in known:
        raise UnknownSourceError(
            f"no source '{source}' in this workspace{nearest(source, known)}; nothing was touched: give the "
            "name that the sources file gives to the id space"
        )
