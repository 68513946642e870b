"""Builds the events and exposures tables bucket by bucket.

A bucket holds all rows of some ids, so that duplicates are in one bucket, and only one bucket is in memory at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.digests import Digests, keyed_ids
from shopsight.training.data.fields import ORDER_TYPES, field_type
from shopsight.training.data.intake_writer import IDS_SCHEMA, NUM_BUCKETS
from shopsight.training.data.loading import FILE, STREAMED, Loaded, refusals
from shopsight.training.data.order_money import settle_orders, told_before
from shopsight.training.data.tables import SCHEMAS

ROWS_PER_PART = 500_000
_EVENT_OF_KIND = {"reviews": "review", "messages": "message"}
_KEYS: dict[str, Any] = {
    "file": FILE, "row": pl.UInt32, "hi": pl.UInt64, "lo": pl.UInt32, "customer_row": pl.UInt32,
    "kept": pl.Boolean, "part": pl.UInt16,
}  # fmt: skip
_IDS = {**IDS_SCHEMA, "who": pl.UInt64, "source": pl.String}
_ORDER = {
    "events": ("customer_row", "timestamp", "hi"),
    "exposures": ("customer_row", "timestamp", "request_id", "rank", "hi"),
}


@dataclass(frozen=True)
class Directory:
    """Who the raw ids are: `names` [n] are the customer ids, sorted; the frames point into them.

    rows: (who, bucket, customer_row); accounts: (source, source_id, customer_row).
    """

    names: pl.Series
    rows: pl.DataFrame
    accounts: pl.DataFrame


@dataclass(frozen=True)
class Bucket:
    """A part of a table, and the rows that were refused on the way (REFUSED)."""

    table: pl.DataFrame
    refused: list[pl.DataFrame]


def directory(loaded: list[Loaded], customers: pl.DataFrame) -> Directory:
    """Look up every raw id; `customers` maps (source, source_id) to customer_id."""
    names = customers["customer_id"].unique().sort()
    numbers = pl.DataFrame(
        {"customer_id": names, "customer_row": pl.int_range(names.len(), dtype=pl.UInt32, eager=True)}
    )
    accounts = customers.join(numbers, on="customer_id", how="left").drop("customer_id")
    streamed = [part for part in loaded if part.source.kind in STREAMED]
    ids = pl.concat([pl.DataFrame(schema=_IDS), *(part.ids() for part in streamed)])
    rows = ids.join(accounts, on=["source", "source_id"], how="left").select("who", "bucket", "customer_row")
    return Directory(names, rows, accounts)


def events_table(
    loaded: list[Loaded], people: Directory, known_items: pl.Series | None, key: PseudonymKey, engine: Any
) -> Iterator[Bucket]:
    """Gather events, order lines, reviews and messages; each part sorted by customer and time.

    Rows without an id have a null customer_id; rows that name an item which is not among `known_items` are
    refused. event_id comes from the raw record, under the key, so the same raw rows give the same ids in any
    order.
    """
    parts = [part for part in loaded if part.source.kind in ("events", "orders")]
    texts = [_as_events(part, people) for part in loaded if part.source.kind in _EVENT_OF_KIND]
    yield from _buckets("events", parts, [t for t in texts if t.height], people, known_items, key, engine)


def exposures_table(
    loaded: list[Loaded], people: Directory, known_items: pl.Series | None, key: PseudonymKey, engine: Any
) -> Iterator[Bucket]:
    """Gather what was shown: one row an item of a request."""
    parts = [part for part in loaded if part.source.kind == "exposures"]
    yield from _buckets("exposures", parts, [], people, known_items, key, engine)


def with_customer(rows: pl.DataFrame, source: str, people: Directory) -> pl.DataFrame:
    """Join `customer_row` and customer_id of each row's (source, source_id)."""
    if "source_id" not in rows.columns:
        return rows.with_columns(
            pl.lit(None, dtype=pl.UInt32).alias("customer_row"),
            pl.lit(None, dtype=pl.String).alias("customer_id"),
        )
    known = people.accounts.filter(pl.col("source") == source).select("source_id", "customer_row")
    rows = rows.join(known, on="source_id", how="left", maintain_order="left")
    return rows.with_columns(people.names.gather(rows["customer_row"]).alias("customer_id"))


def _buckets(
    table: str,
    parts: list[Loaded],
    gathered: list[pl.DataFrame],
    people: Directory,
    known_items: pl.Series | None,
    key: PseudonymKey,
    engine: Any,
) -> Iterator[Bucket]:
    num = _num_parts(parts, gathered, engine)
    if not parts and not gathered:
        yield Bucket(pl.DataFrame(schema=SCHEMAS[table]), [])
        return
    wanted = _columns(table, [part.scan().collect_schema().names() for part in parts], gathered)
    states_currency = [i for i, part in enumerate(parts) if "currency" in part.source.columns]
    names = [part.source.name for part in parts]
    repeating = {
        i: names.index(part.source.name) for i, part in enumerate(parts) if part.source.orders_repeat
    }
    width = NUM_BUCKETS // num
    for first in range(0, NUM_BUCKETS, width):
        here = pl.col("bucket").is_between(first, first + width - 1)
        who = people.rows.lazy().filter(here).drop("bucket")
        frames = [
            part.scan(first, first + width)
            .join(who, on="who", how="left", maintain_order="left")
            .with_columns(pl.lit(part.source.keep_duplicates).alias("kept"), _numbered(number))
            for number, part in enumerate(parts)
        ]
        frames += [
            frame.lazy().filter(here).with_columns(pl.lit(False).alias("kept"), _numbered(len(parts)))
            for frame in gathered
        ]
        rows = pl.concat(_uniform(frame, wanted) for frame in frames)
        rows = rows.sort(_ORDER[table], nulls_last=True, maintain_order=True)
        rows = rows.with_columns(*_faults(known_items))
        yield _bucket(table, rows.collect(engine=engine), people, key, states_currency, repeating)


def _numbered(part: int) -> pl.Expr:
    return pl.lit(part, dtype=pl.UInt16).alias("part")


def _faults(known_items: pl.Series | None) -> tuple[pl.Expr, pl.Expr]:
    """Equal records are neighbours after sorting; the first in order of files and rows stays."""
    again = (pl.col("hi") == pl.col("hi").shift()) & (pl.col("lo") == pl.col("lo").shift())
    again = again & ~pl.col("kept")
    unknown = pl.lit(False)
    if known_items is not None:
        unknown = pl.col("item_id").is_not_null() & ~pl.col("item_id").is_in(known_items.implode())
    return again.fill_null(False).alias("again"), unknown.alias("unknown")


def _bucket(
    table: str,
    rows: pl.DataFrame,
    people: Directory,
    key: PseudonymKey,
    states_currency: list[int],
    repeating: dict[int, int],
) -> Bucket:
    refused = []
    if rows["again"].any() or rows["unknown"].any():
        unknown = pl.col("unknown") & ~pl.col("again")
        refused = [
            refusals(rows.filter("again"), None, "duplicate"),
            refusals(rows.filter(unknown), "item_id", "unknown_item"),
        ]
        rows = rows.filter(~(pl.col("again") | pl.col("unknown")))
    if table == "events":
        if repeating:
            repeated = told_before(rows, repeating)
            refused.append(refusals(rows.filter(repeated), "order_id", "repeated_order"))
            rows = rows.filter(~repeated)
        num_lines = rows.height
        settled = settle_orders(rows.drop("again", "unknown"), states_currency)
        rows, refused = settled.rows, [*refused, *settled.refused]
        if rows.height > num_lines:
            rows = rows.sort(_ORDER[table], nulls_last=True, maintain_order=True)
    columns = [people.names.gather(rows["customer_row"]).alias("customer_id")]
    if table == "events":
        columns.append(keyed_ids(_told_apart(rows), key, "event").alias("event_id"))
    schema = SCHEMAS[table]
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in schema.items() if n not in rows.columns]
    finished = rows.with_columns(missing).with_columns(columns)
    return Bucket(finished.select(pl.col(n).cast(t) for n, t in schema.items()), refused)


def _told_apart(rows: pl.DataFrame) -> Digests:
    """The digests of the rows; duplicates that a source keeps are counted into theirs."""
    hi, lo = rows["hi"].to_numpy(), rows["lo"].to_numpy()
    if not rows["kept"].any():
        return Digests(hi, lo)
    nth = rows.select(pl.int_range(pl.len(), dtype=pl.UInt32).over("hi", "lo")).to_series().to_numpy()
    return Digests(hi, lo ^ (nth * np.uint32(0x9E3779B1)))


def _columns(table: str, names: list[list[str]], gathered: list[pl.DataFrame]) -> list[str]:
    """What rows carry on their way: of the table's columns those that any source has."""
    present = {name for columns in (*names, *(frame.columns for frame in gathered)) for name in columns}
    always = ("item_id", "order_id", *_ORDER[table])
    of_orders = [n for n in ORDER_TYPES if n in present] if table == "events" else []
    return [*_KEYS, *(n for n in SCHEMAS[table] if n in present or n in always), *of_orders]


def _uniform(rows: pl.LazyFrame, wanted: list[str]) -> pl.LazyFrame:
    """The wanted columns, so that sources of different width lie below each other."""
    present = set(rows.collect_schema().names())
    missing = [pl.lit(None, dtype=_type(n)).alias(n) for n in wanted if n not in present]
    return rows.with_columns(missing).select(wanted)


def _type(name: str) -> Any:
    return _KEYS.get(name) or field_type(name)


def _as_events(part: Loaded, people: Directory) -> pl.DataFrame:
    """Reviews and messages that have a time, as rows of the events table."""
    if "timestamp" not in part.rows.columns:
        return pl.DataFrame()
    rows = part.rows.filter(pl.col("timestamp").is_not_null())
    rows = with_customer(rows, part.source.name, people).drop("customer_id")
    return rows.with_columns(pl.lit(_EVENT_OF_KIND[part.source.kind]).alias("event"))


def _num_parts(parts: list[Loaded], gathered: list[pl.DataFrame], engine: Any) -> int:
    """A power of two that follows from how many different records there are, however often each came."""
    most = sum(e.num_rows for p in parts for e in p.entries) + sum(f.height for f in gathered)
    if most <= ROWS_PER_PART:
        return 1
    records = [p.scan().select("hi") for p in parts] + [f.lazy().select("hi") for f in gathered]
    different = pl.concat(records).select(pl.col("hi").n_unique()).collect(engine=engine).item()
    num = 1
    while num < NUM_BUCKETS and num * ROWS_PER_PART < different:
        num *= 2
    return num
