"""Every analysis on the tables of a workspace, saved there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from shopsight.training.artifacts.trained_state import NotTrained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.behaviour.funnel import STEPS, funnel
from shopsight.training.behaviour.results import Analysis, save
from shopsight.training.behaviour.sessions import GAP_MINUTES
from shopsight.training.data.consent import PROFILING, forbidden
from shopsight.training.data.period import dated_events


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
    tables = {"steps": found.steps, "weeks": found.weeks, "dropped_out": lost}
    return _saved(workspace, Analysis("funnel", settings, found.notes, tables))


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
