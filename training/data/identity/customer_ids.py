"""Allocates stable customer ids, and records merges and splits with time and reason."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.tables import SCHEMAS

_UTC = SCHEMAS["identities"]["valid_from"]


def name_clusters(
    ids: pl.DataFrame, previous: pl.DataFrame, as_of: datetime, retired: Collection[str]
) -> pl.DataFrame:
    """Give each cluster the oldest customer_id that it holds, or the next free one."""
    active = previous.filter(pl.col("valid_to").is_null()).select(
        "source", pl.col("source_id").alias("pseudonym"), pl.col("customer_id").alias("old_id"), "valid_from"
    )
    account = pl.col("source") + ":" + pl.col("pseudonym")
    ids = ids.join(active, on=["source", "pseudonym"], how="left").with_columns(account.alias("account"))
    held = ids.filter(pl.col("old_id").is_not_null()).group_by("cluster", "old_id").agg(
        pl.len(), pl.col("valid_from").min(), pl.col("account").min()
    )  # fmt: skip
    # After a split the larger part keeps the id; of several ids that met, the oldest stays.
    order = held.sort("old_id", "len", "valid_from", "account", descending=[False, True, False, False])
    owned = order.group_by("old_id", maintain_order=True)
    kept = owned.first().group_by("cluster").agg(pl.col("old_id").min().alias("customer_id"))
    ids = ids.join(kept, on="cluster", how="left")
    fresh = (
        ids.filter(pl.col("customer_id").is_null())
        .group_by("cluster")
        .agg(pl.col("first_seen").fill_null(as_of).min(), pl.col("account").min())
        .sort("first_seen", "account")
    )
    gone = pl.Series("customer_id", list(retired), dtype=pl.String)
    taken = pl.concat([previous["customer_id"], previous["merged_into"].drop_nulls(), gone])
    start = int(taken.str.slice(1).cast(pl.Int64).max() or 0) + 1 if taken.len() else 1  # type: ignore[arg-type]
    numbers = pl.int_range(start, start + fresh.height, eager=True).cast(pl.String).str.zfill(10)
    new_ids = fresh.select("cluster", (pl.lit("c") + numbers).alias("new_id"))
    ids = ids.join(new_ids, on="cluster", how="left")
    return ids.with_columns(pl.coalesce("customer_id", "new_id").alias("customer_id")).drop("new_id")


def log_identities(
    named: pl.DataFrame, previous: pl.DataFrame, key: PseudonymKey, as_of: datetime
) -> tuple[pl.DataFrame, int, int]:
    """The identities table: present rows, rows that a merge or split closed, and what was closed before."""
    moved = pl.col("old_id").is_not_null() & (pl.col("old_id") != pl.col("customer_id"))
    since = (
        pl.when(moved).then(pl.lit(as_of, dtype=_UTC))
        .otherwise(pl.coalesce("valid_from", "first_seen", pl.lit(as_of, dtype=_UTC)))
    )  # fmt: skip
    present = named.select(
        "source",
        pl.col("pseudonym").alias("source_id"),
        pl.lit(key.key_id).alias("key_id"),
        "customer_id",
        "rule",
        "score",
        since.alias("valid_from"),
        pl.lit(None, dtype=_UTC).alias("valid_to"),
        pl.lit(None, dtype=pl.String).alias("merged_into"),
    )
    changes = named.filter(moved).select(
        "source", pl.col("pseudonym").alias("source_id"), pl.col("customer_id").alias("new_id")
    )
    here = present.select("source", "source_id")
    old = previous.filter(pl.col("valid_to").is_null())
    lives_on = pl.col("customer_id").is_in(named["customer_id"].unique().implode())
    closed = old.join(changes, on=["source", "source_id"], how="inner").with_columns(
        pl.lit(as_of, dtype=_UTC).alias("valid_to"),
        pl.when(~lives_on).then("new_id").alias("merged_into"),
    )
    absent = old.join(here, on=["source", "source_id"], how="anti")
    past = previous.filter(pl.col("valid_to").is_not_null())
    schema = list(SCHEMAS["identities"])
    parts = [frame.select(schema) for frame in (present, closed, absent, past)]
    identities = pl.concat(parts).sort("source", "source_id", "valid_from", "customer_id")
    merged = closed.filter(pl.col("merged_into").is_not_null())["customer_id"].n_unique()
    split = closed.filter(pl.col("merged_into").is_null())["customer_id"].n_unique()
    return identities, merged, split


def changes(identities: pl.DataFrame) -> pl.DataFrame:
    """Every merge and split so far: at, change, source, source_id, from_id, to_id, rule, score.

    One row for each account that changed its customer; rule and score say why: the strongest evidence that
    holds the account in the customer where it came ("single": none, it stands alone).
    """
    closed = identities.filter(pl.col("valid_to").is_not_null())
    opened = identities.select("source", "source_id", "valid_from", "customer_id", "rule", "score")
    return (
        closed.join(opened, left_on=["source", "source_id", "valid_to"],
                    right_on=["source", "source_id", "valid_from"], suffix="_new")
        .select(
            pl.col("valid_to").alias("at"),
            pl.when(pl.col("merged_into").is_null()).then(pl.lit("split")).otherwise(pl.lit("merge"))
            .alias("change"),
            "source",
            "source_id",
            pl.col("customer_id").alias("from_id"),
            pl.col("customer_id_new").alias("to_id"),
            pl.col("rule_new").alias("rule"),
            pl.col("score_new").alias("score"),
        )
        .sort("at", "source", "source_id")
    )  # fmt: skip
