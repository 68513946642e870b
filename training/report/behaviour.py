"""The report's section on behaviour, from the analyses that `shopsight behaviour` saved."""

from __future__ import annotations

from typing import Any

import polars as pl

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.behaviour.results import Analysis, saved
from shopsight.training.data.money import NO_CURRENCY
from shopsight.training.evaluation.proportions import wilson
from shopsight.training.report import behaviour_figures, figures

_GROUPS = 12
_HAZARD_DAYS = 182
_HALF = 20  # letters of each name of a pair in a figure


def behaviour(workspace: Workspace) -> dict[str, Any]:
    """Return the parts of the section on behaviour; `behaviour` is empty if no analysis was made.

    A part has title, sentence, plot, caption, columns, rows (texts) and notes.
    """
    parts = (
        ("funnel", "steps", _funnel),
        ("paths", "paths", _paths),
        ("cohorts", "people", _cohorts),
        ("cohorts", "revenue", _revenue),
        ("timing", "returned", _timing),
        ("timing", "hazard", _hazard),
        ("basket", "pairs", _basket),
    )
    made = [
        part(found) for name, table, part in parts if (found := saved(workspace, name, table)) is not None
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
        "sentence": f"{entered:,} {unit} began with {names[0]}; {finished['reached']:,} of them came to "
        f"{finished['step']}: {_interval(finished, 'share')}.",
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


def _paths(found: Analysis) -> dict[str, Any]:
    top = found.tables["paths"].filter(group="all").head(_GROUPS)
    return {
        "title": "Paths of visits",
        "sentence": f"The {top.height} most frequent of all paths make {top['share'].sum():.0%} of "
        f"{found.settings['sessions']:,} sessions.",
        "plot": figures.bars(top["path"].to_list(), top["sessions"].to_list(), unit="sessions"),
        "caption": "Sessions by their path.",
        "columns": ["Path", "Sessions", "Share"],
        "rows": [[row["path"], f"{row['sessions']:,}", _interval(row, "share")] for row in top.to_dicts()],
        "notes": list(found.notes),
    }


def _cohorts(found: Analysis) -> dict[str, Any]:
    people, by = found.tables["people"], found.settings["by"]
    known = people.drop_nulls("retention").filter(pl.col("period") > 0)
    first = known.filter(period=1)
    said = f"There are {people['cohort'].n_unique()} cohorts by {by} of first purchase."
    if first.height:
        bought, size = int(first["bought"].sum()), int(first["customers"].sum())
        row = {"back": bought / size} | dict(
            zip(("back_low", "back_high"), wilson(bought, size), strict=True)
        )
        said += f" {_interval(row, 'back')} of the customers bought again in the {by} after the first."
    return {
        "title": "Cohorts: customers who come back",
        "sentence": said,
        "plot": _grid(people, "retention", by),
        "caption": f"Share of a cohort that buys in each {by} after the first; periods not over are blank.",
        "columns": ["Cohort", by.capitalize(), "Customers", "Bought", "Share"],
        "rows": [
            [
                str(row["cohort"]), str(row["period"]), f"{row['customers']:,}", f"{row['bought']:,}",
                _interval(row, "retention"),
            ]
            for row in known.to_dicts()
        ],
        "notes": list(found.notes),
    }  # fmt: skip


def _revenue(found: Analysis) -> dict[str, Any]:
    revenue, by = found.tables["revenue"], found.settings["by"]
    totals = revenue.group_by("currency").agg(pl.col("revenue").sum()).sort("revenue", descending=True)
    main = totals["currency"][0] if totals.height else None
    own = revenue.filter(pl.col("currency").eq_missing(pl.lit(main, dtype=pl.String)))
    known = own.drop_nulls("kept").filter(pl.col("period") > 0)
    others = [name or NO_CURRENCY for name in totals["currency"][1:]]
    apart = [f"amounts in {', '.join(others)} are in the table of the analysis alone"] if others else []
    unit = main or "money"
    return {
        "title": "Cohorts: revenue that stays",
        "sentence": f"Revenue of each cohort in {unit}, as a share of that in the {by} of first purchase.",
        "plot": _grid(own, "kept", by),
        "caption": f"Revenue after returns, by {by} after the first purchase; periods not over are blank.",
        "columns": ["Cohort", by.capitalize(), f"Revenue ({unit})", "Of the first"],
        "rows": [
            [str(row["cohort"]), str(row["period"]), f"{row['revenue']:,.0f}", _interval(row, "kept")]
            for row in known.to_dicts()
        ],
        "notes": apart,
    }


def _grid(table: pl.DataFrame, column: str, by: str) -> str:
    """Draw a column by cohort and period from 1 on; nothing without a value."""
    later = table.filter(pl.col("period") > 0)
    if later[column].null_count() == later.height:
        return ""
    wide = later.drop_nulls(column).pivot("period", index="cohort", values=column).sort("cohort")
    periods = sorted((name for name in wide.columns if name != "cohort"), key=int)
    names = [str(day)[:7] if by == "month" else str(day) for day in wide["cohort"]]
    shares = wide.select(pl.col(periods).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    return behaviour_figures.grid(shares, names, periods, f"{by}s after the first purchase")


def _timing(found: Analysis) -> dict[str, Any]:
    returned = found.tables["returned"].drop_nulls("returned")
    first = returned.filter(pl.col("purchase") == 1).sort("days")
    told = [f"{_interval(row, 'returned')} within {row['days']} days" for row in first.to_dicts()]
    return {
        "title": "Time between purchases",
        "sentence": f"After the first purchase, customers buy again: {'; '.join(told)}." if told else "",
        "plot": behaviour_figures.curves(returned, "days", "returned", "share who bought again"),
        "caption": "Share of customers who bought again, with its 95 % interval.",
        "columns": ["Purchase", "Days", "Followed that long", "Bought again"],
        "rows": [
            [str(row["purchase"]), str(row["days"]), f"{row['at_risk']:,}", _interval(row, "returned")]
            for row in returned.to_dicts()
        ],
        "notes": list(found.notes),
    }


def _hazard(found: Analysis) -> dict[str, Any]:
    near = found.tables["hazard"].filter(pl.col("to_day") <= _HAZARD_DAYS)
    first = near.filter(pl.col("purchase") == 1).sort("rate", descending=True).head(1).to_dicts()
    told = [
        f"A customer who has bought once is most likely to buy again from day {row['from_day']} to "
        f"{row['to_day']}: {_interval(row, 'rate', digits=2)} a day."
        for row in first
    ]
    return {
        "title": "Days on which customers come back",
        "sentence": "".join(told),
        "plot": behaviour_figures.curves(near, "from_day", "rate", "rate of return a day"),
        "caption": "Returns a day and customer who is not back yet, with the 95 % interval (hazard).",
        "columns": ["Purchase", "From day", "To day", "Customer days", "Returns", "Rate a day"],
        "rows": [
            [
                str(row["purchase"]), str(row["from_day"]), str(row["to_day"]), f"{row['customer_days']:,}",
                f"{row['returns']:,}", _interval(row, "rate", digits=2),
            ]
            for row in near.to_dicts()
        ],
        "notes": [],
    }  # fmt: skip


def _basket(found: Analysis) -> dict[str, Any]:
    pairs, settings = found.tables["pairs"], found.settings
    top = pairs.head(_GROUPS).to_dicts()
    pairs_of = [(row["title_a"] or row["item_a"], row["title_b"] or row["item_b"]) for row in top]
    names = [" + ".join(pair) for pair in pairs_of]
    short = [" + ".join(figures.shortened(name, _HALF) for name in pair) for pair in pairs_of]
    return {
        "title": "Bought together",
        "sentence": f"{pairs.height:,} of {settings['tests']:,} pairs of items are bought together more "
        f"often than chance explains (false discovery rate {settings['false_discovery_rate']:.0%}).",
        "plot": figures.bars(short, [float(row["together"]) for row in top], unit="baskets with both"),
        "caption": "The pairs that are most certain.",
        "columns": ["Pair", "Together", "More often than by chance", "q value"],
        "rows": [
            [
                name, f"{row['together']:,}",
                f"{row['lift']:.1f} times ({row['lift_low']:.1f} to {row['lift_high']:.1f})",
                f"{row['q_value']:.1e}",
            ]
            for name, row in zip(names, top, strict=True)
        ],
        "notes": list(found.notes),
    }  # fmt: skip


def _interval(row: dict[str, Any], name: str, digits: int = 1) -> str:
    """A share in per cent with its bounds where there are any."""
    told = [f"{row[c]:.{digits}%}" for c in (name, f"{name}_low", f"{name}_high") if row[c] is not None]
    return f"{told[0]} ({told[1]} to {told[2]})" if len(told) == 3 else "".join(told[:1])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"
