"""The report page: one self-contained HTML file for readers without technical background."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import polars as pl

from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.period import period
from shopsight.training.data.tables import scan_table
from shopsight.training.evaluation.planted import Row
from shopsight.training.report.behaviour import behaviour
from shopsight.training.report.content import customer_cards, messages, sales
from shopsight.training.report.segments import segments
from shopsight.training.report.value import worth

REPORT_FILE = "report.html"


def write_report(workspace: Workspace, *, title: str, planted: Sequence[Row] = ()) -> Path:
    """Write `reports/report.html` from the tables and the trained models and return its path.

    Sections without data are left out. `planted` adds the table of a synthetic shop, whose truth is known.
    Texts from the data are escaped. Raises TablesError if there are no tables.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        files("shopsight.training.report").joinpath("page.html").read_text("utf-8")
    )
    page = template.render(title=title, planted=planted, **_content(workspace))
    workspace.reports.mkdir(parents=True, exist_ok=True)
    path = workspace.reports / REPORT_FILE
    staged = workspace.reports / f".{REPORT_FILE}.{os.getpid()}"
    staged.write_text(page, encoding="utf-8")
    staged.replace(path)
    return path


def _content(workspace: Workspace) -> dict[str, Any]:
    events = scan_table(workspace.tables, "events")
    return {
        "period": _period(events),
        "cards": customer_cards(workspace),
        **segments(workspace),
        **worth(workspace),
        **behaviour(workspace),
        **sales(workspace),
        **messages(workspace),
        **_refused(read_snapshot(workspace.tables)["note"]),
    }


def _period(events: pl.LazyFrame) -> str:
    found = period(events)
    if found is None:
        return "There are no events yet: this page covers messages only."
    first, last = found
    rows, outside = (
        events.select(pl.len(), (~pl.col("timestamp").is_between(first, last)).sum()).collect().row(0)
    )
    told = f"{rows:,} events from {first:%-d %B %Y} to {last:%-d %B %Y}."
    return f"{told} {outside:,} of them have dates outside this period." if outside else told


def _refused(note: dict[str, Any]) -> dict[str, Any]:
    reasons: dict[str, int] = note.get("refused", {})
    read = sum(file["read"] for file in note.get("files", []))
    return {
        "refused_sentence": f"{sum(reasons.values()):,} of {read:,} rows were set aside.",
        "refused": [
            {"reason": reason.replace("_", " "), "rows": f"{rows:,}"}
            for reason, rows in sorted(reasons.items(), key=lambda pair: -pair[1])
        ],
    }
