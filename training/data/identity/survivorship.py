"""Survivorship: chooses one value for each fact of a customer by a rule, with its source account."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import polars as pl

from shopsight.training.data.tables import SCHEMAS

Rule = Literal["most_recent", "first", "most_frequent", "most_trusted", "longest"]
RULES: tuple[str, ...] = get_args(Rule)
DEFAULT_RULES: dict[str, Rule] = {
    "country": "most_frequent",
    "state": "most_recent",
    "city": "most_recent",
    "postcode_area": "most_recent",
    "birth_year": "most_frequent",
}
_EARLIEST_BIRTH, _AREA_LETTERS = 1900, 2


@dataclass(frozen=True)
class Survivorship:
    """Which of several values survives, by fact, and which sources are trusted first.

    most_recent, first: of the account registered last or first; most_frequent: on most accounts, case aside;
    most_trusted: of the source that comes first in `trust`; longest: the one that says most. What a rule
    leaves open, the account registered last decides. Empty and impossible values never survive.
    """

    rules: dict[str, Rule] = field(default_factory=lambda: dict(DEFAULT_RULES))
    trust: tuple[str, ...] = ()


def surviving_facts(accounts: pl.DataFrame, config: Survivorship) -> pl.DataFrame:
    """Return the facts table: one row for each customer and fact that any account of theirs states.

    accounts: customer_id, source, source_id (raw, breaks ties whatever the key), pseudonym, key_id, country,
    state, city, postcode, birth_date, registered_at. Facts are those that name nobody: names, addresses and
    numbers of persons stay where they were linked.
    """
    ordered = accounts.sort(
        "customer_id", "registered_at", "source", "source_id",
        descending=[False, True, False, False], nulls_last=True,
    )  # fmt: skip
    parts = [pl.DataFrame(schema=SCHEMAS["facts"])]
    for name, rule in config.rules.items():
        stated = ordered.with_columns(_value(name).alias("value")).filter(pl.col("value").is_not_null())
        kept = _by_rule(stated, rule, config.trust).unique("customer_id", keep="first", maintain_order=True)
        kept = kept.with_columns(
            pl.lit(name).alias("field"),
            pl.lit(rule).alias("rule"),
            pl.col("pseudonym").alias("source_id"),
            pl.col("registered_at").alias("since"),
        )
        parts.append(kept.select(list(SCHEMAS["facts"])))
    return pl.concat(parts).sort("customer_id", "field")


def _value(name: str) -> pl.Expr:
    if name == "birth_year":
        year = pl.col("birth_date").dt.year()
        possible = (year >= _EARLIEST_BIRTH) & (
            pl.col("birth_date") <= pl.col("registered_at").max().dt.date()
        )
        return pl.when(possible.fill_null(year >= _EARLIEST_BIRTH)).then(year).cast(pl.String)
    if name == "postcode_area":
        # Enough for a region, too little for a street.
        text = (
            pl.col("postcode")
            .str.replace_all(r"[^\p{L}\p{N}]", "")
            .str.to_uppercase()
            .str.head(_AREA_LETTERS)
        )
    else:
        text = pl.col(name).str.strip_chars()
    return pl.when(text.str.len_chars() > 0).then(text)


def _by_rule(stated: pl.DataFrame, rule: Rule, trust: tuple[str, ...]) -> pl.DataFrame:
    """The rows of each customer with the surviving one first; the order that they come in breaks ties."""
    if rule == "most_recent":
        return stated
    if rule == "first":
        return stated.sort("registered_at", maintain_order=True, nulls_last=True)
    if rule == "longest":
        rank = -pl.col("value").str.len_chars().cast(pl.Int64)
    elif rule == "most_trusted":
        places = {source: place for place, source in enumerate(trust)}
        rank = pl.col("source").replace_strict(places, default=len(trust), return_dtype=pl.Int64)
    else:
        rank = -pl.len().over("customer_id", pl.col("value").str.to_lowercase()).cast(pl.Int64)
    return stated.with_columns(rank.alias("rank")).sort("rank", maintain_order=True)
