"""Cleaning and joining one raw event file, against hand-written Polars and pandas doing the same."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import ingest_by_hand as by_hand
from benchmarks.ingest_growth import growth
from benchmarks.runner import Report, interleave
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.events import directory, events_table
from shopsight.training.data.ingest import ingest
from shopsight.training.data.intake import Intake
from shopsight.training.data.items import items_table
from shopsight.training.data.loading import Loaded, load_all
from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import SnapshotWriter

NUM_CUSTOMERS = 10_000
KEY = PseudonymKey("bench", b"b" * 32)


def run(report: Report) -> None:
    """One file five ways, then the whole shop with identity and quarantine, then how time and memory grow."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "raw"
        make_shop(ShopSpec(num_customers=NUM_CUSTOMERS), raw, folder / "truth")
        compare(report, raw, folder)
        whole_shop(report, raw, folder)
        growth(report, raw, folder)


def compare(report: Report, raw: Path, folder: Path) -> None:
    """The web shop's events: typed, bad rows and unknown items out, customers joined, Parquet written.

    Who is a customer and what is an item is given to all. The peers do it twice: with the account of
    every refused row that ingest gives (the same work), and without. Ours is the same run both times: a
    first one, with the intake written.
    """
    sources = {(s.kind, s.path): s for s in load_sources(raw / "sources.toml")}
    events, items = sources["events", "web_events.csv"], sources["items", "items.csv"]
    customers = _customers(sources["customers", "web_accounts.csv"], folder)
    catalogue = items_table([_load(items, Intake(folder / "catalogue"))])["item_id"]
    people, known = customers.to_pandas(), catalogue.to_list()
    out = folder / "by_hand.parquet"
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: _ours(events, catalogue, customers, folder / "ours"),
        "polars, hand-written, same work": lambda: by_hand.polars_accounted(raw, customers, catalogue, out),
        "polars, hand-written, no reasons": lambda: by_hand.polars_bare(raw, customers, catalogue, out),
        "pandas, same work": lambda: by_hand.pandas_accounted(raw, people, known, out),
        "pandas, no reasons": lambda: by_hand.pandas_bare(raw, people, known, out),
    }
    rows = {name: int(run()) for name, run in variants.items()}
    seconds, processor = _interleave(variants)
    for peer in list(variants)[1:]:
        report.add_times(
            f"{rows['ours']:,} events cleaned and joined",
            peer,
            seconds["ours"],
            seconds[peer],
            rounds=len(seconds["ours"]),
            rows_per_second=rows["ours"] / statistics.median(seconds["ours"]),
            rows_kept=rows,
            processor_seconds={name: statistics.median(processor[name]) for name in ("ours", peer)},
            processor_ratio=statistics.median(processor[peer]) / statistics.median(processor["ours"]),
        )


def _interleave(
    variants: dict[str, Callable[[], Any]],
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds by the clock, and of the processor, which others on the machine disturb less."""
    processor: dict[str, list[float]] = {name: [] for name in variants}

    def timed(name: str) -> Callable[[], Any]:
        def run() -> Any:
            began = time.process_time()
            kept = variants[name]()
            processor[name].append(time.process_time() - began)
            return kept

        return run

    return interleave({name: timed(name) for name in variants}), processor


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


def _load(source: Source, intake: Intake) -> Loaded:
    return load_all([source], intake, {}, lambda _: None).parts[0]


def _customers(source: Source, folder: Path) -> pl.DataFrame:
    """Who each id is; here every account is a customer."""
    ids = _load(source, Intake(folder / "accounts")).rows["source_id"].unique(maintain_order=True)
    return pl.DataFrame({"source": ["web"] * ids.len(), "source_id": ids, "customer_id": ids})


def _ours(events: Source, known: pl.Series, customers: pl.DataFrame, folder: Path) -> int:
    """A first run: nothing is in the intake yet."""
    shutil.rmtree(folder, ignore_errors=True)
    intake, writer = Intake(folder / "intake"), SnapshotWriter(folder / "tables")
    loaded = [_load(events, intake)]
    people = directory(loaded, customers)
    for bucket in events_table(loaded, people, known, KEY, intake.engine):
        writer.add("events", bucket.table)
    writer.commit()
    return writer.rows()["events"]
