"""Paths: the most frequent sequences of steps within sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.sessions import GAP_MINUTES, sessions
from shopsight.training.behaviour.shares import with_share

MAX_STEPS = 8
_UNKNOWN = "unknown"
_MORE = "…"


@dataclass(frozen=True)
class Paths:
    """paths: one row a group and path, the most frequent first: group ("all" or "channel"), value, path
    ("view > cart > purchase"), sessions and share (of the group's sessions, with its 95 % Wilson interval).

    transitions: one row a pair of steps: step, next_step ("end" where the session ends), times, and share of
    all that followed the step, with its interval as if they were independent.
    """

    paths: pl.DataFrame
    transitions: pl.DataFrame
    num_sessions: int
    notes: tuple[str, ...]


def paths(
    events: pl.LazyFrame,
    *,
    gap_minutes: float = GAP_MINUTES,
    max_steps: int = MAX_STEPS,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Paths:
    """Count the sequences of events within sessions; the same step several times in a row is one.

    events: as in training/data/tables.py. gap_minutes: as in `sessions`. max_steps: longer paths are cut
    there and end with "…". since, until: the session begins in this period, `until` excluded. The channel of
    a session is that of its first event. Raises BehaviourError for impossible settings and without sessions.
    """
    if max_steps < 1:
        raise BehaviourError(f"max_steps is {max_steps}; it must be at least 1")
    found = sessions(events, gap_minutes)
    rows = _in_period(found.rows, since, until)
    if rows.is_empty():
        raise BehaviourError("there are no sessions in this period; ingest a source of events first")
    steps = rows.filter(
        (pl.col("event") != pl.col("event").shift())
        | (pl.col("session") != pl.col("session").shift()).fill_null(True)
    ).select("session", "channel", "event")
    each = steps.group_by("session", maintain_order=True).agg(
        pl.col("channel").first().fill_null(_UNKNOWN), pl.col("event").head(max_steps), num=pl.len()
    )
    cut = pl.when(pl.col("num") > max_steps).then(pl.lit(f" > {_MORE}")).otherwise(pl.lit(""))
    named = each.select("channel", path=pl.col("event").list.join(" > ") + cut)
    whole = named.with_columns(group=pl.lit("all"), value=pl.lit("all"))
    by_channel = named.with_columns(group=pl.lit("channel"), value=pl.col("channel"))
    notes = (
        *found.notes,
        f"the same step several times in a row is one; paths are cut after {max_steps} steps",
    )
    return Paths(_counted(pl.concat([whole, by_channel])), _transitions(steps), each.height, notes)


def _in_period(rows: pl.DataFrame, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    begin = pl.col("timestamp").min().over("session")
    if since is not None:
        rows = rows.filter(begin >= since)
    return rows if until is None else rows.filter(begin < until)


def _counted(named: pl.DataFrame) -> pl.DataFrame:
    keys = ["group", "value"]
    counted = named.group_by(*keys, "path").agg(sessions=pl.len())
    counted = counted.with_columns(all=pl.col("sessions").sum().over(keys))
    shares = with_share(counted, "share", "sessions", "all").drop("all")
    ordered = shares.sort("group", "value", "sessions", "path", descending=[False, False, True, False])
    return ordered.select("group", "value", "path", "sessions", "share", "share_low", "share_high")


def _transitions(steps: pl.DataFrame) -> pl.DataFrame:
    following = pl.col("event").shift(-1).over("session").fill_null("end")
    counted = steps.group_by(step="event", next_step=following).agg(times=pl.len())
    counted = counted.with_columns(all=pl.col("times").sum().over("step"))
    shares = with_share(counted, "share", "times", "all").drop("all")
    return shares.sort("step", "times", "next_step", descending=[False, True, False])
