"""How each feature is measured: Polars expressions over one customer's events before a given time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from training.profiles.spec import DAYPARTS, OTHER

# What a customer did; exposures are what the shop did.
OWN_EVENTS = ("view", "cart", "purchase", "return", "rating", "review", "search", "message")

_KEY = "customer_id"


def customer_events(events: pl.LazyFrame, as_of: datetime) -> pl.LazyFrame:
    """Keep what known customers did before `as_of`; everything measured goes through here."""
    return events.filter(
        pl.col(_KEY).is_not_null(), pl.col("timestamp") < as_of, pl.col("event").is_in(OWN_EVENTS)
    )


def top_level() -> pl.Expr:
    """The first part of category_path ("Home > Kitchen", "Home/Kitchen" and "Home|Kitchen" give "Home")."""
    return pl.col("category_path").str.extract(r"^\s*([^>/|]+?)\s*(?:[>/|]|$)")


def described_events(
    events: pl.LazyFrame, items: pl.LazyFrame, *, as_of: datetime, currency: str | None
) -> pl.LazyFrame:
    """Events before `as_of` with amount, category, and the item's price percentile in its category.

    The percentile ranks the mean prices that events before `as_of` show: the price in the items table is
    today's and would leak, so it stands in only for items without any priced event.
    """
    price = pl.col("price").cast(pl.Float64)
    in_currency = pl.col("currency").is_null() | (pl.col("currency") == pl.lit(currency, dtype=pl.String))
    known = customer_events(events, as_of).with_columns(
        price=pl.when(in_currency).then(price), quantity=pl.col("quantity").fill_null(1).abs()
    )
    seen_price = known.group_by("item_id").agg(seen_price=pl.col("price").mean())
    facts = (
        items.select("item_id", "category_path", list_price=pl.col("price").cast(pl.Float64))
        .join(seen_price, on="item_id", how="full", coalesce=True)
        .with_columns(level=pl.coalesce("seen_price", "list_price"), category=top_level())
    )
    rank = pl.col("level").rank("average").over("category_path") - 0.5
    percentile = rank / pl.col("level").count().over("category_path")
    facts = facts.select("item_id", "category", price_percentile=percentile)
    return known.join(facts, on="item_id", how="left").with_columns(
        amount=pl.col("price") * pl.col("quantity")
    )


def activity(
    events: pl.LazyFrame, *, as_of: datetime, half_life_days: float, channels: Sequence[str]
) -> pl.LazyFrame:
    """Counts, tenure and the shares of channels and times of day, over all events; times are UTC."""
    age = _days_before(as_of, "timestamp")
    part = pl.col("timestamp").dt.hour() // (24 // len(DAYPARTS))
    viewed = pl.col("event") == "view"
    return events.group_by(_KEY).agg(
        age.max().alias("tenure_days"),
        age.min().alias("inactive_days"),
        pl.len().alias("num_events"),
        viewed.sum().alias("num_views"),
        (pl.col("event") == "cart").sum().alias("num_carts"),
        pl.when(viewed).then(_decay(age, half_life_days)).sum().alias("recent_views"),
        pl.col("price_percentile").filter(viewed).mean().alias("viewed_price_percentile"),
        pl.col("rating").mean().alias("rating_mean"),
        (pl.col("timestamp").dt.weekday() >= 6).mean().alias("weekend_share"),
        *[(part == i).mean().alias(f"hour_share.{name}") for i, (name, _) in enumerate(DAYPARTS)],
        *[
            (pl.col("channel") == name).fill_null(False).mean().alias(f"channel_share.{name}")
            for name in channels
        ],
        (~pl.col("channel").is_in(channels)).fill_null(True).mean().alias(f"channel_share.{OTHER}"),
    )


def purchases(events: pl.LazyFrame, *, as_of: datetime, half_life_days: float) -> pl.LazyFrame:
    """Recency, frequency and money of purchases; an order without an id is what was bought in one session."""
    bought = events.filter(pl.col("event") == "purchase")
    day = pl.col("timestamp").dt.date().cast(pl.String)
    age = _days_before(as_of, "timestamp")
    measured = bought.group_by(_KEY).agg(
        age.min().alias("recency_days"),
        pl.coalesce("order_id", "session_id", day).n_unique().alias("frequency"),
        pl.col("amount").sum().alias("monetary_total"),
        pl.len().alias("num_purchases"),
        _decay(age, half_life_days).sum().alias("recent_purchases"),
        (pl.col("discount").cast(pl.Float64) > 0).fill_null(False).mean().alias("discount_share"),
        pl.col("price_percentile").mean(),
    )
    return measured.with_columns(
        monetary_mean=pl.col("monetary_total") / pl.col("frequency"),
        basket_size=pl.col("num_purchases") / pl.col("frequency"),
    )


def returns(events: pl.LazyFrame) -> pl.LazyFrame:
    """Count the lines that were sent back."""
    sent_back = events.filter(pl.col("event") == "return")
    return sent_back.group_by(_KEY).agg(num_returns=pl.len())


_IN_A_VISIT = ("view", "cart", "search", "purchase")


def sessions(events: pl.LazyFrame) -> pl.LazyFrame:
    """Number and mean length of sessions; events without a session id tell nothing about sessions.

    Ratings and returns carry the id of the visit that they look back on, days later: they are no part of it.
    """
    lasted = (pl.col("timestamp").max() - pl.col("timestamp").min()).dt.total_seconds() / 60
    by_session = (
        events.filter(pl.col("session_id").is_not_null(), pl.col("event").is_in(_IN_A_VISIT))
        .group_by(_KEY, "session_id")
        .agg(events=pl.len(), minutes=lasted)
    )
    return by_session.group_by(_KEY).agg(
        num_sessions=pl.len(),
        session_events=pl.col("events").mean(),
        session_minutes=pl.col("minutes").mean(),
    )


def category_shares(
    events: pl.LazyFrame, *, event: str, weight: pl.Expr, prefix: str, categories: Sequence[str]
) -> pl.LazyFrame:
    """Each category's share of a weight summed over one kind of event; the others are `<prefix>.(other)`."""
    chosen = events.filter(pl.col("event") == event).select(_KEY, "category", weight=weight)
    total = pl.col("weight").sum()
    parts = [
        pl.col("weight").filter(pl.col("category") == name).sum().alias(f"{prefix}.{name}")
        for name in categories
    ]
    inside = pl.col("category").is_in(categories).fill_null(False)
    parts.append(pl.col("weight").filter(~inside).sum().alias(f"{prefix}.{OTHER}"))
    summed = chosen.group_by(_KEY).agg(total.alias("_total"), *parts)
    share = pl.exclude(_KEY, "_total") / pl.col("_total")
    return summed.filter(pl.col("_total") > 0).select(_KEY, share)


def messages_written(messages: pl.LazyFrame, as_of: datetime) -> pl.LazyFrame:
    """Count the messages of known customers before `as_of`."""
    written = messages.filter(pl.col(_KEY).is_not_null(), pl.col("timestamp") < as_of)
    return written.group_by(_KEY).agg(num_messages=pl.len())


def _days_before(as_of: datetime, column: str) -> pl.Expr:
    return (pl.lit(as_of) - pl.col(column)).dt.total_seconds() / 86_400


def _decay(age_days: pl.Expr, half_life_days: float) -> pl.Expr:
    return (-age_days * (0.6931471805599453 / half_life_days)).exp()
