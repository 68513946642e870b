"""Sessions: visits of one visitor, parted by pauses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from shopsight.training.behaviour.errors import BehaviourError

GAP_MINUTES = 30.0  # the convention of web analytics
NOT_VISITS = ("return", "exposure", "message")  # what the shop books or shows, and letters to support
_MICROSECONDS = 60_000_000


@dataclass(frozen=True)
class Sessions:
    """Events with the session of each.

    rows: customer_id (null for a visitor who is not known), session (uint32, numbered by visitor and time)
    and event_id, event, channel, item_id, session_id, timestamp, sorted by session, timestamp and event_id.
    notes: sentences on what was joined and left out.
    """

    rows: pl.DataFrame
    gap_minutes: float
    notes: tuple[str, ...]

    @property
    def num_sessions(self) -> int:
        """Sessions in all."""
        return self.rows["session"].n_unique()


def sessions(events: pl.LazyFrame, gap_minutes: float = GAP_MINUTES) -> Sessions:
    """Divide events into sessions: a pause of more than `gap_minutes` begins a new one.

    events: as in training/data/tables.py. A visitor is a customer, in all channels; events without a customer
    belong to the customer of the other events of their `session_id` (within the channel), if there is exactly
    one, and otherwise to a visitor of that session_id. Events with neither are left out, and so are
    returns, exposures and messages, which are no visits. Raises BehaviourError for a gap that is not
    above 0.
    """
    if not 0 < gap_minutes < float("inf"):
        raise BehaviourError(f"the gap between sessions is {gap_minutes}; it must be above 0 minutes")
    columns = ("event_id", "event", "channel", "item_id", "session_id", "customer_id", "timestamp")
    visits = events.select(columns).filter(
        pl.col("timestamp").is_not_null(), ~pl.col("event").is_in(NOT_VISITS).fill_null(True)
    )
    known, joined = _with_customers(visits.collect())
    visitor = pl.coalesce(
        pl.concat_str(pl.lit("c "), "customer_id"),
        pl.concat_str(pl.lit("s "), pl.col("channel").fill_null(""), pl.lit(" "), "session_id"),
    )
    rows = known.with_columns(visitor=visitor).drop_nulls("visitor").sort("visitor", "timestamp", "event_id")
    pause = pl.col("timestamp").diff() > timedelta(microseconds=round(gap_minutes * _MICROSECONDS))
    begins = (pl.col("visitor") != pl.col("visitor").shift()) | pause
    rows = rows.with_columns(session=begins.fill_null(False).cast(pl.UInt32).cum_sum()).drop("visitor")
    return Sessions(rows, gap_minutes, _notes(gap_minutes, joined, known.height - rows.height))


def _with_customers(visits: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the events, those without a customer with that of their session_id, and the number of these."""
    keys = ["channel", "session_id"]
    owners = (
        visits.lazy()
        .filter(pl.col("session_id").is_not_null(), pl.col("customer_id").is_not_null())
        .group_by(keys)
        .agg(owner=pl.col("customer_id").first(), num=pl.col("customer_id").n_unique())
        .filter(pl.col("num") == 1)
        .drop("num")
    )
    found = visits.lazy().join(owners, on=keys, how="left", nulls_equal=True).collect()
    joined = found.filter(pl.col("customer_id").is_null(), pl.col("owner").is_not_null()).height
    return found.with_columns(pl.coalesce("customer_id", "owner").alias("customer_id")).drop("owner"), joined


def _notes(gap_minutes: float, joined: int, left_out: int) -> tuple[str, ...]:
    notes = [f"a session ends with a pause of more than {gap_minutes:g} minutes"]
    if joined:
        notes.append(f"{joined:,} events without a customer count to the only customer of their session_id")
    if left_out:
        notes.append(f"{left_out:,} events have neither a customer nor a session_id and are left out")
    return tuple(notes)
