"""Measuring customers: our specified features against the same ones hand-written in Polars, and their growth.

Both read the same Parquet files and end with the same table; that they agree is checked before timing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.profiles_by_hand import measure_by_hand
from benchmarks.runner import Report, interleave
from shopsight.training.data.tables import SCHEMAS
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, fit_spec
from shopsight.training.profiles.spec import FeatureSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 365
AS_OF = START + timedelta(days=DAYS)
NUM_ITEMS = 2_000
CATEGORIES = ("Fashion", "Electronics", "Home", "Groceries", "Beauty", "Toys", "Sports", "Books")
# Customers and events of each: the demo's shop, then shops of a few events a customer, up to a million.
DEMO = (20_000, 55)
GROWTH = ((125_000, 5), (250_000, 5), (500_000, 5), (1_000_000, 5))


def run(report: Report) -> None:
    """The demo's size beside hand-written Polars, then time against the number of customers."""
    with tempfile.TemporaryDirectory() as name:
        compare(report, Path(name))
        grow(report, Path(name))


def compare(report: Report, folder: Path) -> None:
    """The same features of the same files, ours and by hand."""
    tables, spec = _shop(folder / "demo", *DEMO)
    _check_equal(compute(tables, spec, AS_OF), measure_by_hand(tables, spec, AS_OF))
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: compute(tables, spec, AS_OF),
        "polars, hand-written": lambda: measure_by_hand(tables, spec, AS_OF),
    }
    seconds = interleave(variants, budget_seconds=60)
    customers, per_customer = DEMO
    report.add_times(
        f"{len(spec.names)} features of {customers:,} customers, {customers * per_customer:,} events",
        "polars, hand-written",
        seconds["ours"],
        seconds["polars, hand-written"],
        rounds=len(seconds["ours"]),
    )


def grow(report: Report, folder: Path) -> None:
    """Seconds against customers; the ratio is that of the cost per customer to the smallest shop's."""
    first = 0.0
    for customers, per_customer in GROWTH:
        tables, spec = _shop(folder / f"grow-{customers}", customers, per_customer)
        began = time.perf_counter()
        rows = compute(tables, spec, AS_OF).height
        seconds = time.perf_counter() - began
        first = first or seconds / rows
        report.add_value(
            "features, five events a customer",
            f"{GROWTH[0][0]:,} customers, scaled up",
            "growth",
            seconds,
            first * rows,
            "s",
            num_interactions=customers * per_customer,
            num_customers=rows,
            microseconds_per_customer=1e6 * seconds / rows,
        )


def _shop(folder: Path, customers: int, per_customer: int) -> tuple[Tables, FeatureSpec]:
    folder.mkdir()
    events = _events(customers, customers * per_customer)
    events.write_parquet(folder / "events.parquet")
    numbers = np.arange(NUM_ITEMS)
    items = {"item_id": [f"I{n:05d}" for n in numbers],
             "category_path": [f"{CATEGORIES[n % 8]}/{n // 8 % 5}" for n in numbers]}  # fmt: skip
    people = events["customer_id"].unique().to_frame()
    tables = Tables(
        events=pl.scan_parquet(folder / "events.parquet"),
        items=_with_schema("items", pl.DataFrame(items)).lazy(),
        customers=_with_schema("customers", people).lazy(),
        messages=pl.LazyFrame(schema=SCHEMAS["messages"]),
    )
    return tables, fit_spec(tables, as_of=AS_OF, config=ProfilesConfig())


def _events(customers: int, rows: int) -> pl.DataFrame:
    """Visits of up to about eight events; everybody makes one, some many more; a sixth of the rows buys."""
    rng = np.random.default_rng(0)
    visits = max(customers, rows // 8)
    who = (rng.random(visits) ** 1.5 * customers).astype(np.int64)
    who[:customers] = np.arange(customers)
    start = rng.integers(0, DAYS * 86_400, visits)
    visit = np.sort(rng.integers(0, visits, rows))
    kinds = ["view", "cart", "purchase", "return", "search"]
    kind = rng.choice(kinds, rows, p=[0.68, 0.12, 0.15, 0.02, 0.03])
    bought = np.isin(kind, ["purchase", "return"])
    item = (rng.random(rows) ** 2 * NUM_ITEMS).astype(np.int64)
    price = np.round(5 + 90 * (item * 7919 % NUM_ITEMS) / NUM_ITEMS, 2)
    discount = np.where(rng.random(rows) < 0.3, np.round(price * 0.2, 2), 0.0)
    seconds = np.minimum(start[visit] + rng.integers(0, 900, rows), DAYS * 86_400 - 1)
    channel = np.array(["web", "app", "store"])[visit % 3]
    frame = pl.DataFrame({
        "event_id": np.arange(rows), "customer_id": who[visit], "item_id": item, "event": kind,
        "channel": channel, "seconds": seconds, "visit": visit, "bought": bought,
        "quantity": np.where(bought, 1 + item % 3, 1), "price": price, "discount": discount,
    })  # fmt: skip
    whole = frame.with_columns(
        _id("E", "event_id", 10), _id("c", "customer_id", 10), _id("I", "item_id", 5),
        session_id=_id("s", "visit", 10),
        order_id=pl.when("bought").then(_id("o", "visit", 10)),
        discount=pl.when("bought").then("discount"),
        timestamp=pl.lit(START) + pl.duration(seconds="seconds"),
        currency=pl.lit("EUR"),
    )  # fmt: skip
    return _with_schema("events", whole)


def _id(letter: str, column: str, width: int) -> pl.Expr:
    digits = pl.col(column).cast(pl.String).str.zfill(width)
    return pl.concat_str(pl.lit(letter), digits).alias(column)


def _with_schema(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in SCHEMAS[table].items()
    )


def _check_equal(ours: pl.DataFrame, by_hand: pl.DataFrame) -> None:
    for name in ours.columns[1:]:
        np.testing.assert_allclose(
            ours[name].to_numpy(), by_hand[name].to_numpy(), rtol=1e-4, atol=1e-5, err_msg=name
        )
