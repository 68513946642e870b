"""The customers table: one row per customer, with facts from accounts and times from events."""

from __future__ import annotations

import polars as pl

from shopsight.training.data.identity.resolve import Resolution
from shopsight.training.data.tables import SCHEMAS

ACTIVE = {
    "customer_id": pl.String,
    "first_seen": SCHEMAS["customers"]["first_seen"],
    "last_seen": SCHEMAS["customers"]["last_seen"],
}


def active_times(events: pl.DataFrame) -> pl.DataFrame:
    """Return the times of each customer's first and last event among some of the events: ACTIVE."""
    return (
        events.lazy()
        .filter(pl.col("customer_id").is_not_null())
        .group_by("customer_id")
        .agg(pl.col("timestamp").min().alias("first_seen"), pl.col("timestamp").max().alias("last_seen"))
        .collect()
    )


def customers_table(resolution: Resolution, active: pl.DataFrame) -> pl.DataFrame:
    """Build one row a customer; `active` has one or several rows of ACTIVE for each who did something.

    Country, city and birth year are those of the facts table, which says where each came from.
    """
    accounts = resolution.accounts.join(resolution.customers, on=["source", "source_id"], how="left")
    opened = accounts.group_by("customer_id").agg(pl.col("registered_at").min())
    country, city, birth_year = (
        resolution.facts.filter(pl.col("field") == name).select("customer_id", pl.col("value").alias(name))
        for name in ("country", "city", "birth_year")
    )
    active = active.group_by("customer_id").agg(pl.col("first_seen").min(), pl.col("last_seen").max())
    table = (
        resolution.customers.group_by("customer_id").agg(pl.len().cast(pl.Int64).alias("num_sources"))
        .join(opened, on="customer_id", how="left")
        .join(country, on="customer_id", how="left")
        .join(city, on="customer_id", how="left")
        .join(birth_year.cast({"birth_year": pl.Int32}), on="customer_id", how="left")
        .join(active, on="customer_id", how="left")
        .with_columns(pl.min_horizontal("first_seen", "registered_at").alias("first_seen"))
        .with_columns(pl.coalesce("last_seen", "first_seen").alias("last_seen"))
    )  # fmt: skip
    return table.select(list(SCHEMAS["customers"])).sort("customer_id")
