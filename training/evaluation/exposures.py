"""Logged recommendations of a shop for off-policy estimates: the exposures table with what followed each."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from shopsight.training.evaluation.off_policy import BadLog


def rewarded(
    exposures: pl.LazyFrame, events: pl.LazyFrame, *, event: str = "purchase", window_days: float = 7.0
) -> pl.DataFrame:
    """Return the exposures with a reward: 1 if the customer had the event with the item soon after, else 0.

    exposures and events: the tables of a workspace. The result has the columns of `exposures` and `reward`
    (float64), one row per exposure in the order given; the reward looks at [timestamp, timestamp +
    window_days). The columns `reward`, `propensity` and, as `group`, `customer_id` go to off_policy.py.
    Raises BadLog for a table without rows, and if any row lacks its propensity, customer or time: whole
    experiments can be left out, single rows cannot.
    """
    shown = exposures.with_row_index("exposure").collect()
    if not shown.height:
        raise BadLog("the exposures table is empty; ingest a source of the kind 'exposures'")
    for column in ("propensity", "customer_id", "timestamp"):
        missing = shown.filter(pl.col(column).is_null())
        if missing.height:
            where = ", ".join(
                missing["experiment"].unique().sort().cast(pl.String).fill_null("none").to_list()
            )
            raise BadLog(
                f"exposures: {missing.height:,} of {shown.height:,} rows have no {column}, first request "
                f"{missing['request_id'][0]} (experiments: {where}); "
                "log it, or filter to experiments that have it"
            )
    done = events.filter(pl.col("event") == event).select("customer_id", "item_id", done="timestamp")
    age = pl.col("done") - pl.col("timestamp")
    followed = (
        shown.lazy()
        .join(done, on=["customer_id", "item_id"])
        .filter(age >= timedelta(0), age < timedelta(days=window_days))
        .select(pl.col("exposure").unique())
        .collect()["exposure"]
    )
    return shown.with_columns(reward=pl.col("exposure").is_in(followed.to_list()).cast(pl.Float64)).drop(
        "exposure"
    )
