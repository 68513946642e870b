"""The fields that rows of sources carry: their types, and which of them are ids, times or numbers."""

from __future__ import annotations

import polars as pl

from shopsight.training.data.cleaning.times import UTC
from shopsight.training.data.tables import MONEY, PRICE, QUANTITY

# Our field to its type; every other field stays text.
TYPES: dict[str, pl.DataType] = {
    "timestamp": UTC,
    "returned_at": UTC,
    "registered_at": UTC,
    "available_from": UTC,
    "available_to": UTC,
    "birth_date": pl.Date(),
    "quantity": QUANTITY,
    "price": PRICE,
    "amount": MONEY,
    "cost": MONEY,
    "discount": MONEY,
    "order_discount": MONEY,
    "refunded": MONEY,
    "order_paid": MONEY,
    "order_postage": MONEY,
    "rating": pl.Float32(),
    "rank": pl.Int32(),
    "propensity": pl.Float64(),
    "allowed": pl.Boolean(),
    "goods": pl.Boolean(),
}
# Amounts of money, those that the row's currency is asked of first.
MONEY_FIELDS = (
    "price", "amount", "discount", "order_discount", "refunded", "order_paid", "order_postage", "cost",
)  # fmt: skip
# What order lines tell of their whole order, kept beside the rows until the order is settled.
ORDER_TYPES: dict[str, pl.DataType] = {
    "order_discount": MONEY,
    "refunded": MONEY,
    "order_paid": MONEY,
    "order_postage": MONEY,
    "returned_at": UTC,
    "is_returned": pl.Boolean(),
}
IDS = (
    "source_id", "recipient_id", "item_id", "order_id", "line_id", "session_id", "request_id", "message_id",
    "answer_id", "also_id",
)  # fmt: skip
# What Excel guards with an apostrophe, so that it stays text.
GUARDED = (*IDS, "phone", "postcode", "loyalty_number", "gov_id")


def plain_ids(name: str) -> pl.Expr:
    """An id as text without what guards it in Excel and the white space around it."""
    text = pl.col(name).str.replace(r'^="(.*)"$', "$1").str.strip_chars().str.replace(r"^'(\d)", "$1")
    return pl.when(text != "").then(text).alias(name)


def field_type(name: str) -> pl.DataType:
    """The type of our field in cleaned rows."""
    return TYPES.get(name) or ORDER_TYPES.get(name) or pl.String()


def is_stored(name: str) -> bool:
    """Whether a constant is written beside each row: others are put back when rows are read again."""
    return name in TYPES or name in ("event", "source_id", "status")


def is_time(name: str) -> bool:
    """Whether a field is a time or a date."""
    return TYPES.get(name) in (UTC, pl.Date)


def is_number(name: str) -> bool:
    """Whether a field is a number that people write with decimals and thousands."""
    return isinstance(TYPES.get(name), pl.Decimal)


# Fields of several columns that are joined with a space between; of other fields the first that is filled is
# taken.
JOINED = (*(name for name in TYPES if is_time(name)), "full_name", "street", "text")
