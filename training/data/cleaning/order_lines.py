"""Interprets an order line or event: sold, not sold or returned, with price and discount.

Everything is a Polars expression over the typed fields of one row. Rules over whole orders are in
training/data/order_money.py.
"""

from __future__ import annotations

import polars as pl

from shopsight.training.data.fields import TYPES
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import EVENT_TYPES

NO_SALE = "no sale"
UNKNOWN_EVENT, UNKNOWN_STATUS, IS_NO_SALE = "unknown event", "unknown status", "is no sale"
# What is not kept beside a row: it is in the row's event, price and refusals.
TRANSIENT = (
    "amount", "status", "cancelled_at", "recipient_id", UNKNOWN_EVENT, UNKNOWN_STATUS, IS_NO_SALE,
)  # fmt: skip
_SALES = ("purchase", "return")
_NOT_CANCELLED = ("0", "false", "no", "null", "none", "-", "0000-00-00", "0000-00-00 00:00:00")

Rule = tuple[pl.Expr, str | None, str]  # condition, field, reason


def meaning(source: Source, columns: list[str]) -> list[pl.Expr]:
    """Return expressions for event and customer of each row, whether it is returned, and what is no sale."""
    said, unknown_event = _said(columns)
    status, unknown_status = _status(source, columns)
    zero = pl.col("quantity") == 0 if "quantity" in columns else pl.lit(False)
    cancelled = pl.lit(False)
    if "cancelled_at" in columns:
        cancelled = ~pl.col("cancelled_at").str.to_lowercase().is_in(_NOT_CANCELLED)
    sent_back = pl.lit(False)
    if "quantity" in columns:
        sent_back = pl.col("quantity") < 0
    if source.cancelled_order_prefix and "order_id" in columns:
        sent_back = sent_back | pl.col("order_id").str.starts_with(source.cancelled_order_prefix)
    event = pl.when(sent_back & (said == "purchase")).then(pl.lit("return")).otherwise(said)
    worthless = ~(pl.col("amount").abs() > 0).fill_null(False) if "amount" in columns else pl.lit(True)
    no_sale = (status == NO_SALE) | (said == NO_SALE) | cancelled | (zero & worthless & said.is_in(_SALES))
    found = [
        event.alias("event"),
        unknown_event.alias(UNKNOWN_EVENT),
        unknown_status.alias(UNKNOWN_STATUS),
        no_sale.fill_null(False).alias(IS_NO_SALE),
    ]
    if "recipient_id" in columns:
        # The shop pays a refund, so the payer of that row is the shop and no customer.
        customer = pl.when(event == "return").then("recipient_id").otherwise("source_id")
        found.append(customer.alias("source_id"))
    if "status" in columns:
        is_returned = (status == "returned") & (event == "purchase")
        found.append(is_returned.fill_null(False).alias("is_returned"))
    return found


def first_rules(columns: list[str]) -> list[Rule]:
    """Return the rules by which a row is not a sale; they come first, as other rules are then irrelevant."""
    told = "status" if "status" in columns else "quantity"
    return [(pl.col(IS_NO_SALE), told, "no_sale")]


def rules(source: Source, columns: list[str]) -> list[Rule]:
    """Return the rules that apply to orders and events only."""
    found: list[Rule] = []
    if source.kind == "events":
        needs_item = pl.col("item_id").is_null() if "item_id" in columns else pl.lit(True)
        found.append((needs_item & ~pl.col("event").is_in(_NEEDS_NO_ITEM), "item_id", "missing_field"))
    found.append((pl.col(UNKNOWN_EVENT), "event", "bad_value"))
    if "status" in columns:
        if "" not in source.values.get("status", {}):
            found.append((pl.col("status").is_null(), "status", "missing_field"))
        found.append((pl.col(UNKNOWN_STATUS), "status", "unknown_status"))
    bought = pl.col("event") != "return"
    twice = pl.col("quantity") < 0 if "quantity" in columns else pl.lit(False)
    # A refund may have either sign; a price below zero of a negative quantity says the opposite of one.
    for name, wrong in (("price", bought | twice), ("amount", bought)):
        if name in columns:
            found.append(((pl.col(name) < 0) & wrong, name, "negative_price"))
    if "amount" in columns and "quantity" in columns:
        found.append((pl.col("quantity") == 0, "quantity", "amount_without_quantity"))
    return found


def amounts(source: Source, columns: list[str]) -> list[pl.Expr]:
    """Return expressions for unsigned amounts, and for the unit price if the line's total is known."""
    unsigned = ("quantity", "discount", "order_discount", "refunded", "order_paid", "order_postage", "price")
    found = {name: pl.col(name).abs() for name in unsigned if name in columns}
    if "amount" in columns:
        total = pl.col("amount").abs().cast(pl.Float64)
        if source.amount_after_discount and "discount" in columns:
            total = total + pl.col("discount").abs().fill_null(0).cast(pl.Float64)
        pieces = pl.col("quantity").abs().cast(pl.Float64) if "quantity" in columns else pl.lit(1.0)
        unit = (total / pl.when(pieces > 0).then(pieces).otherwise(1.0)).round(8).cast(TYPES["price"])
        found["price"] = pl.coalesce(unit, found["price"]) if "price" in columns else unit
    return [expression.alias(name) for name, expression in found.items()]


_NEEDS_NO_ITEM = ("search", "message", "exposure")  # an exposure may be a mailing


def _said(columns: list[str]) -> tuple[pl.Expr, pl.Expr]:
    """The event as the row says it, and whether that is none of ours."""
    if "event" not in columns:
        return pl.lit("purchase"), pl.lit(False)
    said = pl.col("event").str.to_lowercase()
    known = said.is_in([*EVENT_TYPES, NO_SALE])
    return pl.when(known).then(said), said.is_not_null() & ~known


def _status(source: Source, columns: list[str]) -> tuple[pl.Expr, pl.Expr]:
    """The status by our words, whatever its case, and whether the sources file does not know it."""
    if "status" not in columns:
        return pl.lit(None, dtype=pl.String), pl.lit(False)
    words = {value.strip().lower(): ours for value, ours in source.values.get("status", {}).items()}
    text = pl.col("status").fill_null("").str.to_lowercase()
    status = text.replace_strict(words, default=None, return_dtype=pl.String)
    return status, status.is_null() & pl.col("status").is_not_null()
