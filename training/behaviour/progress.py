"""How far each session or customer came in a funnel."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from shopsight.training.behaviour.steps import Step

_POSITION, _TIME = "position", "timestamp"


def progress(rows: pl.DataFrame, steps: Sequence[Step], window_days: float | None = None) -> pl.DataFrame:
    """Return how far each unit came, one row a unit that took the first step, sorted by unit.

    rows: unit, customer_id, event_id, event, channel, timestamp. A unit takes each step at the first such
    event after its last required step; an optional step counts if it lies between the required ones around
    it, in the order of the steps. Events of equal time count in the order of the steps. window_days: events
    later than that after the first step do not count.

    Columns: unit, customer_id and channel (of the first step), and for step k `time_k` and `position_k`
    (number of the event within the unit), null where the step was not taken.
    """
    numbered = _numbered(rows, steps)
    state = _entries(numbered, steps[0].event)
    if window_days is not None:
        ends = numbered.join(state.select("unit", "time_0"), on="unit")
        numbered = ends.filter(pl.col(_TIME) <= pl.col("time_0") + timedelta(days=window_days)).drop("time_0")
    last = 0
    for k, step in enumerate(steps):
        if k and not step.optional:
            state = _step(numbered, state, k, step.event, last, None)
            for between in range(last + 1, k):
                state = _step(numbered, state, between, steps[between].event, last, k)
            last = k
    return state.sort("unit")


def position_of(k: int) -> str:
    """The column of the event's number at step k."""
    return f"{_POSITION}_{k}"


def time_of(k: int) -> str:
    """The column of the time of step k."""
    return f"time_{k}"


def _numbered(rows: pl.DataFrame, steps: Sequence[Step]) -> pl.DataFrame:
    turn = {step.event: k for k, step in enumerate(steps)}
    order = pl.col("event").replace_strict(turn, default=len(steps), return_dtype=pl.Int64)
    ordered = rows.with_columns(turn=order).sort("unit", _TIME, "turn", "event_id")
    position = pl.int_range(pl.len(), dtype=pl.Int64).over("unit").alias(_POSITION)
    return ordered.with_columns(position).select("unit", "customer_id", "event", "channel", _TIME, _POSITION)


def _entries(numbered: pl.DataFrame, event: str) -> pl.DataFrame:
    first = numbered.filter(pl.col("event") == event).unique("unit", keep="first", maintain_order=True)
    return first.rename({_TIME: time_of(0), _POSITION: position_of(0)}).drop("event")


def _step(
    numbered: pl.DataFrame, state: pl.DataFrame, k: int, event: str, last: int, following: int | None
) -> pl.DataFrame:
    """Add step k: the first `event` after step `last` and all that was taken since, before `following`."""
    taken = [position_of(j) for j in range(last, k) if position_of(j) in state.columns]
    after = pl.max_horizontal(taken)
    before = pl.lit(None, dtype=pl.Int64) if following is None else pl.col(position_of(following))
    bounds = state.select("unit", after=after, before=before).drop_nulls("after")
    found = (
        numbered.lazy()
        .filter(pl.col("event") == event)
        .join(bounds.lazy(), on="unit")
        .filter(pl.col(_POSITION) > pl.col("after"))
        .filter((pl.col(_POSITION) < pl.col("before")).fill_null(True))
        .group_by("unit")
        .agg(pl.col(_TIME).min().alias(time_of(k)), pl.col(_POSITION).min().alias(position_of(k)))
        .collect()
    )
    return state.join(found, on="unit", how="left")
