"""Who is meant: a source's raw id to the customer, all their ids and all their pseudonyms."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from serving.pseudonym import PseudonymKey
from training.data.tables import scan_table
from training.workspace import Workspace


@dataclass(frozen=True)
class Person:
    """customer_ids: the present one, if any, and those that were merged into it; pseudonyms: (source,
    keyed hash) of every account that is theirs now.
    """

    customer_ids: tuple[str, ...]
    pseudonyms: tuple[tuple[str, str], ...]


def find_person(workspace: Workspace, key: PseudonymKey, source: str, source_id: str) -> Person:
    """Find the customer who has this raw id in this source.

    An id that no table knows gives a person of this one pseudonym and no customer_id. An account that a
    split took away from the customer is another person's and is not among the answer.
    """
    asked = (source, key.pseudonym(source, source_id))
    identities = scan_table(workspace.tables, "identities").select(
        "source", "source_id", "customer_id", "valid_to", "merged_into"
    )
    rows = identities.collect()
    present = rows.filter(pl.col("valid_to").is_null())
    theirs = present.filter((pl.col("source") == asked[0]) & (pl.col("source_id") == asked[1]))
    if theirs.is_empty():
        return Person((), (asked,))
    current = theirs["customer_id"][0]
    merged = [current]
    for customer_id in merged:  # grows while it is read: what was merged into what was merged
        into = rows.filter(pl.col("merged_into") == customer_id)["customer_id"].unique().sort()
        merged += [earlier for earlier in into if earlier not in merged]
    accounts = present.filter(pl.col("customer_id") == current).select("source", "source_id").sort(pl.all())
    return Person(tuple(merged), tuple(accounts.iter_rows()))
