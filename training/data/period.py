"""The period of a shop's rows, robust against a few wrong clocks."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import scan_table

_SHARE = 0.001  # of the rows at each end, and one row at least, do not decide where the period ends
_REACH = 10  # as many times that share is what the pace near the end is read from
_LEAST_PACED = 50  # rows; of fewer none shows a pace, and only what lies outside by far does not count
_FAR = 3  # times what all other rows took, and a year at least
_YEAR = 365 * 86_400_000_000  # microseconds
_LEAST_COMPARED = 3  # rows; of two nobody can tell which is wrong
_UTC = pl.Datetime("us", "UTC")


class NoEvents(ValueError):  # noqa: N818 - reads as what happened
    """There is no event, so there is nothing to measure."""


def dated_events(tables: Path) -> pl.LazyFrame:
    """Scan the events table without the events whose time the cleaning rules flagged as implausible."""
    events = scan_table(tables, "events")
    flags = scan_table(tables, "flags").filter(
        pl.col("table") == "events", pl.col("rule") == "implausible_time"
    )
    flagged = flags.select("id").collect()["id"]
    return events.filter(~pl.col("event_id").is_in(flagged.to_list())) if len(flagged) else events


def period(rows: pl.LazyFrame) -> tuple[datetime, datetime] | None:
    """The first and the last time of rows with a `timestamp`, those far from all others apart.

    Outliers at each end are excluded. The outermost thousandth of the rows (at least one row) counts only up
    to a distance from the rest that equals the time span of the next nine thousandths, so that a row dated
    2099, or next month, does not move the end. With fewer than 50 rows, the last row is excluded only if its
    distance from all others exceeds three times their span and a year; of two rows both count. Returns None
    without a time.
    """
    times = rows.select(pl.col("timestamp").cast(_UTC).cast(pl.Int64)).drop_nulls().collect().to_series()
    if times.is_empty():
        return None
    microseconds = times.to_numpy()
    first, last = pl.Series([-_last(-microseconds), _last(microseconds)]).cast(_UTC)
    return first, last


def end_of_data(workspace: Workspace) -> datetime:
    """Return the first instant after the last event: features as of then see everything.

    An event far from all others, a wrong clock's, does not count (`period`). Raises NoEvents without any.
    """
    found = period(dated_events(workspace.tables))
    if found is None:
        raise NoEvents(f"{workspace.tables}: the events table has no rows; ingest a source of events first")
    return after(found[1])


def after(last: datetime) -> datetime:
    """The first instant after a time: what lies before it holds the time itself."""
    return last + timedelta(microseconds=1)


def _last(times: NDArray[np.int64]) -> int:
    count = len(times)
    if count < _LEAST_COMPARED:
        return int(times.max())
    if count < _LEAST_PACED:
        ranked = np.sort(times)
        reach = ranked[-2] + max(_FAR * (ranked[-2] - ranked[0]), _YEAR)
        return int(ranked[-1] if ranked[-1] <= reach else ranked[-2])
    apart = max(1, int(count * _SHARE))
    bulk, before = count - 1 - apart, max(0, count - 1 - apart * _REACH)
    ranked = np.partition(times, sorted({before, bulk}))
    reach = ranked[bulk] + (ranked[bulk] - ranked[before])
    return int(times[times <= reach].max())
