"""How ingest grows: the shop's events repeated for ever new visitors, each size in a process of its own.

python -m benchmarks.ingest_growth SOURCES.toml WORKSPACE     prints what one ingest took, as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.runner import Report
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.ingest import ingest

MILLIONS = (1, 2, 5, 10, 20)
_COPIES_A_FILE = 8
_SOURCES = """format_version = 1
[[source]]
name = "catalogue"
kind = "items"
path = "items.csv"
[source.columns]
item_id = "sku"
title = "title"

[[source]]
name = "web"
kind = "events"
path = "events/*.csv"
timezone = "UTC"
[source.columns]
source_id = "visitor_id"
item_id = "sku"
event = "action"
timestamp = "event_time"
session_id = "session_id"
quantity = "quantity"
price = "unit_price"
currency = "currency"
[source.values.event]
pageview = "view"
add_to_cart = "cart"
"""


def growth(report: Report, raw: Path, folder: Path, millions: tuple[int, ...] = MILLIONS) -> None:
    """One row a size: seconds, peak memory (the kernel's high-water mark), rows a second."""
    for size in millions:
        shop = folder / f"{size}m"
        sources = write_events(raw, shop, size * 1_000_000)
        done = _in_a_process(sources, shop / "workspace")
        report.add_value(
            "ingest of one channel",
            "none",
            "growth",
            done["seconds"],
            done["seconds"],
            "s",
            num_records=done["read"],
            **{k: done[k] for k in ("peak_rss_gib", "again_seconds", "rows_per_second", "engine", "raw_gb")},
        )
        _remove(shop)


def write_events(raw: Path, folder: Path, num_events: int) -> Path:
    """Repeat the shop's web events, each time with other visitors; returns the sources file."""
    (folder / "events").mkdir(parents=True)
    (folder / "items.csv").write_bytes((raw / "items.csv").read_bytes())
    (folder / "sources.toml").write_text(_SOURCES)
    options: dict[str, Any] = {"infer_schema": False, "encoding": "utf8-lossy", "truncate_ragged_lines": True}
    rows = pl.read_csv(raw / "web_events.csv", **options)
    for number in range(-(-num_events // rows.height)):
        suffix = pl.lit(f"x{number}")
        copy = rows.head(num_events - number * rows.height)
        copy = copy.with_columns(pl.col("visitor_id") + suffix, pl.col("session_id") + suffix)
        path = folder / "events" / f"{number // _COPIES_A_FILE:04d}.csv"
        with path.open("ab") as stream:
            copy.write_csv(stream, include_header=stream.tell() == 0)
    return folder / "sources.toml"


def _in_a_process(sources: Path, workspace: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.ingest_growth", str(sources), str(workspace)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(sources: Path, workspace: Path) -> dict[str, Any]:
    key = PseudonymKey("bench", b"b" * 32)
    first = ingest(sources, Workspace(workspace), key)
    peak = _peak_gib()
    began = time.perf_counter()
    again = ingest(sources, Workspace(workspace), key)
    assert again.unchanged and again.snapshot_sha256 == first.snapshot_sha256
    return {
        "read": first.read,
        "seconds": first.seconds,
        "again_seconds": time.perf_counter() - began,
        "rows_per_second": first.rows_per_second,
        "peak_rss_gib": peak,
        "engine": first.backend,
        "stages": first.stages,
        "refused": first.refused,
        "raw_gb": sum(p.stat().st_size for p in sources.parent.rglob("*.csv")) / 1e9,
    }


def _peak_gib() -> float:
    """The high-water mark of this process alone; rusage's would include the parent's before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), Path(sys.argv[2]))))
