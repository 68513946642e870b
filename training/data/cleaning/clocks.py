"""Detects wrong clocks: implausible times, and channels whose daily pattern is shifted by hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

FAR = timedelta(days=365)
_BULK = 0.995  # of all events lie in the period that others are compared with
_MIN_EVENTS = 2_000
_LEAST_COMPARED = 20  # events, of which one may be far from the others
_MIN_CORRELATION = 0.9
_MIN_GAIN = 0.5


@dataclass(frozen=True)
class Clock:
    """The shift of a channel's daily pattern against the other channels.

    hours: the best-fitting shift; with the correlation of the hourly counts at that shift, and without it.
    suspect: whether the clock, or its time zone in the sources file, is probably wrong.
    """

    channel: str
    events: int
    first: str
    last: str
    hours: int
    correlation: float
    correlation_as_is: float
    suspect: bool


def hourly(events: pl.LazyFrame, engine: Any = "streaming") -> pl.DataFrame:
    """Return the number of events by channel and hour: (channel, hour, n)."""
    hour = pl.col("timestamp").dt.truncate("1h").alias("hour")
    return events.group_by("channel", hour).agg(pl.len().alias("n")).collect(engine=engine)


def implausible(counts: pl.DataFrame) -> pl.Expr:
    """Return whether a time lies more than FAR outside the period of nearly all events, Boolean.

    The period comes from the data, not from this machine's clock, so that equal rows give equal flags.
    """
    by_hour = counts.group_by("hour").agg(pl.col("n").sum()).sort("hour")
    total = int(by_hour["n"].sum())
    if total < _LEAST_COMPARED:
        return pl.lit(False)
    so_far, apart = by_hour["n"].cum_sum(), max(1, total * (1 - _BULK))  # one event is no bulk
    first = by_hour["hour"].filter(so_far > apart)[0]
    last = by_hour["hour"].filter(so_far >= total - apart)[0]
    return ~pl.col("timestamp").is_between(pl.lit(first) - FAR, pl.lit(last) + FAR)


def clocks(counts: pl.DataFrame) -> list[Clock]:
    """Compare each channel's daily pattern with that of all others.

    Times are not changed, as a store has other hours than a web shop. A suspect clock is reported with its
    shift; the remedy is `timezone` of the source.
    """
    days = counts.with_columns(pl.col("hour").dt.hour().alias("of_day"))
    table = {
        str(channel): np.bincount(part["of_day"], weights=part["n"], minlength=24)
        for (channel,), part in days.group_by("channel", maintain_order=False)
    }
    found = []
    for channel in sorted(table):
        mine = table[channel]
        others = np.sum([counts for name, counts in table.items() if name != channel], axis=0)
        spans = counts.filter(pl.col("channel") == channel)["hour"]
        hours, best, as_is = 0, 1.0, 1.0
        if len(table) > 1 and mine.sum() >= _MIN_EVENTS and others.sum() >= _MIN_EVENTS:
            fits = [_correlation(np.roll(mine, -shift), others) for shift in range(24)]
            hours, best, as_is = int(np.argmax(fits)), max(fits), fits[0]
            hours = hours - 24 if hours > 12 else hours
        suspect = hours != 0 and best >= _MIN_CORRELATION and best - as_is >= _MIN_GAIN
        found.append(
            Clock(
                channel,
                int(mine.sum()),
                str(spans.min()),
                str(spans.max()),
                hours,
                round(best, 3),
                round(as_is, 3),
                suspect,
            )
        )
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
