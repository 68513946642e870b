"""Basket affinities: which items are bought together more often than chance explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.significance import (
    false_discovery_rates,
    more_often_than_chance,
    more_often_than_sizes_explain,
)
from shopsight.training.data.cleaning.goods import of_goods
from shopsight.training.evaluation.proportions import wilson_intervals

MIN_BASKETS = 10  # with fewer baskets of an item hardly any pair can be told from chance
FALSE_DISCOVERY_RATE = 0.05
_BLOCK = 2_000  # items whose pairs are counted at once


@dataclass(frozen=True)
class Affinities:
    """Pairs of items.

    pairs: item_a, title_a, item_b, title_b, together (baskets with both), baskets_a, baskets_b, support
    (share of all baskets with both, with its 95 % Wilson interval), share_of_a and share_of_b (baskets of
    the item that have the other), lift (support over that of independent items, its interval that of the
    support), lift_by_size (together over what the sizes of the baskets explain), p_value (the larger of
    Fisher's exact test, one-sided, and of the test against the sizes of the baskets, see significance.py) and
    q_value (Benjamini-Hochberg over all pairs of items that could be tested); those with a q value of at most
    the rate, by q value, then lift.
    num_baskets, num_tests: baskets in all, and pairs that were tested.
    """

    pairs: pl.DataFrame
    num_baskets: int
    num_tests: int
    notes: tuple[str, ...]


def affinities(
    events: pl.LazyFrame,
    items: pl.LazyFrame,
    *,
    min_baskets: int = MIN_BASKETS,
    rate: float = FALSE_DISCOVERY_RATE,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Affinities:
    """Find the pairs of items bought together more often than by chance, at a false discovery rate of `rate`.

    events, items: as in training/data/tables.py. A basket is an order; lines without an order make one basket
    a customer and day (UTC). Only goods count, each once a basket. Items in fewer than `min_baskets` baskets
    are not tested, which depends on no pair. since, until: baskets of this period, `until` excluded. Raises
    BehaviourError for impossible settings and if there are no baskets.
    """
    if min_baskets < 1:
        raise BehaviourError(f"min_baskets is {min_baskets}; it must be at least 1")
    if not 0 < rate < 1:
        raise BehaviourError(f"the false discovery rate is {rate}; it must be between 0 and 1, as 0.05")
    lines, left_out = _lines(events, items, since, until)
    num_baskets = lines["basket"].n_unique()
    if not num_baskets:
        raise BehaviourError("there are no baskets in this period; ingest a source of orders first")
    sizes = lines.group_by("item_id").len("baskets").filter(pl.col("baskets") >= min_baskets).sort("item_id")
    num_tests = sizes.height * (sizes.height - 1) // 2
    tested = _tested(_counted(lines, sizes), _widths(lines, sizes), num_baskets, num_tests)
    pairs = tested.filter(pl.col("q_value") <= rate)
    told = [
        "a basket is an order; lines without an order make one basket a customer and day",
        f"{sizes.height:,} items are in at least {min_baskets} baskets; {num_tests:,} pairs were tested",
        f"of the pairs listed, at most {rate:.0%} are expected to be found by chance; what the sizes of the "
        "baskets explain is chance, and the baskets of one customer count as independent",
    ]
    if left_out:
        told.append(f"{left_out:,} lines have neither an order nor a customer and are left out")
    return Affinities(_titled(pairs, items), num_baskets, num_tests, tuple(told))


def _lines(
    events: pl.LazyFrame, items: pl.LazyFrame, since: datetime | None, until: datetime | None
) -> tuple[pl.DataFrame, int]:
    """Return the distinct (basket, item_id), the baskets as numbers, and how many lines have no basket."""
    bought = of_goods(events.filter(pl.col("event") == "purchase"), items).drop_nulls("item_id")
    if since is not None:
        bought = bought.filter(pl.col("timestamp") >= since)
    if until is not None:
        bought = bought.filter(pl.col("timestamp") < until)
    day = pl.col("timestamp").dt.date().cast(pl.String)
    basket = pl.coalesce(
        pl.concat_str(pl.lit("o "), pl.col("channel").fill_null(""), pl.lit(" "), "order_id"),
        pl.concat_str(pl.lit("d "), "customer_id", pl.lit(" "), day),
    )
    rows = bought.select("item_id", basket=basket).collect()
    known = rows.drop_nulls("basket").unique()
    numbers = known["basket"].rank("dense").cast(pl.Int64) - 1
    return known.with_columns(basket=numbers), rows["basket"].null_count()


def _counted(lines: pl.DataFrame, sizes: pl.DataFrame) -> pl.DataFrame:
    """Return item_a, item_b, together, baskets_a and baskets_b of the pairs that meet at all."""
    numbered = sizes.with_row_index("item")
    cells = lines.join(numbered, on="item_id")
    shape = (int(lines["basket"].max()) + 1, sizes.height)  # type: ignore[arg-type]
    ones = np.ones(cells.height, dtype=np.int32)
    baskets = sparse.csc_array((ones, (cells["basket"].to_numpy(), cells["item"].to_numpy())), shape=shape)
    names, counts = sizes["item_id"], sizes["baskets"]
    parts = [
        pl.DataFrame(
            {
                "item_a": names.gather(a), "item_b": names.gather(b), "together": both,
                "baskets_a": counts.gather(a), "baskets_b": counts.gather(b),
            }
        )
        for a, b, both in _pairs(baskets)
    ]  # fmt: skip
    names_of = dict.fromkeys(("item_a", "item_b"), pl.String())
    counts_of = dict.fromkeys(("together", "baskets_a", "baskets_b"), pl.Int64())
    schema = pl.Schema({**names_of, **counts_of})
    return pl.concat([pl.DataFrame(schema=schema), *(part.cast(schema) for part in parts)])


def _pairs(baskets: sparse.csc_array) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yield items a < b and their baskets together, block by block."""
    for first in range(0, baskets.shape[1], _BLOCK):
        block = (baskets[:, first : first + _BLOCK].T @ baskets[:, first:]).tocoo()
        later = block.col > block.row
        a, b = (side[later].astype(np.int64) + first for side in (block.row, block.col))
        yield a, b, block.data[later].astype(np.int64)


def _widths(lines: pl.DataFrame, sizes: pl.DataFrame) -> NDArray[np.int64]:
    """The number of tested items in each basket that has any."""
    of_tested = lines.join(sizes, on="item_id", how="semi")
    return of_tested.group_by("basket").len()["len"].cast(pl.Int64).to_numpy()


def _tested(pairs: pl.DataFrame, widths: NDArray[np.int64], num_baskets: int, num_tests: int) -> pl.DataFrame:
    both, a, b = (pairs[c].to_numpy() for c in ("together", "baskets_a", "baskets_b"))
    expected, by_size = more_often_than_sizes_explain(both, a, b, widths)
    p_values = np.maximum(more_often_than_chance(both, a, b, num_baskets), by_size)
    total = np.full(both.size, float(num_baskets))
    low, high = wilson_intervals(both.astype(np.float64), total)
    chance = a / total * (b / total)
    columns = {
        "support": both / total, "support_low": low, "support_high": high, "share_of_a": both / a,
        "share_of_b": both / b, "lift": both / total / chance, "lift_low": low / chance,
        "lift_high": high / chance, "lift_by_size": both / np.maximum(expected, 1e-300),
        "p_value": p_values,
        "q_value": false_discovery_rates(p_values, num_tests),
    }  # fmt: skip
    tested = pairs.with_columns(pl.Series(name, values) for name, values in columns.items())
    return tested.sort("q_value", "lift", "item_a", "item_b", descending=[False, True, False, False])


def _titled(pairs: pl.DataFrame, items: pl.LazyFrame) -> pl.DataFrame:
    titles = items.select("item_id", "title").unique("item_id").collect()
    for side in ("a", "b"):
        named = titles.rename({"item_id": f"item_{side}", "title": f"title_{side}"})
        pairs = pairs.join(named, on=f"item_{side}", how="left", maintain_order="left")
    first = ["item_a", "title_a", "item_b", "title_b"]
    return pairs.select(*first, pl.exclude(first))
