"""The events and exposures tables: what customers did, and what they were shown, in every channel."""

from __future__ import annotations

import polars as pl

from training.data.digests import content_ids
from training.data.loading import Loaded, as_table
from training.data.tables import SCHEMAS

_EVENT_OF_KIND = {"reviews": "review", "messages": "message"}


def events_table(loaded: list[Loaded], customers: pl.DataFrame) -> pl.DataFrame:
    """Gather events, order lines, reviews and messages, sorted by time.

    `customers` maps (source, source_id) to customer_id; rows without an id have a null customer_id. event_id
    is a hash of the content without the customer, so the same raw rows give the same ids in any order.
    """
    parts = [pl.DataFrame(schema=SCHEMAS["events"])]
    for part in loaded:
        if part.source.kind not in ("events", "orders", "reviews", "messages"):
            continue
        rows = part.rows
        if kind_event := _EVENT_OF_KIND.get(part.source.kind):
            if "timestamp" not in rows.columns:
                continue
            rows = rows.filter(pl.col("timestamp").is_not_null()).with_columns(
                pl.lit(kind_event).alias("event")
            )
        rows = rows.with_columns(_event_ids(part.source.name, rows))
        parts.append(as_table(with_customer(rows, part.source.name, customers), "events"))
    return pl.concat(parts).sort("timestamp", "event_id")


def exposures_table(loaded: list[Loaded], customers: pl.DataFrame) -> pl.DataFrame:
    """Gather what was shown: one row an item of a request."""
    parts = [pl.DataFrame(schema=SCHEMAS["exposures"])]
    for part in loaded:
        if part.source.kind == "exposures":
            parts.append(as_table(with_customer(part.rows, part.source.name, customers), "exposures"))
    return pl.concat(parts).sort("request_id", "rank", "item_id", "customer_id", "timestamp")


def with_customer(rows: pl.DataFrame, source: str, customers: pl.DataFrame) -> pl.DataFrame:
    """Join the customer_id of each row's (source, source_id)."""
    if "source_id" not in rows.columns:
        return rows.with_columns(pl.lit(None, dtype=pl.String).alias("customer_id"))
    known = customers.filter(pl.col("source") == source).select("source_id", "customer_id")
    return rows.join(known, on="source_id", how="left", maintain_order="left")


def _event_ids(source: str, rows: pl.DataFrame) -> pl.Series:
    columns = [n for n in ("source_id", "message_id", *SCHEMAS["events"]) if n in rows.columns]
    named = rows.with_columns(pl.lit(source).alias("source"))
    return content_ids(named, ["source", *columns]).alias("event_id")
