"""The features of training/profiles as one writes them for one shop in Polars: the peer of bench_profiles.

No specification, no shared steps and nothing that another engine must run: frames by kind of event, filters
and differences where they are handy.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import polars as pl

from shopsight.training.profiles.features import Tables
from shopsight.training.profiles.spec import FeatureSpec

C = "customer_id"
PARTS = ("night", "early", "morning", "midday", "afternoon", "evening")


def measure_by_hand(tables: Tables, spec: FeatureSpec, as_of: datetime) -> pl.DataFrame:
    """Return the same table as features.compute, for shops whose money is in one currency."""
    events = tables.events.filter(pl.col(C).is_not_null(), pl.col("timestamp") < as_of).with_columns(
        pl.col("price").cast(pl.Float64),
        pl.col("discount").cast(pl.Float64).fill_null(0),
        pl.col("quantity").cast(pl.Float64).fill_null(1.0),
        age=(pl.lit(as_of) - pl.col("timestamp")).dt.total_seconds() / 86_400,
    )
    items = tables.items.select(
        "item_id", "category_path", category=pl.col("category_path").str.split("/").list.first()
    )
    level = events.group_by("item_id").agg(level=pl.col("price").mean()).join(items, on="item_id")
    path = "category_path"
    level = level.with_columns(
        rank=(pl.col("level").rank("average").over(path) - 0.5) / pl.len().over(path),
        median=pl.col("level").median().over(path),
    )
    events = events.join(level, on="item_id", how="left")
    views = events.filter(pl.col("event") == "view")
    bought = _bought(events.filter(pl.col("event") == "purchase"))
    parts = [
        _activity(events, spec), _views(views, spec), _purchases(bought, spec), _orders(bought),
        _visits(events), _times(events), _shares(bought, "amount", "spend", "category_evenness", spec),
        _shares(views.with_columns(one=pl.lit(1.0)), "one", "view", "viewed_category_evenness", spec),
    ]  # fmt: skip
    table = tables.customers.select(C)
    for part in parts:
        table = table.join(part, on=C, how="left")
    counts = [f.name for f in spec.features if f.unit == "count"]
    unused = ("rating_mean", "review_sentiment", "message_sentiment", "num_messages")
    table = table.with_columns(pl.lit(None).alias(name) for name in unused)
    table = table.with_columns(pl.col(*counts, "monetary_total", "carts", "returned").fill_null(0))
    table = table.with_columns(
        monetary_mean=_over("monetary_total", "frequency"),
        basket_size=_over("num_purchases", "frequency"),
        cart_rate=_over("carts", "num_views"),
        purchase_rate=_over("num_purchases", "num_views"),
        return_rate=_over("returned", "num_purchases"),
    )
    columns = [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in spec.names]
    return table.select(C, *columns).sort(C).collect(engine="streaming")


def _over(part: str, whole: str) -> pl.Expr:
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _recent(spec: FeatureSpec, prefix: str) -> Iterable[pl.Expr]:
    for days in spec.half_lives_days:
        yield (0.5 ** (pl.col("age") / days)).sum().alias(f"{prefix}.{days:g}d")


def _activity(events: pl.LazyFrame, spec: FeatureSpec) -> pl.LazyFrame:
    channel = pl.col("channel")
    return events.group_by(C).agg(
        tenure_days=pl.col("age").max(),
        inactive_days=pl.col("age").min(),
        num_events=pl.len(),
        carts=(pl.col("event") == "cart").sum(),
        returned=(pl.col("event") == "return").sum(),
        **{f"channel_share.{name}": (channel == name).mean() for name in spec.channels},
        **{"channel_share.(other)": (~channel.is_in(spec.channels)).mean()},
    )


def _views(views: pl.LazyFrame, spec: FeatureSpec) -> pl.LazyFrame:
    return views.group_by(C).agg(
        pl.len().alias("num_views"),
        pl.col("rank").mean().alias("viewed_price_percentile"),
        *_recent(spec, "recent_views"),
    )


def _bought(lines: pl.LazyFrame) -> pl.LazyFrame:
    cut = pl.col("discount") > 0
    gross = pl.col("price") * pl.col("quantity")
    saved = pl.min_horizontal("discount", gross)
    usual = (cut.sum().over("item_id") - cut) / (pl.len().over("item_id") - 1)
    return lines.with_columns(
        pieces=pl.col("quantity") / pl.col("quantity").mean().over("item_id"),
        cut=cut, gross=gross, saved=saved, amount=gross - saved,
        usual=pl.when(pl.len().over("item_id") > 1).then(usual),
    )  # fmt: skip


def _purchases(bought: pl.LazyFrame, spec: FeatureSpec) -> pl.LazyFrame:
    cut = pl.col("cut")
    return bought.group_by(C).agg(
        pl.col("age").min().alias("recency_days"),
        pl.col("amount").sum().alias("monetary_total"),
        pl.len().alias("num_purchases"),
        cut.mean().alias("discount_share"),
        (cut - pl.col("usual")).mean().alias("discount_lift"),
        (pl.col("saved").filter(cut).sum() / pl.col("gross").filter(cut).sum()).alias("discount_depth"),
        (pl.col("pieces").filter(cut).mean() / pl.col("pieces").filter(~cut).mean())
        .alias("discount_quantity"),
        pl.col("rank").mean().alias("price_percentile"),
        (pl.col("price") / pl.col("median")).mean().alias("price_to_median"),
        *_recent(spec, "recent_purchases"),
    ).with_columns(pl.col("discount_depth").fill_nan(None))  # fmt: skip


def _orders(bought: pl.LazyFrame) -> pl.LazyFrame:
    order = pl.coalesce("order_id", "session_id", pl.col("timestamp").dt.date().cast(pl.String))
    gap = pl.col("at").sort().diff().dt.total_seconds() / 86_400
    placed = bought.group_by(C, order.alias("order")).agg(at=pl.col("timestamp").min())
    return placed.group_by(C).agg(
        frequency=pl.len(), order_gap_days=gap.mean(), order_gap_variation=gap.std() / gap.mean()
    )


def _visits(events: pl.LazyFrame) -> pl.LazyFrame:
    at, event = pl.col("timestamp"), pl.col("event")
    made = (
        events.filter(pl.col("session_id").is_not_null(), event.is_in(["view", "cart", "search", "purchase"]))
        .group_by(C, "session_id")
        .agg(
            at=at.min(),
            events=pl.len(),
            minutes=(at.max() - at.min()).dt.total_seconds() / 60,
            items=pl.col("item_id").filter(event == "view").n_unique(),
            sold=(event == "purchase").any(),
        )
    )
    return made.group_by(C).agg(
        num_sessions=pl.len(),
        session_events=pl.col("events").mean(),
        session_minutes=pl.col("minutes").mean(),
        session_items=pl.col("items").mean(),
        session_conversion=pl.col("sold").mean(),
        session_gap_days=(pl.col("at").sort().diff().dt.total_seconds() / 86_400).mean(),
    )


def _evenness(counts: pl.Expr, kinds: int) -> pl.Expr:
    total = counts.sum()
    entropy = total.log() - (counts * counts.log()).sum() / total
    return pl.when(total > 1).then((entropy / total.clip(upper_bound=kinds).log()).clip(0, 1))


def _times(events: pl.LazyFrame) -> pl.LazyFrame:
    at = pl.col("timestamp")
    timed = events.select(C, date=at.dt.date(), hour=at.dt.hour(), day=at.dt.weekday())
    shares = timed.group_by(C).agg(
        weekend_share=(pl.col("day") >= 6).mean(),
        **{f"hour_share.{name}": (pl.col("hour") // 4 == i).mean() for i, name in enumerate(PARTS)},
    )
    by_hour = timed.unique([C, "date", "hour"]).group_by(C, "hour").len().group_by(C)
    by_day = timed.unique([C, "date"]).group_by(C, "day").len().group_by(C)
    number = pl.col("len").cast(pl.Float64)
    return shares.join(by_hour.agg(hour_evenness=_evenness(number, 24)), on=C, how="left").join(
        by_day.agg(weekday_evenness=_evenness(number, 7)), on=C, how="left"
    )


def _shares(rows: pl.LazyFrame, weight: str, prefix: str, evenness: str, spec: FeatureSpec) -> pl.LazyFrame:
    other = "(other)"
    known = pl.col("category").is_in(spec.categories)
    named = pl.when(known).then(pl.col("category")).otherwise(pl.lit(other))
    counted = rows.group_by(C, named.alias("kind")).agg(pl.col(weight).sum(), n=pl.len().cast(pl.Float64))
    kind, total = pl.col("kind"), pl.col(weight).sum()
    names = (*spec.categories, other)
    share = {
        f"{prefix}_share.{name}": pl.when(total > 0).then(pl.col(weight).filter(kind == name).sum() / total)
        for name in names
    }
    return counted.group_by(C).agg(_evenness(pl.col("n"), len(names)).alias(evenness), **share)
