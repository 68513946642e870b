"""Joins order lines with the file of their orders, by the order id, to get fields that the lines lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from shopsight.training.data.describing.column_names import Names, names_of
from shopsight.training.data.describing.series import Series
from shopsight.training.data.fields import plain_ids
from shopsight.training.data.reading.readers import read_chunks

# What a file of orders may say of all lines of an order.
_OF_AN_ORDER = (
    "source_id", "timestamp", "currency", "status", "cancelled_at", "order_discount", "refunded",
)  # fmt: skip
_LEAST_KNOWN = 0.5  # of the orders of the lines


@dataclass(frozen=True)
class Joined:
    """Files of orders: their column of the order id, our fields by their columns, and their rows."""

    orders: Series
    key: str
    columns: dict[str, str]
    sample: pl.DataFrame


def joined_with(
    series: Series, names: Names, others: Sequence[Series], *, are_returns: bool
) -> Joined | None:
    """The file of orders for lines that do not say when, or by whom, they were bought; None without.

    are_returns: the buyer alone is asked, and order lines know them as well.
    """
    lacking = [name for name in ("timestamp", "source_id") if not names.found[name]]
    if not {"order_id", "item_id"} <= names.have or not lacking or "event" in names.have:
        return None
    column = names.found["order_id"][0]
    for other in others:
        theirs = names_of(other.header)
        keys = theirs.found["order_id"] or [theirs.plain[n] for n in ("id",) if n in theirs.plain]
        if (
            other is series
            or not keys
            or (theirs.found["item_id"] and not are_returns)
            or lacking[0] not in theirs.have
        ):
            continue
        columns = _brought(names, theirs, keys[0])
        sample = _rows(other, {"order_id": keys[0], **columns})
        if _share_known(_rows(series, {"order_id": column}), sample) >= _LEAST_KNOWN:
            return Joined(other, keys[0], columns, sample)
    return None


def _brought(ours: Names, theirs: Names, key: str) -> dict[str, str]:
    found = {
        name: [column for column in theirs.found[name] if column != key]
        for name in _OF_AN_ORDER
        if not ours.found[name]
    }
    return {name: columns[0] for name, columns in found.items() if columns}


def _rows(series: Series, columns: dict[str, str]) -> pl.DataFrame:
    parts = [
        chunk.rows.select(list(columns))
        for file in series.files
        for chunk in read_chunks(replace(file.probe, columns=columns), file.path)
    ]
    return pl.concat(parts).with_columns(plain_ids("order_id"))


def _share_known(lines: pl.DataFrame, orders: pl.DataFrame) -> float:
    ids = lines["order_id"].drop_nulls().unique()
    known = ids.is_in(orders["order_id"].implode()).mean()
    return known if isinstance(known, float) else 0.0
