"""Sparse matrices of customers and items from events: preferences, purchases and popularity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shopsight.training.recommend.config import EventWeights
from shopsight.training.recommend.neighbours.histories import Histories

_RATED = ("rating", "review")
_NEUTRAL_STARS, _STARS_SPAN = 3.0, 2.0


@dataclass(frozen=True)
class Catalogue:
    """The customers and items of the matrices: row and column numbers are positions in these sorted ids."""

    customer_ids: pl.Series
    item_ids: pl.Series

    @property
    def shape(self) -> tuple[int, int]:
        """(number of customers, number of items)."""
        return len(self.customer_ids), len(self.item_ids)

    def index(self, events: pl.LazyFrame) -> pl.LazyFrame:
        """Add `row` and `column` (int64) to events; events of unknown customers or items are dropped."""
        customers = self.customer_ids.to_frame("customer_id").with_row_index("row").lazy()
        items = self.item_ids.to_frame("item_id").with_row_index("column").lazy()
        return (
            events.join(customers, on="customer_id")
            .join(items, on="item_id")
            .with_columns(pl.col("row", "column").cast(pl.Int64))
        )


def catalogue(events: pl.LazyFrame, customers: pl.LazyFrame, items: pl.LazyFrame) -> Catalogue:
    """Return all customers and items of any table, with or without events."""

    def ids(name: str, *tables: pl.LazyFrame) -> pl.Series:
        named = pl.concat([table.select(name) for table in tables]).drop_nulls().unique().sort(name)
        return named.collect()[name]

    return Catalogue(ids("customer_id", customers, events), ids("item_id", items, events))


def user_items(
    events: pl.LazyFrame,
    known: Catalogue,
    weights: EventWeights,
    half_life_days: float,
    before: datetime,
    half_life_steps: float = 0.0,
) -> csr_matrix:
    """Return the preferences of customers for items, CSR float32 [customers, items] of values above 0.

    A value is the sum of the weights of events before `before`, each halved for every `half_life_days`
    between it and the customer's own latest event, and, unless it is 0, for every `half_life_steps` moments
    of the customer's events after it. A return counts as a purchase with the opposite sign, a rating in
    proportion to its stars above or below 3. Sums that are not above 0 are left out.
    """
    worth = asdict(weights) | {"return": -weights.purchase}
    chosen = events.filter(
        pl.col("customer_id").is_not_null(),
        pl.col("item_id").is_not_null(),
        pl.col("timestamp") < before,
        pl.col("event").is_in(list(worth)),
    )
    stars = (pl.col("rating").cast(pl.Float64) - _NEUTRAL_STARS) / _STARS_SPAN
    weight = pl.col("event").replace_strict(worth, return_dtype=pl.Float64)
    weight = pl.when(pl.col("event").is_in(_RATED)).then(weight * stars.fill_null(0.0)).otherwise(weight)
    age = (pl.col("timestamp").max().over("customer_id") - pl.col("timestamp")).dt.total_microseconds()
    halvings = age / (half_life_days * 86_400e6)
    if half_life_steps:
        moments = pl.col("timestamp").rank("dense", descending=True).over("customer_id")
        halvings = halvings + (moments.cast(pl.Float64) - 1) / half_life_steps
    fade = (-halvings * float(np.log(2.0))).exp()
    summed = (
        known.index(chosen.with_columns(value=weight * fade))
        .group_by("row", "column")
        .agg(pl.col("value").sum())
        .filter(pl.col("value") > 1e-6)
        .sort("row", "column")
        .collect()
    )
    return to_csr(summed, known.shape, summed["value"].to_numpy())


def histories(events: pl.LazyFrame, known: Catalogue, weights: EventWeights, before: datetime) -> Histories:
    """Return the items of each customer's events before `before`, in the order of time, the latest last.

    Events with a weight above 0 count, except ratings, which may be bad. An item that is met several times in
    a row, as when it is viewed, put into the cart and bought, is one step. Items of one moment stand in the
    order of their ids.
    """
    worth = asdict(weights)
    telling = [kind for kind, weight in worth.items() if weight > 0 and kind not in _RATED]
    chosen = events.filter(
        pl.col("customer_id").is_not_null(),
        pl.col("item_id").is_not_null(),
        pl.col("timestamp") < before,
        pl.col("event").is_in(telling),
    )
    steps = (
        known.index(chosen)
        .select("row", "column", "timestamp")
        .sort("row", "timestamp", "column")
        .filter((pl.col("column") != pl.col("column").shift(1).over("row")).fill_null(True))
        .collect()
    )
    counts = np.bincount(steps["row"].to_numpy(), minlength=known.shape[0])
    indptr: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Histories(indptr, steps["column"].to_numpy(), known.shape[1])


def bought(events: pl.LazyFrame, known: Catalogue, before: datetime) -> csr_matrix:
    """Return what each customer bought and kept before `before`, CSR of ones [customers, items]."""
    count = pl.col("event").replace_strict({"purchase": 1, "return": -1}, return_dtype=pl.Int64)
    chosen = events.filter(pl.col("timestamp") < before, pl.col("event").is_in(["purchase", "return"]))
    kept = (
        known.index(chosen.with_columns(count=count))
        .group_by("row", "column")
        .agg(pl.col("count").sum())
        .filter(pl.col("count") > 0)
        .sort("row", "column")
        .collect()
    )
    return to_csr(kept, known.shape, np.ones(kept.height))


def popularity(
    events: pl.LazyFrame,
    known: Catalogue,
    target: str,
    half_life_days: float,
    before: datetime,
    group: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Return the number of `target` events of each item, decayed with age, float32 [groups, items].

    At most one event per customer, item and day counts, halved for every `half_life_days` of age. group:
    int64 [customers], the row of the result for each customer's events, -1 for none; without it there is one
    row.
    """
    member = np.zeros(known.shape[0], dtype=np.int64) if group is None else group
    groups = pl.LazyFrame({"row": np.arange(len(member)), "group": member})
    age = (pl.lit(before) - pl.col("timestamp")).dt.total_seconds() / 86_400
    day = pl.col("timestamp").dt.date().alias("day")
    chosen = events.filter(pl.col("timestamp") < before, pl.col("event") == target)
    counted = (
        known.index(chosen.select("customer_id", "item_id", day, age=age))
        .group_by("row", "column", "day")
        .agg(pl.col("age").min())
        .join(groups.filter(pl.col("group") >= 0), on="row")
        .group_by("group", "column")
        .agg(count=(-pl.col("age") / half_life_days * float(np.log(2.0))).exp().sum())
        .collect()
    )
    popular = np.zeros((int(member.max(initial=0)) + 1, known.shape[1]), dtype=np.float32)
    popular[counted["group"].to_numpy(), counted["column"].to_numpy()] = counted["count"].to_numpy()
    return popular


def available(items: pl.LazyFrame, known: Catalogue, at: datetime) -> NDArray[np.bool_]:
    """Return which items can be sold at a time, bool [items]; an item without dates can."""
    gone = pl.col("available_to").is_not_null() & (pl.col("available_to") <= at)
    to_come = pl.col("available_from").is_not_null() & (pl.col("available_from") > at)
    withdrawn = items.filter(gone | to_come).select("item_id").collect()["item_id"]
    return ~known.item_ids.is_in(withdrawn.to_list()).to_numpy()


def to_csr(cells: pl.DataFrame, shape: tuple[int, int], values: NDArray[np.float64]) -> csr_matrix:
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    np.add.at(indptr, cells["row"].to_numpy() + 1, 1)
    matrix = csr_matrix(shape, dtype=np.float32)
    matrix.data = values.astype(np.float32)
    matrix.indices = cells["column"].to_numpy().astype(np.int32)
    matrix.indptr = np.cumsum(indptr)
    return matrix
