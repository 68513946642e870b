"""Funnels: how many take each step, where they leave, how long it takes, by channel, segment and week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from shopsight.training.behaviour.changes import changes
from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.progress import position_of, progress, time_of
from shopsight.training.behaviour.sessions import GAP_MINUTES, sessions
from shopsight.training.behaviour.shares import with_share
from shopsight.training.behaviour.steps import Step, in_words, read_steps

UNITS = ("session", "customer")
STEPS = ("view", "cart", "purchase")
_UNKNOWN = "unknown"  # the name of a group of rows without a channel or a segment


@dataclass(frozen=True)
class Funnel:
    """A funnel.

    steps: one row a group and step: group ("all", "channel" or "segment"), value, step, optional, reached,
    share (of the first step), continued (share of the required step before), each with its 95 % Wilson
    interval, dropped_out (took this step as their last), and the median seconds and clicks since the required
    step before; null at the first step: continued, seconds and clicks.
    weeks: one row a channel, week of the first step and later required step: channel, week, step, previous
    (who took the required step before), reached and continued.
    changes: steps of a channel that are taken more or less often since a week, see changes.py.
    dropped_out: one row a customer who left: customer_id, funnel, step (the last one taken), next_step (the
    required one that did not follow), channel, segment, last_seen (time of the step).
    notes: sentences on what was counted and left out.
    """

    steps: pl.DataFrame
    weeks: pl.DataFrame
    changes: pl.DataFrame
    dropped_out: pl.DataFrame
    notes: tuple[str, ...]


def funnel(
    events: pl.LazyFrame,
    steps: Sequence[str] = STEPS,
    *,
    by: str = "session",
    gap_minutes: float = GAP_MINUTES,
    window_days: float = 7.0,
    since: datetime | None = None,
    until: datetime | None = None,
    segments: pl.DataFrame | None = None,
) -> Funnel:
    """Count the sessions or customers that take `steps` in order; "cart?" is an optional step.

    events: as in training/data/tables.py. by: "session" (parted by pauses of more than `gap_minutes`), or
    "customer": from a customer's first such step in the period, what follows within `window_days`; customers
    whose window is not over at the end of the data are left out. since, until: the first step lies in this
    period, `until` excluded. segments: customer_id and name; without it there are no rows by segment.

    A customer dropped out if they left the funnel the last time that they entered it, and did not take its
    last step later. Raises BehaviourError for unknown steps and other impossible settings.
    """
    rows, notes = _units(events, by, gap_minutes, window_days)
    read = read_steps(steps, rows["event"].unique().to_list())
    state, more = _entered(rows, read, by, window_days, since, until)
    if state.is_empty():
        raise BehaviourError(f"no {by} takes the first step, '{read[0].event}', in this period{_also(more)}")
    state = _with_segment(state, segments)
    groups = [state.with_columns(group=pl.lit("all"), value=pl.lit("all"))]
    for name in ("channel", "segment"):
        if name in state.columns:
            value = pl.col(name).fill_null(_UNKNOWN)
            groups.append(state.with_columns(group=pl.lit(name), value=value))
    summary = pl.concat([_summary(group, read) for group in groups])
    lost = _dropped_out(state, read, events)
    weeks = _weeks(state, read)
    return Funnel(summary, weeks, changes(weeks), lost, (*notes, *more))


def _units(
    events: pl.LazyFrame, by: str, gap_minutes: float, window_days: float
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    if by == "session":
        found = sessions(events, gap_minutes)
        return found.rows.rename({"session": "unit"}), found.notes
    if by != "customer":
        raise BehaviourError(f"a funnel counts by {' or by '.join(UNITS)}, not by '{by}'")
    if not 0 < window_days < float("inf"):
        raise BehaviourError(f"the window is {window_days} days; it must be above 0")
    columns = ("customer_id", "event_id", "event", "channel", "timestamp")
    rows = events.select(columns).drop_nulls(["customer_id", "timestamp"]).collect()
    told = f"steps count within {window_days:g} days of a customer's first; events without a customer do not"
    return rows.with_columns(unit=pl.col("customer_id")), (told,)


def _entered(
    rows: pl.DataFrame,
    steps: Sequence[Step],
    by: str,
    window_days: float,
    since: datetime | None,
    until: datetime | None,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the progress of the units that entered in the period, and notes on those left out."""
    if since is not None and by == "customer":  # the first step that counts is the first in the period
        rows = rows.filter(pl.col("timestamp") >= since)
    state = progress(rows, steps, window_days if by == "customer" else None)
    begin = pl.col(time_of(0))
    if since is not None:
        state = state.filter(begin >= since)
    if until is not None:
        state = state.filter(begin < until)
    if by == "session":
        return state, ()
    end = rows["timestamp"].max()
    over = state.filter(begin <= pl.lit(end) - timedelta(days=window_days))
    num = state.height - over.height
    told = f"{num:,} customers are left out: their {window_days:g} days are not over at the end of the data"
    return over, (told,) if num else ()


def _with_segment(state: pl.DataFrame, segments: pl.DataFrame | None) -> pl.DataFrame:
    if segments is None:
        return state
    named = segments.select("customer_id", segment="name")
    return state.join(named, on="customer_id", how="left", maintain_order="left")


def _also(notes: Sequence[str]) -> str:
    return "".join(f"; {note}" for note in notes)


def _previous(steps: Sequence[Step], k: int) -> int:
    """The required step before step k."""
    return max(j for j in range(k) if not steps[j].optional)


def _furthest(steps: Sequence[Step]) -> pl.Expr:
    """The number of the last step that a unit took."""
    taken = [pl.col(time_of(k)).is_not_null().cast(pl.Int64) * (k + 1) for k in range(len(steps))]
    return pl.max_horizontal(taken) - 1


def _summary(state: pl.DataFrame, steps: Sequence[Step]) -> pl.DataFrame:
    """Return one row a value and step of a state with the columns `group` and `value`."""
    state = state.with_columns(furthest=_furthest(steps))
    parts = []
    for k, step in enumerate(steps):
        reached, before = pl.col(time_of(k)).is_not_null(), _previous(steps, k) if k else 0
        seconds = (pl.col(time_of(k)) - pl.col(time_of(before))).dt.total_microseconds() / 1e6
        clicks = (pl.col(position_of(k)) - pl.col(position_of(before))).cast(pl.Float64)
        nothing = pl.lit(None, dtype=pl.Float64)
        last = k == len(steps) - 1
        part = state.group_by("group", "value").agg(
            pl.lit(k).alias("k"),
            pl.lit(step.event).alias("step"),
            pl.lit(step.optional).alias("optional"),
            reached.sum().alias("reached"),
            pl.col(time_of(0)).is_not_null().sum().alias("entered"),
            (pl.col(time_of(before)).is_not_null().sum() if k else pl.lit(None))
            .cast(pl.UInt32)
            .alias("previous"),
            (pl.lit(0) if last else (pl.col("furthest") == k).sum()).cast(pl.UInt32).alias("dropped_out"),
            (seconds.median() if k else nothing).alias("median_seconds"),
            (clicks.median() if k else nothing).alias("median_clicks"),
        )
        parts.append(part)
    table = with_share(pl.concat(parts), "share", "reached", "entered")
    table = with_share(table, "continued", "reached", "previous")
    return table.sort("value", "k").select(
        "group", "value", "step", "optional", "reached", "share", "share_low", "share_high", "continued",
        "continued_low", "continued_high", "dropped_out", "median_seconds", "median_clicks",
    )  # fmt: skip


def _weeks(state: pl.DataFrame, steps: Sequence[Step]) -> pl.DataFrame:
    dated = state.with_columns(
        pl.col("channel").fill_null(_UNKNOWN), week=pl.col(time_of(0)).dt.truncate("1w").dt.date()
    )
    parts = []
    for k in (k for k, step in enumerate(steps) if k and not step.optional):
        part = dated.group_by("channel", "week").agg(
            pl.lit(k).alias("k"),
            pl.lit(steps[k].event).alias("step"),
            pl.col(time_of(_previous(steps, k))).is_not_null().sum().alias("previous"),
            pl.col(time_of(k)).is_not_null().sum().alias("reached"),
        )
        parts.append(part)
    table = with_share(pl.concat(parts), "continued", "reached", "previous")
    return table.sort("channel", "k", "week").drop("k")


def _dropped_out(state: pl.DataFrame, steps: Sequence[Step], events: pl.LazyFrame) -> pl.DataFrame:
    last = len(steps) - 1
    names = pl.Series([step.event for step in steps], dtype=pl.String)
    following = [min(j for j in range(k + 1, last + 1) if not steps[j].optional) for k in range(last)]
    entered = state.filter(pl.col("customer_id").is_not_null()).sort("customer_id", time_of(0), "unit")
    latest = entered.unique("customer_id", keep="last", maintain_order=True)
    left = latest.with_columns(furthest=_furthest(steps)).filter(pl.col("furthest") < last)
    seen = pl.coalesce([pl.col(time_of(k)) for k in range(last, -1, -1)])
    done = events.filter(pl.col("event") == steps[last].event).group_by("customer_id")
    later = done.agg(done=pl.col("timestamp").max()).collect()
    rows = left.with_columns(last_seen=seen).join(later, on="customer_id", how="left", maintain_order="left")
    rows = rows.filter((pl.col("done") < pl.col("last_seen")).fill_null(True))
    furthest = rows["furthest"]
    table = rows.with_columns(
        funnel=pl.lit(in_words(steps)),
        step=names.gather(furthest),
        next_step=names.gather(pl.Series(following, dtype=pl.Int64).gather(furthest)),
        segment=pl.col("segment") if "segment" in rows.columns else pl.lit(None, dtype=pl.String),
    )
    return table.select("customer_id", "funnel", "step", "next_step", "channel", "segment", "last_seen")
