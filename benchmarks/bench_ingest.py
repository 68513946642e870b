"""Cleaning and joining one raw event file, against hand-written Polars and pandas doing the same."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import polars as pl

from benchmarks.runner import Report, interleave
from serving.pseudonym import PseudonymKey
from training.data.events import directory, events_table
from training.data.ingest import ingest
from training.data.intake import Intake
from training.data.items import items_table
from training.data.loading import load
from training.data.shop import ShopSpec, make_shop
from training.data.sources import Source, load_sources
from training.data.tables import SnapshotWriter
from training.workspace import Workspace

NUM_CUSTOMERS = 10_000
KEY = PseudonymKey("bench", b"b" * 32)
_EVENTS = {"pageview": "view", "add_to_cart": "cart", "search": "search"}


def run(report: Report) -> None:
    """One file three ways, then the whole shop with identity and quarantine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "raw"
        make_shop(ShopSpec(num_customers=NUM_CUSTOMERS), raw, folder / "truth")
        compare(report, raw, folder)
        whole_shop(report, raw, folder)


def compare(report: Report, raw: Path, folder: Path) -> None:
    """The web shop's events: typed, bad rows and unknown items out, customers joined, Parquet written."""
    sources = {(s.kind, s.path): s for s in load_sources(raw / "sources.toml")}
    events, items = sources["events", "web_events.csv"], sources["items", "items.csv"]
    customers = _customers(sources["customers", "web_accounts.csv"], folder)
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: _ours(events, items, customers, folder / "ours"),
        "polars, hand-written": lambda: _polars(raw, customers, folder / "polars.parquet"),
        "pandas": lambda: _pandas(raw, customers.to_pandas(), folder / "pandas.parquet"),
    }
    rows = {name: int(run()) for name, run in variants.items()}
    seconds = interleave(variants)
    for peer in ("polars, hand-written", "pandas"):
        report.add_times(
            f"{rows['ours']:,} events cleaned and joined",
            peer,
            seconds["ours"],
            seconds[peer],
            rounds=len(seconds["ours"]),
            rows_per_second=rows["ours"] / sorted(seconds["ours"])[len(seconds["ours"]) // 2],
            rows_kept=rows,
        )


def whole_shop(report: Report, raw: Path, folder: Path) -> None:
    """Every file of the shop through `ingest`; nothing to compare with, so a figure of its own."""
    began = time.perf_counter()
    done = ingest(raw / "sources.toml", Workspace(folder / "w"), KEY)
    seconds = time.perf_counter() - began
    report.add_value(
        f"whole shop, {done.read:,} rows, {done.customers['accounts']:,} accounts",
        "none",
        "rows_per_second",
        done.read / seconds,
        done.read / seconds,
        "rows/s",
        stages=done.stages,
    )


def _customers(source: Source, folder: Path) -> pl.DataFrame:
    """Who each id is; here every account is a customer."""
    ids = load(source, Intake(folder / "accounts")).rows["source_id"]
    return pl.DataFrame({"source": ["web"] * ids.len(), "source_id": ids, "customer_id": ids})


def _ours(events: Source, items: Source, customers: pl.DataFrame, folder: Path) -> int:
    """A first run: nothing is in the intake yet."""
    shutil.rmtree(folder, ignore_errors=True)
    intake, writer = Intake(folder / "intake"), SnapshotWriter(folder / "tables")
    known = items_table([load(items, intake)])["item_id"]
    loaded = [load(events, intake)]
    people = directory(loaded, customers)
    for bucket in events_table(loaded, people, known, KEY, intake.engine):
        writer.add("events", bucket.table)
    writer.commit()
    return writer.rows()["events"]


def _polars(raw: Path, customers: pl.DataFrame, out: Path) -> int:
    """As one writes it for one file, without row numbers, reasons or quarantine."""
    options: dict[str, Any] = {"infer_schema": False, "encoding": "utf8-lossy", "truncate_ragged_lines": True}
    items = pl.read_csv(raw / "items.csv", **options)["sku"].drop_nulls().unique()
    rows = pl.read_csv(raw / "web_events.csv", **options).unique(maintain_order=True)
    table = (
        rows.lazy()
        .with_columns(
            pl.col("event_time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False),
            pl.col("quantity").cast(pl.Int64, strict=False),
            pl.col("unit_price").cast(pl.Decimal(18, 4), strict=False),
            pl.col("action").replace(_EVENTS),
        )
        .with_columns(pl.col("event_time").dt.replace_time_zone("UTC"))
        .filter(
            pl.col("event_time").is_not_null(),
            pl.col("action").is_in(list(_EVENTS.values())),
            pl.col("unit_price").is_null() | (pl.col("unit_price") >= 0),
            pl.col("sku").is_in(items.implode()) | (pl.col("sku").is_null() & (pl.col("action") == "search")),
            ~pl.concat_str("session_id", "page", ignore_nulls=True).str.contains("\ufffd", literal=True),
        )
        .join(customers.lazy(), left_on="visitor_id", right_on="source_id", how="left")
        .with_columns(pl.struct(rows.columns).hash().alias("event_id"))
        .sort("event_time", "event_id")
        .collect()
    )
    table.write_parquet(out)
    return table.height


def _pandas(raw: Path, customers: pd.DataFrame, out: Path) -> int:
    options: dict[str, Any] = {"dtype": str, "encoding_errors": "replace", "on_bad_lines": "skip"}
    items = pd.read_csv(raw / "items.csv", **options)["sku"].dropna().unique()
    rows = pd.read_csv(raw / "web_events.csv", **options).drop_duplicates()
    rows["event_time"] = pd.to_datetime(
        rows["event_time"], format="%Y-%m-%d %H:%M:%S", errors="coerce", utc=True
    )
    rows["quantity"] = pd.to_numeric(rows["quantity"], errors="coerce").astype("Int64")
    rows["unit_price"] = pd.to_numeric(rows["unit_price"], errors="coerce")
    rows["action"] = rows["action"].replace(_EVENTS)
    text = rows["session_id"].fillna("") + rows["page"].fillna("")
    kept = (
        rows["event_time"].notna()
        & rows["action"].isin(list(_EVENTS.values()))
        & (rows["unit_price"].isna() | (rows["unit_price"] >= 0))
        & (rows["sku"].isin(items) | (rows["sku"].isna() & (rows["action"] == "search")))
        & ~text.str.contains("\ufffd", regex=False)
    )
    table = rows[kept].merge(customers, left_on="visitor_id", right_on="source_id", how="left")
    table["event_id"] = pd.util.hash_pandas_object(table[list(rows.columns)], index=False)
    table = table.sort_values(["event_time", "event_id"])
    table.to_parquet(out)
    return len(table)
