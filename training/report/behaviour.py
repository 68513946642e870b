"""The report's section on behaviour, from the analyses that `shopsight behaviour` saved."""

from __future__ import annotations

from typing import Any

import polars as pl

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.behaviour.results import Analysis, saved
from shopsight.training.report import figures

_GROUPS = 12


def behaviour(workspace: Workspace) -> dict[str, Any]:
    """Return the parts of the section on behaviour; `behaviour` is empty if no analysis was made.

    A part has title, sentence, plot, caption, columns, rows (texts) and notes.
    """
    made = [
        part(found)
        for name, table, part in (("funnel", "steps", _funnel),)
        if (found := saved(workspace, name, table)) is not None
    ]
    return {"behaviour": made}


def _funnel(found: Analysis) -> dict[str, Any]:
    steps = found.tables["steps"]
    whole = steps.filter(group="all")
    unit = f"{found.settings['by']}s"
    names = [
        f"{step} (optional)" if optional else step for step, optional in whole["step", "optional"].rows()
    ]
    entered, finished = whole["reached"][0], whole.row(-1, named=True)
    parts = steps.filter(group="channel").vstack(steps.filter(group="segment"))
    order = parts.filter(pl.col("step") == names[0]).sort("reached", descending=True)["value"]
    chosen = pl.concat([whole, parts.filter(pl.col("value").is_in(order.head(_GROUPS).implode()))])
    return {
        "title": "Steps to a purchase" if finished["step"] == "purchase" else f"Steps to {finished['step']}",
        "sentence": f"{entered:,} {unit} began with {names[0]}; {finished['reached']:,} of them "
        f"({_interval(finished, 'share')}) came to {finished['step']}.",
        "plot": figures.bars(names, [float(n) for n in whole["reached"]], unit=unit),
        "caption": f"The {unit} that take each step.",
        "columns": ["Group", "Step", unit.capitalize(), "Continued", "Dropped out", "Time", "Clicks"],
        "rows": [
            [
                row["value"], row["step"], f"{row['reached']:,}", _interval(row, "continued"),
                f"{row['dropped_out']:,}", _duration(row["median_seconds"]), _number(row["median_clicks"]),
            ]
            for row in chosen.to_dicts()
        ],
        "notes": [
            *found.notes,
            "continued: of those who took the required step before; with its 95 % interval",
            "time and clicks are medians since the required step before, of those who took the step",
            "dropped out: the step is the last that was taken",
        ],
    }  # fmt: skip


def _interval(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return ""
    return f"{row[name]:.1%} ({row[f'{name}_low']:.1%} to {row[f'{name}_high']:.1%})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"
