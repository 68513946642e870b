"""The items table: one row an item, from item lists and from titles and prices in order files."""

from __future__ import annotations

import polars as pl

from training.data.loading import Loaded, mode
from training.data.tables import SCHEMAS

_MONEY = ("price", "cost")
_TEXTS = ("title", "category_path", "brand", "attributes", "image_path")


def items_table(loaded: list[Loaded]) -> pl.DataFrame:
    """Fold every items source into one row an item: the most frequent text, the median price above zero."""
    if not loaded:
        return pl.DataFrame(schema=SCHEMAS["items"])
    parts = [part.rows.drop("file", "row", "digest", "channel") for part in loaded]
    rows = pl.concat(parts, how="diagonal").filter(pl.col("item_id").is_not_null())
    present = set(rows.columns)
    ranges = {"available_from": pl.col("available_from").min(), "available_to": pl.col("available_to").max()}
    facts = [expr for name, expr in ranges.items() if name in present]
    facts += [
        pl.col(n).filter(pl.col(n) > 0).cast(pl.Float64).median().round(4).cast(SCHEMAS["items"][n]).alias(n)
        for n in _MONEY
        if n in present
    ]
    items = rows.group_by("item_id").agg(facts)
    for name in _TEXTS:
        if name in present:
            items = items.join(mode(rows, "item_id", name), on="item_id", how="left")
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in SCHEMAS["items"].items() if n not in items.columns]
    return items.with_columns(missing).select(list(SCHEMAS["items"])).sort("item_id")


def refuse_unknown_items(loaded: list[Loaded], items: pl.DataFrame) -> None:
    """Refuse rows that name an item of which no items source knows."""
    for part in loaded:
        if "item_id" in part.rows.columns and part.source.kind != "items":
            known = pl.col("item_id").is_in(items["item_id"].implode())
            part.refuse(pl.col("item_id").is_not_null() & ~known, "item_id", "unknown_item")
