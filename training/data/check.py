"""Totals to compare with the shop's books: rows, orders, customers, revenue, period, median basket."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.data.cleaning.goods import fee_ids
from shopsight.training.data.money import NO_CURRENCY, line_total, totals
from shopsight.training.data.tables import scan_table

COMPARE = "compare these with the shop's own books before training"


@dataclass(frozen=True)
class Takings:
    """Sales in one currency; net = sold - returned. median_basket: median order value after discounts.

    fees: the part of `net` that is not for goods: postage, fees, gift cards, minus discounts that are lines.
    """

    currency: str | None
    orders: int
    sold: float
    returned: float
    net: float
    median_basket: float | None
    fees: float = 0.0


@dataclass(frozen=True)
class Books:
    """Totals of a workspace's tables; `read`, `accepted` and `set_aside` are rows of its last ingest.

    notes: detected properties of its files. unread: files that could not be read, and why.
    """

    read: int
    accepted: int
    set_aside: dict[str, int]
    events: dict[str, int]
    orders: int
    customers: int
    buyers: int
    first: datetime | None
    last: datetime | None
    takings: tuple[Takings, ...]
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the totals as JSON-ready data."""
        raw = asdict(self)
        return raw | {name: str(raw[name]) if raw[name] else None for name in ("first", "last")}

    def lines(self) -> list[str]:
        """Return the totals as lines of text."""
        aside = ", ".join(f"{count:,} {reason}" for reason, count in self.set_aside.items())
        events = ", ".join(f"{count:,} {event}" for event, count in self.events.items())
        told = [
            *(f"note       {note}" for note in self.notes),
            *(f"not read   {problem}" for problem in self.unread),
            f"rows       {self.read:,} read, {self.accepted:,} accepted; set aside: {aside or 'none'}",
            f"events     {events or 'none'}",
            f"orders     {self.orders:,}",
            f"customers  {self.customers:,}, of whom {self.buyers:,} bought",
        ]
        if self.first and self.last:
            told.append(f"sales      {self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M} UTC")
        for one in self.takings:
            name = one.currency or NO_CURRENCY
            basket = "" if one.median_basket is None else f", median basket {one.median_basket:,.2f}"
            told.append(
                f"revenue    {one.net:,.2f} {name} ({one.sold:,.2f} sold in {one.orders:,} orders, "
                f"{one.returned:,.2f} returned{basket})"
            )
            if one.fees:
                told.append(f"           {one.fees:,.2f} {name} of it for no goods: postage, fees, discounts")
        return [*told, COMPARE]


# What the sources file has to say, because the totals are wrong without it.
_TO_BE_SAID = {
    "unknown_status": "say under [source.values.status] what their statuses mean",
    "missing_currency": 'write currency = "…" under [source.constants]',
    "two_currencies": "take the column out that names another currency than the amounts carry",
}


def check(tables: Path) -> Books:
    """Compute the totals of the tables; raises TablesError if there are none."""
    report = read_snapshot(tables)["note"].get("report") or {}
    events = scan_table(tables, "events")
    counts = dict(events.group_by("event").len().sort("event").collect().iter_rows())
    bought = events.filter(pl.col("event") == "purchase")
    orders, buyers, first, last = (
        bought.select(
            pl.col("order_id").drop_nulls().n_unique().alias("orders"),
            pl.col("customer_id").drop_nulls().n_unique().alias("buyers"),
            pl.col("timestamp").min().alias("first"),
            pl.col("timestamp").max().alias("last"),
        )
        .collect()
        .row(0)
    )
    return Books(
        read=report.get("read", 0),
        accepted=report.get("accepted", 0),
        set_aside=report.get("refused", {}),
        events=counts,
        orders=orders,
        customers=scan_table(tables, "customers").select(pl.len()).collect().item(),
        buyers=buyers,
        first=first,
        last=last,
        takings=_takings(events, fee_ids(scan_table(tables, "items").collect())),
        notes=tuple(report.get("notes", ())),
        unread=tuple(report.get("unread", ())),
    )


def questions(books: Books) -> list[str]:
    """What the sources file has to answer before the totals are right, a line each."""
    rows = [
        f"asked: rows refused for {reason}: {books.set_aside[reason]:,}; {remedy}"
        for reason, remedy in _TO_BE_SAID.items()
        if books.set_aside.get(reason)
    ]
    nameless = [one for one in books.takings if one.currency is None and (one.sold or one.returned)]
    return rows + [
        f'asked: {one.net:,.2f} is in no currency: write currency = "…" under [source.constants]'
        for one in nameless
    ]


def _takings(events: pl.LazyFrame, fees: pl.Series) -> tuple[Takings, ...]:
    orders = events.filter(pl.col("event") == "purchase", pl.col("order_id").is_not_null())
    orders = orders.filter(pl.col("price").is_not_null())
    baskets = orders.group_by("currency", "order_id").agg(line_total().sum().alias("basket"))
    usual = baskets.group_by("currency").agg(pl.len().alias("orders"), pl.col("basket").median())
    table = totals(events).join(usual.collect(), on="currency", how="left", nulls_equal=True)
    of_fees = totals(events.filter(pl.col("item_id").is_in(fees.implode()))).select("currency", fees="net")
    table = table.join(of_fees, on="currency", how="left", nulls_equal=True)
    table = table.sort("num_lines", "currency", descending=[True, False], nulls_last=True)
    rows = table.select(
        "currency", "orders", "sold", "returned", "net", "basket", pl.col("fees").fill_null(0.0)
    ).iter_rows()
    return tuple(Takings(name, count or 0, *amounts) for name, count, *amounts in rows)
