"""Examples from a shop's tables: events before a time, and features of customers and items."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from shopsight.serving.contract import read_json, write_json
from shopsight.training.data.column_files import map_columns, write_columns
from shopsight.training.data.tables import scan_table
from shopsight.training.recommend.embedding.config import FeatureConfig
from shopsight.training.recommend.embedding.examples import Features, buckets_of, write_examples
from shopsight.training.recommend.embedding.retrieval_task import Asked
from shopsight.training.recommend.evaluator import Evaluator
from shopsight.training.recommend.shop import Shop
from shopsight.training.recommend.split import NoInteractions

VALUES_FILE = "values.json"  # what the codes of facts stand for
_MOST_VALUES = 10_000
_PRICE_BINS = 10
_CATEGORY_LEVELS = 2


def write_shop_examples(folder: Path, shop: Shop, before: datetime, config: FeatureConfig) -> None:
    """Replace `folder` by the events before a time; those that are predicted are the examples.

    Raises NoInteractions when there are none.
    """
    # A return is no sign of interest, so it is not part of a history.
    kept = shop.events.filter(pl.col("timestamp") < before, pl.col("event") != "return")
    events = (
        shop.known.index(kept)
        .select(
            "row", "column", time=pl.col("timestamp").dt.epoch("us"), target=pl.col("event") == shop.target
        )
        .collect()
    )
    if not events["target"].any():
        raise NoInteractions(f"no customer's {shop.target} lies before {before:%Y-%m-%d}; ingest more events")
    customers, customer_values = customer_facts(shop, config)
    items, item_values = item_facts(shop)
    write_examples(
        folder,
        customer=events["row"].to_numpy(),
        item=events["column"].to_numpy(),
        time=events["time"].to_numpy(),
        is_target=events["target"].to_numpy(),
        item_ids=shop.known.item_ids.to_list(),
        customer_features=customers,
        item_features=items,
        item_buckets=config.item_buckets,
        gap_hours=config.gap_hours,
    )
    write_json(folder / VALUES_FILE, {"customer": customer_values, "item": item_values})


def customer_facts(shop: Shop, config: FeatureConfig) -> tuple[Features, dict[str, list[str]]]:
    """Country, and the hashed id where the settings give it buckets; with the values behind the codes."""
    ids = shop.known.customer_ids
    table = scan_table(shop.workspace.tables, "customers").select("customer_id", "country").collect()
    joined = ids.to_frame("customer_id").join(table, on="customer_id", how="left", maintain_order="left")
    # Customers who forbid personalisation have no features.
    country = joined.select(pl.when(pl.Series(shop.personalised)).then(pl.col("country")))["country"]
    code, values = _coded(country)
    columns, names, sizes = [code], ["country"], [len(values) + 1]
    if config.customer_buckets:
        columns.append(1 + buckets_of(ids.to_list(), config.customer_buckets).astype(np.int32))
        names.append("bucket")
        sizes.append(config.customer_buckets + 1)
    return Features(tuple(names), tuple(sizes), np.stack(columns, axis=1).astype(np.int32)), {
        "country": values
    }


def item_facts(shop: Shop) -> tuple[Features, dict[str, list[str]]]:
    """Levels of the category, brand and tenth of price; with the values behind the codes."""
    items = shop.items.select("item_id", "category_path", "brand", pl.col("price").cast(pl.Float64)).collect()
    known = shop.known.item_ids.to_frame("item_id").join(
        items.unique("item_id", keep="first", maintain_order=True),
        on="item_id",
        how="left",
        maintain_order="left",
    )
    parts = known["category_path"].str.split("/")
    texts = {
        f"category_{level + 1}": parts.list.slice(0, level + 1).list.join("/")
        for level in range(_CATEGORY_LEVELS)
    } | {"brand": known["brand"]}
    coded = {name: _coded(text) for name, text in texts.items()}
    price = known["price"].to_numpy()
    priced = price[~np.isnan(price)]
    edges = np.quantile(priced, np.linspace(0, 1, _PRICE_BINS + 1)[1:-1]) if len(priced) else priced
    bins = np.where(np.isnan(price), 0, 1 + np.searchsorted(edges, price, side="right")).astype(np.int32)
    columns = [*(code for code, _ in coded.values()), bins]
    sizes = (*(len(values) + 1 for _, values in coded.values()), _PRICE_BINS + 1)
    values = {name: found for name, (_, found) in coded.items()} | {
        "price_edges": [f"{e:.6g}" for e in edges]
    }
    return Features((*coded, "price"), sizes, np.stack(columns, axis=1)), values


def write_asked(folder: Path, evaluator: Evaluator) -> None:
    """Keep who is asked about in a window, for every worker."""
    arrays: dict[str, NDArray[Any]] = {
        "customer": evaluator.users.astype(np.int64),
        "blocked": evaluator.blocked.astype(np.int32),
    }
    for name, matrix in (("relevant", evaluator.relevant), ("hidden", evaluator.bought)):
        arrays[f"{name}_indptr"] = matrix.indptr.astype(np.int64)
        arrays[f"{name}_indices"] = matrix.indices.astype(np.int32)
    write_columns(folder, arrays)
    write_json(folder / "asked.json", {"k": evaluator.k, "num_items": evaluator.relevant.shape[1]})


def read_asked(folder: Path, end: NDArray[np.int64], bought_again: bool) -> Asked:
    """The same again; `end` int64 [customers + 1] says where the events of each customer end (Examples)."""
    columns, about = map_columns(folder), read_json(folder / "asked.json")
    users, shape = columns["customer"], (len(columns["customer"]), about["num_items"])

    def matrix(name: str) -> sparse.csr_matrix:
        indices = columns[f"{name}_indices"]
        return sparse.csr_matrix((np.ones(len(indices)), indices, columns[f"{name}_indptr"]), shape)

    return Asked(
        customer=users,
        begin=end[users],
        end=end[users + 1],
        relevant=matrix("relevant"),
        hidden=None if bought_again else matrix("hidden"),
        blocked=np.array(columns["blocked"]),
        k=about["k"],
    )


def _coded(texts: pl.Series) -> tuple[NDArray[np.int32], list[str]]:
    """Codes from 1 for the most frequent values, 0 for none and for the rest; with the values in order."""
    counted = texts.drop_nulls().value_counts(sort=True, name="count")
    ordered = counted.sort("count", counted.columns[0], descending=[True, False]).head(_MOST_VALUES)
    values = ordered[counted.columns[0]].to_list()
    codes = texts.replace_strict(values, range(1, len(values) + 1), default=0, return_dtype=pl.Int32)
    return codes.fill_null(0).to_numpy(), values
