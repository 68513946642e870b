"""The items table: one row per item, from item lists and from titles and prices in order files."""

from __future__ import annotations

import polars as pl

from shopsight.training.data.loading import Loaded, mode
from shopsight.training.data.money import is_in
from shopsight.training.data.tables import SCHEMAS

_MONEY = ("price", "cost")
_USUAL = ("title", "category_path", "brand", "attributes", "image_path", "goods")


def items_table(loaded: list[Loaded]) -> pl.DataFrame:
    """Fold every items source into one row an item: the most frequent text, the median price above zero.

    `goods` is what the files say, null where they say nothing (training/data/cleaning/goods.py).

    What a list of items says goes before what other files tell of items in passing.
    """
    listed, told = (_folded([p for p in loaded if p.source.derived is d]) for d in (False, True))
    both = listed.join(told, on="item_id", how="full", coalesce=True, suffix=" told")
    names = [name for name in SCHEMAS["items"] if name != "item_id"]
    both = both.with_columns(pl.coalesce(name, f"{name} told").alias(name) for name in names)
    return both.select(list(SCHEMAS["items"])).sort("item_id")


def _folded(loaded: list[Loaded]) -> pl.DataFrame:
    if not loaded:
        return pl.DataFrame(schema=SCHEMAS["items"])
    parts = [
        part.rows.select(pl.exclude("file", "row", "hi", "lo", "channel", "bucket", "who")) for part in loaded
    ]
    rows = pl.concat(parts, how="diagonal").filter(pl.col("item_id").is_not_null())
    present = set(rows.columns)
    if {"price", "currency"} <= present:
        rows = rows.with_columns(pl.when(is_in(_usual_currency(rows))).then("price").alias("price"))
    ranges = {"available_from": pl.col("available_from").min(), "available_to": pl.col("available_to").max()}
    items = rows.group_by("item_id").agg(expr for name, expr in ranges.items() if name in present)
    for name in _MONEY:
        if name in present:
            items = items.join(_medians(rows, name), on="item_id", how="left")
    for name in _USUAL:
        if name in present:
            items = items.join(mode(rows, "item_id", name), on="item_id", how="left")
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in SCHEMAS["items"].items() if n not in items.columns]
    return items.with_columns(missing).select(list(SCHEMAS["items"])).sort("item_id")


def refuse_unknown_items(loaded: list[Loaded], items: pl.DataFrame) -> None:
    """Refuse gathered rows that name an item of which no items source knows."""
    for part in loaded:
        if part.source.kind in ("reviews", "messages") and "item_id" in part.rows.columns:
            known = pl.col("item_id").is_in(items["item_id"].implode())
            part.refuse(pl.col("item_id").is_not_null() & ~known, "item_id", "unknown_item")


def _usual_currency(rows: pl.DataFrame) -> str | None:
    """Return the currency of most prices; an item's price is the median of the prices in it."""
    priced = rows.filter(pl.col("price").is_not_null())
    weight = pl.col("weight").fill_null(1) if "weight" in rows.columns else pl.lit(1, dtype=pl.UInt32)
    told = priced.group_by("currency").agg(weight.sum().alias("n"))
    names: list[str | None] = told.sort("n", "currency", descending=[True, False])["currency"].to_list()
    return names[0] if names else None


def _medians(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The median above zero of each item; a column `weight` says how often a row was seen."""
    weight = pl.col("weight").fill_null(1) if "weight" in rows.columns else pl.lit(1, dtype=pl.UInt32)
    seen = (
        rows.filter(pl.col(name) > 0)
        .select("item_id", pl.col(name).cast(pl.Float64), weight.alias("weight"))
        .sort("item_id", name)
        .with_columns(
            pl.col("weight").cum_sum().over("item_id").alias("upto"),
            pl.col("weight").sum().over("item_id").alias("all"),
        )
    )
    # The values in the middle: one of an odd number, two of an even one.
    lower = pl.col(name).filter(pl.col("upto") * 2 >= pl.col("all")).first()
    upper = pl.col(name).filter(pl.col("upto") * 2 > pl.col("all")).first()
    middle = ((lower + upper) / 2).round(4).cast(SCHEMAS["items"][name])
    return seen.group_by("item_id", maintain_order=True).agg(middle.alias(name))
