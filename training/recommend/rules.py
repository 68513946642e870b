"""Rules on what a shop never recommends, applied to items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.recommend.shop import Shop


@dataclass(frozen=True)
class ItemFacts:
    """Facts on items that the router needs: category int32 [items] (-1 for none), sellable bool [items]."""

    category: NDArray[np.int32]
    sellable: NDArray[np.bool_]


def item_facts(shop: Shop) -> ItemFacts:
    """Return the department of each item, and whether it may be recommended at the end of the data.

    An item may be recommended if it can be sold then and no rule of `shop.config.rules` hides it.
    """
    rules = shop.config.rules
    table = shop.items.select("item_id", "category_path", pl.col("price").cast(pl.Float64)).collect()
    known = shop.known.item_ids.to_frame("item_id").join(
        table.unique("item_id", keep="first", maintain_order=True),
        on="item_id",
        how="left",
        maintain_order="left",
    )
    hidden = pl.lit(False)
    for path in rules.hidden_categories:
        own = pl.col("category_path")
        hidden = hidden | (own == path) | own.str.starts_with(f"{path}/")
    if rules.least_price:
        hidden = hidden | (pl.col("price") < rules.least_price)
    if rules.most_price:
        hidden = hidden | (pl.col("price") > rules.most_price)
    is_hidden = known.select(hidden.fill_null(False).alias("hidden"))["hidden"].to_numpy()
    department = known["category_path"].str.split("/").list.first()
    code = department.cast(pl.Categorical).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
    return ItemFacts(code, shop.available(shop.windows.end) & ~is_hidden)
