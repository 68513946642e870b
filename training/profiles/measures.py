"""Features of events, as Polars expressions over what customers did before a given time.

The expressions are limited to those of Polars' cuDF engine: no filter, diff or sort inside an aggregation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from shopsight.training.data.money import is_in
from shopsight.training.profiles.spec import OTHER, recent

# Events that a customer caused; exposures are caused by the shop.
OWN_EVENTS = ("view", "cart", "purchase", "return", "rating", "review", "search", "message")
KEY = "customer_id"

_VIEWED = pl.col("event") == "view"
_BOUGHT = pl.col("event") == "purchase"


def customer_events(events: pl.LazyFrame, as_of: datetime) -> pl.LazyFrame:
    """Return the events of known customers before `as_of`, from which all features are computed."""
    return events.filter(
        pl.col(KEY).is_not_null(), pl.col("timestamp") < as_of, pl.col("event").is_in(OWN_EVENTS)
    )


def top_level() -> pl.Expr:
    """Return the first part of category_path: "Home" of "Home > Kitchen", "Home/Kitchen", "Home|Kitchen"."""
    return pl.col("category_path").str.extract(r"^\s*([^>/|]+?)\s*(?:[>/|]|$)")


def described_events(
    events: pl.LazyFrame,
    items: pl.LazyFrame,
    *,
    as_of: datetime,
    currency: str | None,
    categories: Sequence[str],
) -> pl.LazyFrame:
    """Return events before `as_of` with facts on prices and categories.

    Adds age_days; amount (paid for the line), saved (the discount) and discounted; category (one of
    `categories` or OTHER); price_percentile and median_price of the item's category; and usual_discount, the
    share of the item's other lines with a discount. An item's price is its mean price in events before
    `as_of`, because the price in the catalogue is today's and would leak. Prices in other currencies than
    `currency` are missing.
    """
    known = _paid(events, as_of, currency)
    others = pl.col("item_lines") - 1
    usual = (pl.col("item_discounted") - pl.col("discounted").cast(pl.Int64)) / others
    return known.join(_item_facts(known, items, categories), on="item_id", how="left").with_columns(
        category=pl.col("category").fill_null(OTHER),
        usual_discount=pl.when(_BOUGHT & (others > 0)).then(usual),
    )


def spending(events: pl.LazyFrame, *, as_of: datetime, currency: str | None) -> pl.LazyFrame:
    """Return what each customer paid in total, postage and fees included, as monetary_total."""
    bought = _paid(events, as_of, currency).filter(_BOUGHT)
    return bought.group_by(KEY).agg(pl.col("amount").sum().alias("monetary_total"))


def _paid(events: pl.LazyFrame, as_of: datetime, currency: str | None) -> pl.LazyFrame:
    """Return events before `as_of` with the age and the amount of each."""
    price = pl.col("price").cast(pl.Float64)
    known = customer_events(events, as_of).select(
        KEY, "item_id", "event", "channel", "timestamp", "session_id", "order_id", "rating",
        price=pl.when(is_in(currency)).then(price),
        quantity=pl.col("quantity").cast(pl.Float64).fill_null(1.0).abs(),
        discount=pl.col("discount").cast(pl.Float64).fill_null(0.0),
        age_days=(pl.lit(as_of) - pl.col("timestamp")).dt.total_seconds() / 86_400,
    )  # fmt: skip
    gross = pl.col("price") * pl.col("quantity")
    return known.with_columns(
        saved=pl.when(_BOUGHT & gross.is_not_null()).then(
            pl.min_horizontal(pl.col("discount").clip(lower_bound=0.0), gross)
        ),
        discounted=_BOUGHT & (pl.col("discount") > 0),
    ).with_columns(amount=gross - pl.col("saved").fill_null(0.0))


def _item_facts(known: pl.LazyFrame, items: pl.LazyFrame, categories: Sequence[str]) -> pl.LazyFrame:
    category = pl.when(top_level().is_in([*categories])).then(top_level())
    seen = known.group_by("item_id").agg(
        level=pl.col("price").mean(),
        item_lines=_BOUGHT.sum().cast(pl.Int64),
        item_pieces=pl.when(_BOUGHT).then(pl.col("quantity")).mean(),
        item_discounted=pl.col("discounted").sum().cast(pl.Int64),
    )
    rank = pl.col("level").rank("average").over("category_path") - 0.5
    return (
        seen.filter(pl.col("item_id").is_not_null())
        .join(items.select("item_id", "category_path", category=category), on="item_id", how="left")
        .with_columns(
            price_percentile=rank / pl.col("level").count().over("category_path"),
            median_price=pl.col("level").median().over("category_path"),
        )
        .drop("level", "category_path")
    )


def activity(
    events: pl.LazyFrame, *, half_lives_days: Sequence[float], channels: Sequence[str]
) -> pl.LazyFrame:
    """Return counts, tenure and shares of channels of each customer, over all events."""
    channel = pl.col("channel").fill_null(OTHER)
    age = pl.col("age_days")
    return events.group_by(KEY).agg(
        age.max().alias("tenure_days"),
        age.min().alias("inactive_days"),
        pl.len().alias("num_events"),
        _VIEWED.sum().alias("num_views"),
        (pl.col("event") == "cart").sum().alias("num_carts"),
        (pl.col("event") == "return").sum().alias("num_returns"),
        pl.when(_VIEWED).then(pl.col("price_percentile")).mean().alias("viewed_price_percentile"),
        pl.col("rating").mean().alias("rating_mean"),
        *[
            pl.when(_VIEWED).then(_decay(age, days)).sum().alias(recent("recent_views", days))
            for days in half_lives_days
        ],
        *[(channel == name).mean().alias(f"channel_share.{name}") for name in channels],
        (~channel.is_in([*channels])).mean().alias(f"channel_share.{OTHER}"),
    )


def purchases(events: pl.LazyFrame, *, half_lives_days: Sequence[float]) -> pl.LazyFrame:
    """Return recency and number of purchases, and features of prices and discounts, of each customer."""
    age = pl.col("age_days")
    # Relative to the usual quantity of the item: thirty litres of fuel are not many pieces.
    cut, quantity = pl.col("discounted"), pl.col("quantity") / pl.col("item_pieces")
    measured = (
        events.filter(_BOUGHT)
        .group_by(KEY)
        .agg(
            age.min().alias("recency_days"),
            pl.len().alias("num_purchases"),
            *[_decay(age, days).sum().alias(recent("recent_purchases", days)) for days in half_lives_days],
            cut.mean().alias("discount_share"),
            (cut.cast(pl.Float64) - pl.col("usual_discount")).mean().alias("discount_lift"),
            pl.when(cut).then(pl.col("saved")).sum().alias("_saved"),
            pl.when(cut).then(pl.col("saved") + pl.col("amount")).sum().alias("_before_saving"),
            pl.when(cut).then(quantity).mean().alias("_pieces_discounted"),
            pl.when(~cut).then(quantity).mean().alias("_pieces_full"),
            pl.col("price_percentile").mean(),
            (pl.col("price") / pl.col("median_price")).mean().alias("price_to_median"),
        )
    )
    return measured.with_columns(
        discount_depth=ratio("_saved", "_before_saving"),
        discount_quantity=ratio("_pieces_discounted", "_pieces_full"),
    )


def tastes(events: pl.LazyFrame, *, categories: Sequence[str]) -> pl.LazyFrame:
    """Return shares of spending and of views by category, and the evenness of both, of each customer."""
    category = pl.col("category")
    counted = events.group_by(KEY, "category").agg(
        spend=pl.when(_BOUGHT).then(pl.col("amount")).sum(), lines=_BOUGHT.sum(), view=_VIEWED.sum()
    )
    sums = {
        f"{kind}_share.{name}": pl.when(category == name).then(pl.col(kind)).sum()
        for kind in ("spend", "view")
        for name in (*categories, OTHER)
    }
    summed = counted.group_by(KEY).agg(
        pl.col("spend", "view").sum().name.prefix("_"),
        evenness("lines", len(categories) + 1).alias("category_evenness"),
        evenness("view", len(categories) + 1).alias("viewed_category_evenness"),
        **sums,
    )
    shares = [ratio(name, f"_{name.partition('_')[0]}").alias(name) for name in sums]
    return summed.select(KEY, "category_evenness", "viewed_category_evenness", *shares)


def evenness(count: str, num_kinds: int) -> pl.Expr:
    """Return the entropy of counts over a group's rows, as a share of its maximum (Pielou, 1966).

    It is 0 if all counts are of one kind and 1 if they are spread as evenly as possible over `num_kinds`
    kinds; null for fewer than two counts.
    """
    number = pl.col(count).cast(pl.Float64)
    total = number.sum()
    entropy = total.log() - pl.when(number > 0).then(number * number.log()).sum() / total
    most = pl.min_horizontal(total, pl.lit(float(num_kinds))).log()
    return pl.when(most > 0).then((entropy / most).clip(0.0, 1.0))


def ratio(part: str, whole: str) -> pl.Expr:
    """Return column `part` divided by column `whole`; null where `whole` is not above 0."""
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _decay(age_days: pl.Expr, half_life_days: float) -> pl.Expr:
    return (-age_days * (0.6931471805599453 / half_life_days)).exp()
