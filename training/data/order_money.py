"""Rules over whole orders: repetitions, and the order's currency, discount and refunds for its lines."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from shopsight.training.data.fields import ORDER_TYPES
from shopsight.training.data.loading import refusals
from shopsight.training.data.tables import PRICE, QUANTITY

ORDER = ["part", "order_key"]
# Told apart from the row that it takes back, so that both have an event_id.
_RETURN_MARK = 0x5BD1E995
_CENT = 0.005
_AMOUNTS = ("order_discount", "refunded", "order_paid", "order_postage")  # of a whole order


@dataclass(frozen=True)
class Settled:
    """Lines with their share of what was said of their orders, and the rows that were refused (REFUSED)."""

    rows: pl.DataFrame
    refused: list[pl.DataFrame]


def told_before(rows: pl.DataFrame, repeating: dict[int, int]) -> pl.Series:
    """Mark lines of an order that an earlier event of the same customer told (boolean, [rows]).

    rows: lines sorted by time within a customer; repeating: of the parts whose logs may repeat an order, the
    number that parts of one name share. Lines of one time are one event, so equal lines within it stay.
    """
    line = ["order_id", "item_id", "line_id", "quantity", "price", "customer_row"]
    shop = pl.col("part").cast(pl.Int64).replace_strict(repeating, default=None, return_dtype=pl.Int64)
    key: list[pl.Expr] = [shop.alias("shop"), *(pl.col(name) for name in line if name in rows.columns)]
    asked = (pl.col("event") == "purchase") & pl.col("order_id").is_not_null() & shop.is_not_null()
    first = pl.when(asked).then("timestamp").min().over(*key)
    return rows.select((asked & (pl.col("timestamp") > first)).fill_null(False).alias("repeated")).to_series()


def settle_orders(rows: pl.DataFrame, states_currency: list[int]) -> Settled:
    """Bring what is said of orders to their lines; returned orders and refunds become rows of returns.

    rows: lines of some customers, `part` the number of the source, and columns of ORDER_TYPES where a source
    has them; states_currency: parts with a currency column. A line without a currency takes that of its
    order; a priced sale or return of such a part that has none then is refused. An order's discount (stated,
    or what its lines cost more than was paid without postage), and what was refunded of it, are spread over
    its lines by their money; what was refunded is at most what was paid. Orders whose lines contradict each
    other are refused.
    """
    told = [name for name in ORDER_TYPES if name in rows.columns and rows[name].null_count() < rows.height]
    blanks = "currency" in rows.columns and rows["currency"].null_count() > 0
    if not told and not blanks:
        return Settled(rows, [])
    rows, refused = rows.with_columns(_order_key()), []
    if blanks:
        rows, late = _with_currency(rows, states_currency)
        refused.append(late)
    for name in _AMOUNTS:
        if name in told:
            rows, late = _one_value_an_order(rows, name)
            refused.append(late)
    if not {"order_discount", "order_paid"}.isdisjoint(told):
        rows = _with_order_discount(rows)
    if not {"refunded", "is_returned"}.isdisjoint(told):
        rows = pl.concat([rows, _returns(rows)])
    return Settled(rows.drop("order_key"), refused)


def _order_key() -> pl.Expr:
    """The order of a line; a line without one is alone."""
    alone = pl.format("\n{} {}", "file", "row")
    return pl.coalesce("order_id", alone).alias("order_key")


def _with_currency(rows: pl.DataFrame, states_currency: list[int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    asks = pl.col("part").is_in(states_currency)
    missing = pl.col("currency").is_null()
    has_price = pl.col("price").is_not_null() if "price" in rows.columns else pl.lit(False)
    if not rows.select((missing & (asks | has_price)).any()).item():
        return rows, refusals(rows.clear(), "currency", "missing_currency")
    said = rows.filter(pl.col("currency").is_not_null()).group_by(ORDER)
    only = said.agg(pl.col("currency").unique().alias("said")).filter(pl.col("said").list.len() == 1)
    only = only.with_columns(pl.col("said").list.first())
    rows = rows.join(only, on=ORDER, how="left", maintain_order="left")
    rows = rows.with_columns(pl.when(missing).then("said").otherwise("currency").alias("currency")).drop(
        "said"
    )
    priced = asks & missing & has_price & pl.col("event").is_in(["purchase", "return"])
    return rows.filter(~priced), refusals(rows.filter(priced), "currency", "missing_currency")


def _one_value_an_order(rows: pl.DataFrame, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The one value that lines of an order state, on all of them; nulls and zeros beside it say nothing."""
    stated = rows.filter(pl.col(name) > 0).group_by(ORDER)
    values = stated.agg(pl.col(name).first().alias("said"), pl.col(name).n_unique().alias("many"))
    rows = rows.join(values, on=ORDER, how="left", maintain_order="left")
    contradict = (pl.col("many") > 1).fill_null(False)
    late = refusals(rows.filter(contradict), name, "order_contradicts_itself")
    rows = rows.filter(~contradict).with_columns(pl.col("said").alias(name)).drop("said", "many")
    return rows, late


def _net() -> pl.Expr:
    """What a line cost, float64."""
    pieces = pl.col("quantity").cast(pl.Float64).fill_null(1.0)
    discount = pl.col("discount").cast(pl.Float64).fill_null(0.0)
    return (pieces * pl.col("price").cast(pl.Float64) - discount).fill_null(0.0).clip(lower_bound=0.0)


def _with_discount(rows: pl.DataFrame) -> pl.DataFrame:
    if "discount" in rows.columns:
        return rows
    return rows.with_columns(pl.lit(None, dtype=ORDER_TYPES["order_discount"]).alias("discount"))


def _with_order_discount(rows: pl.DataFrame) -> pl.DataFrame:
    """Spread each order's discount so that the shares of its lines are the whole to a hundredth of a cent."""
    rows = _with_discount(rows).with_columns(
        pl.when(pl.col("event") == "purchase").then(_net()).otherwise(0.0).alias("net")
    )
    whole = pl.col("net").sum().over(ORDER)
    stated = {
        name: pl.col(name).cast(pl.Float64).fill_null(0.0) if name in rows.columns else pl.lit(0.0)
        for name in _AMOUNTS
    }
    goods = stated["order_paid"] - stated["order_postage"]
    unpaid = pl.when(stated["order_paid"] > 0).then(whole - goods).otherwise(0.0).clip(lower_bound=0.0)
    most = pl.min_horizontal(pl.max_horizontal(stated["order_discount"], unpaid), whole)
    upto = pl.col("net").cum_sum().over(ORDER)
    rows = rows.with_columns((most * upto / pl.when(whole > 0).then(whole)).round(4).alias("upto"))
    share = pl.col("upto") - pl.col("upto").shift().over(ORDER).fill_null(0.0)
    discount = pl.col("discount").cast(pl.Float64).fill_null(0.0) + share.round(4)
    dtype = rows.schema["discount"]
    has_share = share.is_not_null() & (share != 0)
    rows = rows.with_columns(
        pl.when(has_share).then(discount.round(4).cast(dtype)).otherwise("discount").alias("discount")
    )
    return rows.drop("net", "upto")


def _returns(rows: pl.DataFrame) -> pl.DataFrame:
    """A row of return for each line of an order that came back, or of which money was given back.

    What rows of the order say themselves of returns is taken off first.
    """
    columns = rows.columns
    never = pl.lit(None, dtype=ORDER_TYPES["refunded"])
    refunded = (pl.col("refunded") if "refunded" in columns else never).cast(pl.Float64).fill_null(0.0)
    whole = pl.col("is_returned").fill_null(False) if "is_returned" in columns else pl.lit(False)
    bought = pl.col("event") == "purchase"
    work = _with_discount(rows).with_columns(net=_net(), whole=whole, back_in_all=refunded)
    work = work.with_columns(
        paid=pl.when(bought).then("net").otherwise(0.0).sum().over(ORDER),
        back=pl.when(pl.col("event") == "return").then("net").otherwise(0.0).sum().over(ORDER),
    )
    owed = pl.when(pl.col("whole")).then("paid").otherwise(pl.min_horizontal("back_in_all", "paid"))
    share = ((owed - pl.col("back")) / pl.when(pl.col("paid") > 0).then("paid")).clip(0.0, 1.0)
    # A returned order that cost nothing came back as well.
    share = (
        pl.when(pl.col("whole") & (pl.col("paid") == 0) & (pl.col("back") == 0)).then(1.0).otherwise(share)
    )
    is_part = pl.col("share") < 1.0 - 1e-9
    is_worth_it = (pl.col("share") * pl.max_horizontal("paid", 1.0) > _CENT) & (
        ~is_part | (pl.col("net") > 0)
    )
    work = work.with_columns(share=share).filter(bought & is_worth_it)
    pieces = pl.col("quantity").cast(pl.Float64).fill_null(1.0) * pl.col("share")
    pieces = pl.max_horizontal(pieces.round(4), 0.0001)
    unit = (pl.col("net") * pl.col("share") / pieces).round(8)
    changed = [
        pl.lit("return").alias("event"),
        (pl.col("lo") ^ pl.lit(_RETURN_MARK, dtype=pl.UInt32)).alias("lo"),
        pl.when(is_part).then(pieces.cast(QUANTITY)).otherwise("quantity").alias("quantity"),
        pl.when(is_part).then(unit.cast(PRICE)).otherwise("price").alias("price"),
        pl.when(~is_part).then("discount").alias("discount"),
    ]
    if "returned_at" in columns:
        changed.append(pl.coalesce("returned_at", "timestamp").alias("timestamp"))
    return work.with_columns(changed).select(pl.col(n) for n in columns)
