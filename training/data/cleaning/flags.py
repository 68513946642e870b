"""Flags on accepted rows of the tables, and their counts by rule."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.training.data.cleaning.clocks import clocks, hourly, implausible
from shopsight.training.data.cleaning.near_duplicates import near_duplicate_events, near_duplicate_texts
from shopsight.training.data.cleaning.outliers import outliers
from shopsight.training.data.cleaning.returns import matched_returns
from shopsight.training.data.tables import SCHEMAS

QUALITY_FILE = "data_quality.json"
FORMAT_VERSION = 1
RULES = (
    "near_duplicate", "resent_line", "near_duplicate_text", "return_matched", "return_unmatched", "returned",
    "price_outlier", "quantity_outlier", "implausible_time",
)  # fmt: skip


def find_flags(
    parts: list[Path], messages: pl.DataFrame, fees: pl.Series, engine: Any
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Look at the written parts of the events table and at the messages; returns flags and clocks.

    fees: items that are no goods. Postage and charges come twice in an order and vary as they please, and are
    given back apart from the goods: of them only implausible times are flagged.

    No more than one part, and the lines that a rule needs, are in memory at a time.
    """
    events = pl.scan_parquet(parts)
    counts = hourly(events, engine)
    is_good = ~pl.col("item_id").is_in(fees.implode()).fill_null(False)
    goods = events.filter(is_good)
    found = [pl.DataFrame(schema=SCHEMAS["flags"])]
    columns = ["customer_id", "channel", "timestamp", "item_id", "event", "price", "quantity", "order_id"]
    columns += ["line_id", "session_id", "event_id"]
    for part in parts:
        found.append(near_duplicate_events(pl.read_parquet(part, columns=columns).filter(is_good)))
    found += [near_duplicate_texts(messages), matched_returns(goods, engine), outliers(goods, engine)]
    found.append(
        events.filter(implausible(counts))
        .select(
            pl.lit("events").alias("table"),
            pl.col("event_id").alias("id"),
            "customer_id",
            pl.lit("implausible_time").alias("rule"),
            pl.lit(None, dtype=pl.String).alias("related_id"),
            pl.lit(None, dtype=pl.Float64).alias("value"),
        )
        .collect(engine=engine)
    )
    flags = pl.concat(found).sort("table", "id", "rule", "related_id")
    return flags, [asdict(clock) for clock in clocks(counts)]


def counts_of(flags: pl.DataFrame) -> dict[str, int]:
    """Return the number of flagged rows by rule, including rules without any."""
    seen = dict(flags.group_by("rule").len().iter_rows())
    return {rule: int(seen.get(rule, 0)) for rule in RULES}


def write_quality(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write the data-quality report as JSON, complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / QUALITY_FILE
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps({"format_version": FORMAT_VERSION, **content}, indent=1, sort_keys=True)
    with staged.open("w", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    staged.replace(path)
    return path
