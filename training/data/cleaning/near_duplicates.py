"""Near duplicates: the same event or text in different bytes. They are flagged, not removed."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
from rapidfuzz import fuzz

from shopsight.training.data.tables import SCHEMAS

WINDOW = timedelta(seconds=2)
MIN_TEXT = 20  # letters and digits; shorter texts are alike by chance
MIN_RATIO = 90.0
_MAX_BLOCK = 40
_WHAT = ["item_id", "event", "price", "quantity", "order_id", "line_id", "session_id"]
_LINE = ["order_id", "line_id", "item_id", "event"]


def near_duplicate_events(events: pl.DataFrame) -> pl.DataFrame:
    """Flag a customer's event that came within WINDOW of the same one, and order lines that came again.

    The same: item, event, price, quantity, order, line and session (near_duplicate); order, line, item and
    event with something else changed (resent_line). `related_id` is the event that came first. events: one
    part of the events table, sorted by customer and time. Returns SCHEMAS["flags"].
    """
    known = pl.col("customer_id").is_not_null() | pl.col("session_id").is_not_null()
    rows = events.filter((known | pl.col("order_id").is_not_null()) & pl.col("item_id").is_not_null())
    same = pl.col("customer_id").eq_missing(pl.col("customer_id").shift())
    soon = same & (pl.col("timestamp") - pl.col("timestamp").shift() <= WINDOW)
    # Only rows of a burst are grouped: most rows are alone in their seconds.
    bursts = rows.filter(soon.fill_null(False) | soon.shift(-1).fill_null(False))
    who = ["customer_id", "channel"]
    earlier = _earlier(bursts, [*who, *_WHAT]).filter(pl.col("timestamp") - pl.col("when") <= WINDOW)
    lines = rows.filter(pl.col("order_id").is_not_null() & pl.col("line_id").is_not_null())
    resent = _earlier(lines, [*who, *_LINE]).filter(pl.col("first_id").is_not_null())
    resent = resent.join(earlier, on="event_id", how="anti")
    return pl.concat(
        [_flags(earlier, "near_duplicate", "first_id"), _flags(resent, "resent_line", "first_id")]
    )


def near_duplicate_texts(messages: pl.DataFrame) -> pl.DataFrame:
    """Flag a text that nearly equals an earlier one of the same author or on the same item.

    Compared without case, spaces and punctuation; of texts that begin or end with the same words the
    Indel similarity must reach MIN_RATIO. Returns SCHEMAS["flags"]; `value` is the similarity.
    """
    plain = pl.col("text").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    rows = messages.sort("timestamp", "message_id", nulls_last=True).select(
        "message_id", "customer_id", "item_id", plain.alias("plain"),
        pl.int_range(pl.len()).alias("at"),
    ).filter(pl.col("plain").str.len_chars() >= MIN_TEXT)  # fmt: skip
    words = pl.col("plain").str.split(" ")
    ends = {"head": words.list.head(3).list.join(" "), "tail": words.list.tail(3).list.join(" ")}
    pairs = []
    for whose in ("customer_id", "item_id"):
        for end, expression in ends.items():
            block = rows.filter(pl.col(whose).is_not_null()).with_columns(expression.alias(end))
            block = block.filter(pl.len().over(whose, end).is_between(2, _MAX_BLOCK))
            pairs.append(_pairs(block, [whose, end]))
    found = pl.concat(pairs).unique(["at", "at_right"]).sort("at", "at_right")
    ratios = [fuzz.ratio(a, b) for a, b in found.select("plain_right", "plain").iter_rows()]
    found = found.with_columns(pl.Series("value", ratios, dtype=pl.Float64))
    found = found.filter(pl.col("value") >= MIN_RATIO).unique("at_right", keep="first", maintain_order=True)
    return found.select(
        pl.lit("messages").alias("table"),
        pl.col("message_id_right").alias("id"),
        pl.col("customer_id_right").alias("customer_id"),
        pl.lit("near_duplicate_text").alias("rule"),
        pl.col("message_id").alias("related_id"),
        "value",
    )


def _pairs(block: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    right = block.rename({n: f"{n}_right" for n in block.columns if n not in keys})
    right = right.with_columns(pl.col(k).alias(f"{k}_right") for k in keys)
    joined = block.join(right, on=keys).filter(pl.col("at") < pl.col("at_right"))
    columns = [f"{n}{s}" for s in ("", "_right") for n in ("at", "message_id", "customer_id", "plain")]
    return joined.select(columns)


def _earlier(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return rows.with_columns(
        pl.col("timestamp").shift().over(keys).alias("when"),
        pl.col("event_id").shift().over(keys).alias("first_id"),
    )


def _flags(rows: pl.DataFrame, rule: str, related: str) -> pl.DataFrame:
    return rows.select(
        pl.lit("events").alias("table"),
        pl.col("event_id").alias("id"),
        "customer_id",
        pl.lit(rule).alias("rule"),
        pl.col(related).alias("related_id"),
        pl.lit(None, dtype=pl.Float64).alias("value"),
    ).select(list(SCHEMAS["flags"]))
