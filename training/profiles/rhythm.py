"""Features of visits, orders, the time between them, hours and weekdays."""

from __future__ import annotations

import polars as pl

from shopsight.training.profiles.feature_list import DAYPARTS
from shopsight.training.profiles.measures import KEY, evenness, ratio

_IN_A_VISIT = ("view", "cart", "search", "purchase")
_DAY_SECONDS = 86_400


def orders(events: pl.LazyFrame) -> pl.LazyFrame:
    """Return number of orders and time between them; purchases without an order id are grouped by visit."""
    day = pl.col("timestamp").dt.to_string("%Y-%m-%d")
    placed = (
        events.filter(pl.col("event") == "purchase")
        .group_by(KEY, order=pl.coalesce("order_id", "session_id", day))
        .agg(at=pl.col("timestamp").min())
    )
    gap = pl.col("gap_days")
    return (
        _with_gaps(placed)
        .group_by(KEY)
        .agg(
            frequency=pl.len(),
            order_gap_days=gap.mean(),
            # The coefficient of variation: 0 for regular, 1 for random, above 1 for bursty orders.
            order_gap_variation=pl.when(gap.mean() > 0).then(gap.std() / gap.mean()),
        )
    )


def visits(events: pl.LazyFrame) -> pl.LazyFrame:
    """Return number, length, depth, conversion and gaps of visits; events without a session id are left out.

    Ratings and returns carry the session id of the earlier purchase, so they are not part of a visit.
    """
    viewed = pl.when(pl.col("event") == "view").then(pl.col("item_id"))
    lasted = (pl.col("timestamp").max() - pl.col("timestamp").min()).dt.total_seconds() / 60
    made = (
        events.filter(pl.col("session_id").is_not_null(), pl.col("event").is_in(_IN_A_VISIT))
        .group_by(KEY, "session_id")
        .agg(
            at=pl.col("timestamp").min(),
            events=pl.len(),
            minutes=lasted,
            items=viewed.n_unique() - (viewed.count() < pl.len()).cast(pl.UInt32),  # null counts as a value
            bought=(pl.col("event") == "purchase").max(),
        )
    )
    return (
        _with_gaps(made)
        .group_by(KEY)
        .agg(
            num_sessions=pl.len(),
            session_events=pl.col("events").mean(),
            session_minutes=pl.col("minutes").mean(),
            session_items=pl.col("items").mean(),
            session_conversion=pl.col("bought").mean(),
            session_gap_days=pl.col("gap_days").mean(),
        )
    )


def times(events: pl.LazyFrame, *, timezone: str) -> pl.LazyFrame:
    """Return shares of weekends and parts of the day, and evenness of weekdays and hours, in `timezone`."""
    when = pl.col("timestamp").dt.convert_time_zone(timezone).dt.replace_time_zone(None)
    came = events.group_by(KEY, date=when.dt.date(), hour=when.dt.hour()).agg(events=pl.len())
    return _weekdays(came).join(_hours(came), on=KEY, how="left")


def _hours(came: pl.LazyFrame) -> pl.LazyFrame:
    events = pl.col("events")
    part = pl.col("hour") // (24 // len(DAYPARTS))
    names = [f"hour_share.{name}" for name, *_ in DAYPARTS]
    by_hour = came.group_by(KEY, "hour").agg(events.sum(), days=pl.len())
    summed = by_hour.group_by(KEY).agg(
        events.sum().alias("_events"),
        evenness("days", 24).alias("hour_evenness"),
        *[pl.when(part == i).then(events).sum().alias(name) for i, name in enumerate(names)],
    )
    return summed.select(KEY, "hour_evenness", *[ratio(name, "_events").alias(name) for name in names])


def _weekdays(came: pl.LazyFrame) -> pl.LazyFrame:
    by_date = came.group_by(KEY, "date").agg(pl.col("events").sum())
    day = pl.col("date").dt.weekday()
    by_day = by_date.group_by(KEY, day=day).agg(pl.col("events").sum(), dates=pl.len())
    summed = by_day.group_by(KEY).agg(
        pl.col("events").sum().alias("_events"),
        pl.when(pl.col("day") >= 6).then(pl.col("events")).sum().alias("_weekend"),
        evenness("dates", 7).alias("weekday_evenness"),
    )
    return summed.select(KEY, "weekday_evenness", weekend_share=ratio("_weekend", "_events"))


def _with_gaps(times: pl.LazyFrame) -> pl.LazyFrame:
    """Add gap_days since the customer's previous row, null for the first; `at` is the time of a row."""
    gap = (pl.col("at") - pl.col("at").shift(1)).dt.total_seconds() / _DAY_SECONDS
    return times.sort(KEY, "at").with_columns(gap_days=pl.when(pl.col(KEY) == pl.col(KEY).shift(1)).then(gap))
