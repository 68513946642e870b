"""Every analysis on the tables of a workspace, saved there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.trained_state import NotTrained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.behaviour.basket import FALSE_DISCOVERY_RATE, MIN_BASKETS, affinities
from shopsight.training.behaviour.cohorts import cohorts
from shopsight.training.behaviour.funnel import STEPS, funnel
from shopsight.training.behaviour.paths import MAX_STEPS, paths
from shopsight.training.behaviour.results import Analysis, save
from shopsight.training.behaviour.sessions import GAP_MINUTES
from shopsight.training.behaviour.timing import BIN_DAYS, timing
from shopsight.training.data.consent import PROFILING, forbidden
from shopsight.training.data.money import events_in_main
from shopsight.training.data.period import dated_events
from shopsight.training.data.tables import scan_table


@on_one_snapshot
def analyse_funnel(
    workspace: Workspace,
    steps: Sequence[str] = STEPS,
    *,
    by: str = "session",
    gap_minutes: float = GAP_MINUTES,
    window_days: float = 7.0,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Analysis:
    """Run `funnel` on the events, by the trained segments if there are any, and save it.

    All events are counted; customers who refuse profiling are not in the table of those who dropped out.
    Raises BehaviourError.
    """
    found = funnel(
        dated_events(workspace.tables), steps, by=by, gap_minutes=gap_minutes, window_days=window_days,
        since=since, until=until, segments=_segments(workspace),
    )  # fmt: skip
    refusing = forbidden(workspace, PROFILING)
    lost = found.dropped_out.filter(~pl.col("customer_id").is_in(refusing))
    pauses = {"gap_minutes": gap_minutes} if by == "session" else {"window_days": window_days}
    settings = {"steps": [s.strip() for s in steps], "by": by, **pauses, **_period(since, until)}
    tables = {
        "steps": found.steps, "weeks": found.weeks, "changes": found.changes, "dropped_out": lost,
    }  # fmt: skip
    told = [_told(row) for row in found.changes.to_dicts()]
    return _saved(workspace, Analysis("funnel", settings, (*found.notes, *told), tables))


@on_one_snapshot
def analyse_paths(
    workspace: Workspace,
    *,
    gap_minutes: float = GAP_MINUTES,
    max_steps: int = MAX_STEPS,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Analysis:
    """Run `paths` on the events and save it; raises BehaviourError."""
    events = dated_events(workspace.tables)
    found = paths(events, gap_minutes=gap_minutes, max_steps=max_steps, since=since, until=until)
    settings = {
        "sessions": found.num_sessions, "gap_minutes": gap_minutes, "max_steps": max_steps,
        **_period(since, until),
    }  # fmt: skip
    tables = {"paths": found.paths, "transitions": found.transitions}
    return _saved(workspace, Analysis("paths", settings, found.notes, tables))


@on_one_snapshot
def analyse_cohorts(workspace: Workspace, *, by: str = "month", until: datetime | None = None) -> Analysis:
    """Run `cohorts` on the events, with money in the main currency where a rate is known, and save it.

    Raises BehaviourError.
    """
    events = events_in_main(workspace.tables, dated_events(workspace.tables))
    found = cohorts(events, scan_table(workspace.tables, "items"), by, until)
    tables = {"people": found.people, "revenue": found.revenue}
    return _saved(workspace, Analysis("cohorts", {"by": by, **_period(None, until)}, found.notes, tables))


@on_one_snapshot
def analyse_basket(
    workspace: Workspace,
    *,
    min_baskets: int = MIN_BASKETS,
    rate: float = FALSE_DISCOVERY_RATE,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Analysis:
    """Run `affinities` on the orders and save it; raises BehaviourError."""
    events, items = dated_events(workspace.tables), scan_table(workspace.tables, "items")
    found = affinities(events, items, min_baskets=min_baskets, rate=rate, since=since, until=until)
    settings = {
        "baskets": found.num_baskets, "tests": found.num_tests, "min_baskets": min_baskets,
        "false_discovery_rate": rate, **_period(since, until),
    }  # fmt: skip
    return _saved(workspace, Analysis("basket", settings, found.notes, {"pairs": found.pairs}))


@on_one_snapshot
def analyse_timing(workspace: Workspace, *, bin_days: int = BIN_DAYS) -> Analysis:
    """Run `timing` on the purchases and save it; raises BehaviourError."""
    events, items = dated_events(workspace.tables), scan_table(workspace.tables, "items")
    found = timing(events, items, bin_days=bin_days)
    tables = {"medians": found.medians, "returned": found.returned, "hazard": found.hazard}
    return _saved(workspace, Analysis("timing", {"bin_days": bin_days}, found.notes, tables))


def _told(row: dict[str, Any]) -> str:
    """A change of a funnel in words."""
    return (
        f"since the week of {row['since']}, {row['after']:.0%} in channel {row['channel']} come to "
        f"{row['step']} from the step before, where {row['before']:.0%} did earlier (p {row['p_value']:.1e}, "
        "corrected)"
    )


def _saved(workspace: Workspace, analysis: Analysis) -> Analysis:
    save(workspace, analysis)
    return analysis


def _period(since: datetime | None, until: datetime | None) -> dict[str, str]:
    named = {"since": since, "until": until}
    return {name: time.isoformat() for name, time in named.items() if time is not None}


def _segments(workspace: Workspace) -> pl.DataFrame | None:
    """The trained segment of every customer: customer_id and name; None without trained profiles."""
    from shopsight.training import profiles

    try:
        return profiles.load(workspace).assigned.select("customer_id", "name")
    except NotTrained:
        return None
