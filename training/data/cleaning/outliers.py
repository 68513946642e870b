"""Prices and quantities far from what an item usually has, by median and MAD of their logarithms."""

from __future__ import annotations

from typing import Any

import polars as pl

MIN_LINES = 10  # an item with fewer has no usual price
MAX_SCORE = 5.0  # robust standard deviations
# Lower bounds of the MAD: for an item with constant values, 3 times its price or 13 times its quantity is an
# outlier.
_KEYS = ["item_id", "currency"]
_LEAST_MAD = {"price": 0.15, "quantity": 0.35}


def outliers(lines: pl.LazyFrame, engine: Any = "streaming") -> pl.DataFrame:
    """Flag order lines whose price or quantity is far from its item's: price_outlier, quantity_outlier.

    lines: purchases and returns of the events table. The score is 0.6745 |log x - median| / MAD (Iglewicz
    and Hoaglin, 1993), the MAD at least _LEAST_MAD. Returns SCHEMAS["flags"]; `value` is the signed score.
    """
    lines = lines.filter(pl.col("event").is_in(["purchase", "return"]) & pl.col("item_id").is_not_null())
    found = [_of_one(lines, name, engine) for name in ("price", "quantity")]
    return pl.concat(found)


def _of_one(lines: pl.LazyFrame, name: str, engine: Any) -> pl.DataFrame:
    size = pl.col(name).cast(pl.Float64)
    # A price is compared with those of its own currency.
    currency = pl.col("currency").fill_null("") if name == "price" else pl.lit("")
    rows = lines.filter(pl.col(name) > 0).with_columns(currency.alias("currency"))
    # Few different values an item: counting them first makes exact medians cheap, whatever the rows.
    values = rows.group_by(*_KEYS, size.log().alias("x")).agg(pl.len().alias("n"))
    counts = values.collect(engine=engine)
    middle = _median(counts, "x").rename({"median": "middle"})
    counts = counts.join(middle, on=_KEYS).with_columns((pl.col("x") - pl.col("middle")).abs().alias("d"))
    usual = middle.join(_median(counts, "d").select(*_KEYS, pl.col("median").alias("mad")), on=_KEYS)
    usual = usual.filter(pl.col("lines") >= MIN_LINES)
    off = size.log() - pl.col("middle")
    score = 0.6745 * off / pl.max_horizontal("mad", pl.lit(_LEAST_MAD[name]))
    flagged = rows.join(usual.lazy(), on=_KEYS).filter(score.abs() > MAX_SCORE)
    return flagged.select(
        pl.lit("events").alias("table"),
        pl.col("event_id").alias("id"),
        "customer_id",
        pl.lit(f"{name}_outlier").alias("rule"),
        pl.lit(None, dtype=pl.String).alias("related_id"),
        score.round(3).alias("value"),
    ).collect(engine=engine)


def _median(counts: pl.DataFrame, value: str) -> pl.DataFrame:
    """Return the lower median of each item and currency, from values with counts."""
    ordered = counts.sort(*_KEYS, value).with_columns(
        pl.col("n").cum_sum().over(_KEYS).alias("upto"), pl.col("n").sum().over(_KEYS).alias("lines")
    )
    half = pl.col(value).filter(pl.col("upto") * 2 >= pl.col("lines")).first()
    return ordered.group_by(_KEYS, maintain_order=True).agg(
        half.alias("median"), pl.col("lines").first().alias("lines")
    )
