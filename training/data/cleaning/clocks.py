"""Clocks that cannot be right: times far from everybody's, and channels whose day is hours off."""

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
    """A channel's day against the others': how many hours it seems late, and how well that fits.

    hours: the shift that fits best; correlation of the hourly counts at that shift, and without one. suspect:
    the clock, or its time zone in the sources file, looks wrong.
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
    """Events by channel and hour: (channel, hour, n), small whatever the rows."""
    hour = pl.col("timestamp").dt.truncate("1h").alias("hour")
    return events.group_by("channel", hour).agg(pl.len().alias("n")).collect(engine=engine)


def implausible(counts: pl.DataFrame) -> pl.Expr:
    """Whether a time lies more than FAR outside the period in which nearly all events lie.

    The period comes from the data, not from this machine's clock, so the same rows always give the same
    flags.
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
    """Compare each channel's day with that of all others.

    Nothing is repaired: a shop at a till has other hours than a web shop, and only the owner knows. A suspect
    clock is said with its hours; the remedy is `timezone` of the source.
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
