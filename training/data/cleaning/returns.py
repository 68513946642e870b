"""Matches returns and cancelled orders to the purchase lines that they reverse."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import polars as pl

_KEYS = ["customer_id", "item_id"]
_LEAST = 5e-5  # half of the smallest quantity that the tables hold


def matched_returns(lines: pl.LazyFrame, engine: Any = "streaming") -> pl.DataFrame:
    """Match each return line to a purchase line of the same customer and item, both flagged.

    lines: purchases and returns of the events table. A return is matched to the latest earlier purchase line
    with its price and enough remaining quantity; otherwise to the latest with enough quantity; otherwise to
    the latest that is not yet returned. Order numbers are not used, as those of cancellations differ. Rules:
    `returned` (the purchase; value is the returned quantity), `return_matched` and `return_unmatched` (the
    return). Returns SCHEMAS["flags"].
    """
    columns = ["event_id", *_KEYS, "event", "timestamp", "quantity", "price"]
    lines = lines.filter(pl.col("event").is_in(["purchase", "return"])).select(columns)
    known = pl.col("customer_id").is_not_null() & pl.col("item_id").is_not_null()
    taken_back = lines.filter(pl.col("event") == "return").collect(engine=engine)
    keys = taken_back.filter(known).select(_KEYS).unique()
    rows = lines.join(keys.lazy(), on=_KEYS, how="semi").collect(engine=engine)
    rows = rows.sort(*_KEYS, "timestamp", pl.col("event") == "return", "event_id")
    groups = rows.select(pl.struct(_KEYS).rle_id().alias("g"))["g"].to_numpy()
    price = rows["price"].cast(pl.Float64).fill_null(-1.0).to_numpy()
    quantity = rows["quantity"].cast(pl.Float64).fill_null(1.0).to_numpy()
    is_return = (rows["event"] == "return").to_numpy()
    found, taken = _match(groups, is_return, price, quantity)
    back = np.flatnonzero(is_return & (found >= 0))
    parts = [
        _flags(rows[back], "return_matched", rows["event_id"].gather(found[back]), quantity[back]),
        _purchases(rows, found, back, taken),
        _flags(rows[np.flatnonzero(is_return & (found < 0))], "return_unmatched", None, None),
        _flags(taken_back.filter(~known), "return_unmatched", None, None),
    ]
    return pl.concat(parts)


def _purchases(
    rows: pl.DataFrame, found: np.ndarray[tuple[int], np.dtype[np.int64]], back: np.ndarray, taken: np.ndarray
) -> pl.DataFrame:
    """Return the returned purchases, each with its last return."""
    bought, last = np.unique(found[back][::-1], return_index=True)
    returns = rows["event_id"].gather(back[::-1][last])
    return _flags(rows[bought], "returned", returns, taken[bought])


def _flags(
    rows: pl.DataFrame, rule: str, related: pl.Series | None, value: np.ndarray | None
) -> pl.DataFrame:
    empty = pl.lit(None, dtype=pl.String) if related is None else related.alias("related_id")
    amount = pl.lit(None, dtype=pl.Float64) if value is None else pl.Series("value", value).cast(pl.Float64)
    return rows.select(
        pl.lit("events").alias("table"),
        pl.col("event_id").alias("id"),
        "customer_id",
        pl.lit(rule).alias("rule"),
        empty.alias("related_id"),
        amount.alias("value"),
    )


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _match(groups, is_return, price, quantity):  # type: ignore[no-untyped-def]
    found = np.full(groups.size, -1, dtype=np.int64)
    taken = np.zeros(groups.size, dtype=np.float64)
    begin = 0
    for i in range(groups.size):
        if i > 0 and groups[i] != groups[i - 1]:
            begin = i
        if not is_return[i]:
            continue
        best, best_rank = -1, 0
        for k in range(i - 1, begin - 1, -1):
            left = quantity[k] - taken[k]
            if is_return[k] or left < _LEAST:
                continue
            enough, same_price = left > quantity[i] - _LEAST, price[k] == price[i]
            rank = 4 if enough and same_price else 3 if enough else 2 if same_price else 1
            if rank > best_rank:
                best, best_rank = k, rank
            if rank == 4:
                break
        if best >= 0:
            found[i] = best
            taken[best] += min(quantity[i], quantity[best] - taken[best])
    return found, taken
