"""Purchase histories from events: frequency, recency, T and mean spending of each customer as of a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.money import is_in, line_total, main_currency

COLUMNS = ("customer_id", "frequency", "recency", "T", "num_priced", "monetary_value")

_KEY, _DAY = "customer_id", "day"


class BadHistory(ValueError):  # noqa: N818 - reads as what happened
    """A row of purchase histories is impossible; the message names the column, the row and the rule."""


class NoPurchases(ValueError):  # noqa: N818 - reads as what happened
    """No customer bought anything before the given time."""


@dataclass(frozen=True)
class Histories:
    """The purchase histories of customers who bought, as of a time.

    table: customer_id (sorted), frequency int64 (purchase days after the first), recency and T int64 (days
    from the first purchase to the last, and to as_of), num_priced int64 (purchase days with a price) and
    monetary_value float64 (mean spending on those, NaN without any). notes: sentences on what was left out.
    """

    table: pl.DataFrame
    as_of: datetime
    currency: str | None
    notes: tuple[str, ...]

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a column as float64 [n]."""
        return self.table[name].cast(pl.Float64).to_numpy()


def histories(events: pl.LazyFrame, as_of: datetime, fees: Sequence[str] = ()) -> Histories:
    """Return the histories of all customers from their purchases before `as_of`, less returns.

    events: as in training/data/tables.py, with amounts in the main currency where a rate is known; fees:
    items that are no goods. All orders of one day (UTC) are one purchase, fees included; a day of fees alone
    is no purchase. A return is subtracted from the day of its order, else from the customer's latest earlier
    purchase of the item, else from their latest earlier purchase. A day of which all goods were returned is
    no purchase. Money is in the most frequent currency; days in another currency are purchases without a
    price. Raises NoPurchases.
    """
    days, currency, notes = _purchase_days(events, as_of, fees)
    if days.is_empty():
        raise NoPurchases(f"nobody bought and kept anything before {as_of:%Y-%m-%d %H:%M}")
    return Histories(_summary(days, as_of), as_of, currency, notes)


def purchases_between(
    events: pl.LazyFrame, begin: datetime, end: datetime, fees: Sequence[str] = ()
) -> pl.DataFrame:
    """Return customer_id, num_purchases and spend of the days from `begin` (a midnight) on and before `end`.

    The purchases are those of `histories(events, end)`: what was returned before `end` is no purchase.
    """
    days, _, _ = _purchase_days(events, end, fees)
    chosen = days.filter(pl.col(_DAY) >= begin.date())
    return chosen.group_by(_KEY).agg(num_purchases=pl.len().cast(pl.Int64), spend=pl.col("amount").sum())


def _purchase_days(
    events: pl.LazyFrame, as_of: datetime, fees: Sequence[str]
) -> tuple[pl.DataFrame, str | None, tuple[str, ...]]:
    """Return purchase days (one row per customer and day), the main currency, and notes on rows left out."""
    rows = events.filter(
        pl.col(_KEY).is_not_null(), pl.col("timestamp") < as_of, pl.col("event").is_in(["purchase", "return"])
    )
    currency = main_currency(rows)
    lines = _lines(rows, currency, fees).collect()
    bought, back = (lines.filter(pl.col("event") == kind).drop("event") for kind in ("purchase", "return"))
    days = _days(bought, _dated_returns(bought, back))
    return days.filter(~pl.col("undone")).drop("undone"), currency, _notes(lines, days, currency)


def checked(table: pl.DataFrame) -> pl.DataFrame:
    """Return `table` if its histories are possible; else raise BadHistory naming the first column and row.

    frequency, recency and T are at least 0 and finite, frequency whole; recency is at most T, and 0 exactly
    when frequency is; monetary_value is at least 0 or missing.
    """
    for name in ("frequency", "recency", "T"):
        _refuse(
            table, ~(pl.col(name).is_finite() & (pl.col(name) >= 0)), name, "it must be a number from 0 up"
        )
    whole = pl.col("frequency").cast(pl.Float64)
    _refuse(table, whole != whole.round(), "frequency", "it must be a whole number of repeat purchases")
    _refuse(table, pl.col("recency") > pl.col("T"), "recency", "it must be at most T, in the same unit")
    once, same_day = pl.col("frequency") == 0, pl.col("recency") == 0
    _refuse(table, once & ~same_day, "recency", "it must be 0 where frequency is 0")
    _refuse(
        table, ~once & same_day, "recency", "it must be above 0 where frequency is: one day is one purchase"
    )
    spend = pl.col("monetary_value").fill_nan(None)
    impossible = spend.is_infinite() | (spend < 0)
    _refuse(table, impossible, "monetary_value", "it must be from 0 up: take returns off first")
    return table


def _refuse(table: pl.DataFrame, bad: pl.Expr, column: str, rule: str) -> None:
    mask = table.select(bad.fill_null(column != "monetary_value")).to_series()
    if mask.any():
        row = int(mask.arg_max() or 0)
        raise BadHistory(f"{column} of row {row} is {table[column][row]}; {rule}")


def _lines(rows: pl.LazyFrame, currency: str | None, fees: Sequence[str]) -> pl.LazyFrame:
    return rows.select(
        _KEY,
        "event",
        "item_id",
        "order_id",
        "currency",
        "timestamp",
        pl.col("timestamp").dt.date().alias(_DAY),
        ~pl.col("item_id").is_in(list(fees)).fill_null(False).alias("is_good"),
        amount=pl.when(is_in(currency)).then(line_total().clip(lower_bound=0)),
    )


def _dated_returns(bought: pl.DataFrame, back: pl.DataFrame) -> pl.DataFrame:
    """Return customer_id, day, is_good and amount of returns, by the day of the purchase."""
    columns, found = [_KEY, _DAY, "is_good", "amount"], []
    left = back.select(_KEY, "item_id", "order_id", "timestamp", "is_good", "amount").sort("timestamp")
    orders = (
        bought.filter(pl.col("order_id").is_not_null()).group_by(_KEY, "order_id").agg(pl.col(_DAY).min())
    )
    by_order = left.join(orders, on=[_KEY, "order_id"], how="left", maintain_order="left")
    found.append(by_order.filter(pl.col(_DAY).is_not_null()).select(columns))
    left = by_order.filter(pl.col(_DAY).is_null()).drop(_DAY)
    bought = bought.sort("timestamp")
    for keys in ([_KEY, "item_id"], [_KEY]):
        earlier = bought.select(*keys, "timestamp", _DAY)
        matched = left.join_asof(
            earlier, on="timestamp", by=keys, strategy="backward", check_sortedness=False
        )
        found.append(matched.filter(pl.col(_DAY).is_not_null()).select(columns))
        left = matched.filter(pl.col(_DAY).is_null()).drop(_DAY)
    return pl.concat(found)


def _days(bought: pl.DataFrame, back: pl.DataFrame) -> pl.DataFrame:
    """Return one row per customer and day with goods: amount (null without a price), and undone."""
    goods = pl.col("amount").filter("is_good").sum()
    gross = bought.group_by(_KEY, _DAY).agg(
        pl.col("amount").sum(),
        goods=goods,
        unpriced=pl.col("amount").is_null().any(),
        has_goods=pl.col("is_good").any(),
    )
    returned = back.group_by(_KEY, _DAY).agg(returned=pl.col("amount").sum(), goods_returned=goods)
    joined = gross.filter("has_goods").join(returned, on=[_KEY, _DAY], how="left")
    joined = joined.with_columns(pl.col("returned", "goods_returned").fill_null(0.0))
    net = pl.col("amount") - pl.col("returned")
    kept = pl.min_horizontal(net, pl.col("goods") - pl.col("goods_returned"))
    # Rounding errors of sums of prices are far below a hundredth.
    undone = ~pl.col("unpriced") & (pl.col("returned") > 0) & (kept < 0.005)
    return joined.select(_KEY, _DAY, undone=undone, amount=pl.when(~pl.col("unpriced") & (net > 0)).then(net))


def _summary(days: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    first, last = pl.col(_DAY).min(), pl.col(_DAY).max()
    return (
        days.group_by(_KEY)
        .agg(
            frequency=pl.len().cast(pl.Int64) - 1,
            recency=(last - first).dt.total_days(),
            T=(pl.lit(as_of.date()) - first).dt.total_days(),
            num_priced=pl.col("amount").count().cast(pl.Int64),
            monetary_value=pl.col("amount").mean().fill_null(float("nan")),
        )
        .sort(_KEY)
    )


def _notes(lines: pl.DataFrame, days: pl.DataFrame, currency: str | None) -> tuple[str, ...]:
    notes = []
    unrated = lines.filter(~is_in(currency), pl.col("event") == "purchase")
    foreign = unrated.filter(pl.col("currency").is_not_null())
    if foreign.height:
        others = ", ".join(sorted(foreign["currency"].unique().to_list()))
        remedy = f"[currency.rates] of the sources file says how many {currency} one is"
        notes.append(
            f"{foreign.height:,} purchases in {others} count without their money, no rate is known; {remedy}"
        )
    if unrated.height > foreign.height:
        notes.append(
            f"{unrated.height - foreign.height:,} purchases without a currency count without their money; "
            f"if it is {currency}, say so under [source.constants] of their source"
        )
    undone = int(days["undone"].sum())
    if undone:
        notes.append(f"{undone:,} purchase days were sent back whole and count as none")
    return tuple(notes)
