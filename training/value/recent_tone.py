"""How customers sounded of late, as the language model reads it: who is annoyed leaves sooner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import PROFILING, permitted
from shopsight.training.language.reading import read_messages
from shopsight.training.value.purchases import Histories

RECENT_TONE = "recent_tone"
_MOST = 3.0


@dataclass(frozen=True)
class RecentTones:
    """The tone of every message, Float64 -1 to 1: customer_id, timestamp, tone; None where none is read."""

    told: pl.DataFrame | None
    days: float

    def on(self, known: Histories) -> Histories:
        """Return the histories with the column recent_tone: the tones of the `days` before, added up, at most
        ±3.

        Messages of later are not read, so that a forecast as of then knows what could be known.
        """
        if self.told is None:
            return known
        since = known.as_of - timedelta(days=self.days)
        recent = self.told.filter(pl.col("timestamp") >= since, pl.col("timestamp") < known.as_of)
        recent_tone = recent.group_by("customer_id").agg(
            pl.col("tone").sum().clip(-_MOST, _MOST).alias(RECENT_TONE)
        )
        table = known.table.join(recent_tone, on="customer_id", how="left", maintain_order="left")
        return replace(known, table=table.with_columns(pl.col(RECENT_TONE).fill_null(0.0)))


NO_TONE = RecentTones(None, 0.0)


def read_recent_tones(
    workspace: Workspace, as_of: datetime, days: float, progress: Callable[[str], None]
) -> RecentTones:
    """Read the tone of all messages before `as_of` with the language model, where there is one."""
    read = read_messages(workspace, as_of, progress) if days else None
    if read is None or read["tone"].null_count() == read.height:
        return RecentTones(None, days)
    written = permitted(workspace, "messages", PROFILING).select("message_id", "customer_id", "timestamp")
    told = written.join(read.lazy().select("message_id", "tone"), on="message_id")
    return RecentTones(told.select("customer_id", "timestamp", "tone").collect(), days)
