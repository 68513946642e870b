"""Tables of a shop small enough to reason about, written without ingest."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import SCHEMAS, write_tables

START = datetime(2026, 1, 1, tzinfo=UTC)


def table(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return a table with its schema; columns that no row names are null."""
    frame = pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame()
    columns = [
        (pl.col(c) if c in frame.columns else pl.lit(None)).cast(t).alias(c) for c, t in SCHEMAS[name].items()
    ]
    return frame.select(columns) if rows else pl.DataFrame(schema=SCHEMAS[name])


def event(customer: str | None, item: str | None, kind: str, day: float, **more: Any) -> dict[str, Any]:
    """Return one row of events, `day` days after START."""
    time = START + timedelta(days=day)
    key = hashlib.md5(repr((customer, item, kind, day, more)).encode()).hexdigest()
    row = {"event_id": key, "customer_id": customer, "item_id": item, "event": kind, "timestamp": time}
    return {"channel": "web", **row, **more}


def write_shop(
    root: Path,
    events: list[dict[str, Any]],
    items: list[dict[str, Any]] = (),  # type: ignore[assignment]
    customers: list[str] = (),  # type: ignore[assignment]
    **tables: list[dict[str, Any]],
) -> Workspace:
    """Write a workspace; customers are those named and those of events, each with one identity."""
    workspace = Workspace(root)
    ids = sorted({*customers, *(e["customer_id"] for e in events if e["customer_id"])})
    identities = [
        {"source": "web", "source_id": hashlib.md5(i.encode()).hexdigest(), "key_id": "k", "customer_id": i}
        for i in ids
    ]
    frames = {
        "events": table("events", events),
        "items": table("items", list(items)),
        "customers": table("customers", [{"customer_id": i} for i in ids]),
        "identities": table("identities", identities),
        "messages": table("messages", tables.pop("messages", [])),
        "exposures": table("exposures", tables.pop("exposures", [])),
    }
    frames |= {name: table(name, rows) for name, rows in tables.items()}
    write_tables(workspace.tables, frames)
    return workspace


CATEGORIES = ("Books", "Garden", "Toys")


def tastes_shop(root: Path, num_customers: int = 90, seed: int = 0, num_days: int = 100) -> Workspace:
    """Write a shop of three tastes: customer i looks at and buys from category i % 3, with some noise."""
    rng = np.random.default_rng(seed)
    items = [
        {
            "item_id": f"{c}-{n}",
            "category_path": f"{c}/part {n % 2}",
            "price": 5.0 + 3 * n,
            "title": f"{c} {n}",
        }
        for c in CATEGORIES
        for n in range(8)
    ]
    events = []
    for i in range(num_customers):
        taste = i % 3
        for session in range(int(rng.integers(3, 7))):
            day = float(rng.uniform(0, num_days))
            for step in range(4):
                category = CATEGORIES[taste if rng.random() < 0.9 else int(rng.integers(3))]
                number = int(rng.integers(8))
                shared = {"session_id": f"s{i}-{session}", "price": 5.0 + 3 * number, "currency": "EUR"}
                shared["channel"] = ("web", "app", "store")[taste] if rng.random() < 0.8 else "web"
                item, at = f"{category}-{number}", day + step / 1000
                events.append(event(f"c{i:03d}", item, "view", at, **shared))
                if rng.random() < 0.4:
                    order = {"order_id": f"o{i}-{session}", "quantity": 1, **shared}
                    events.append(event(f"c{i:03d}", item, "purchase", at + 0.0005, **order))
    return write_shop(root, events, items, customers=["c998-silent", "c999-silent"])
