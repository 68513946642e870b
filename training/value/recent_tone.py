"""The tone of customers' recent messages, as read by the language model: a predictor of churn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import PROFILING, permitted
from shopsight.training.language.reading import read_messages
from shopsight.training.value.purchases import Histories

RECENT_TONE = "recent_tone"
_MOST = 3.0


@dataclass(frozen=True)
class RecentTones:
    """tones: customer_id, timestamp and tone (Float64, -1 to 1) of every message; None if none was read."""

    tones: pl.DataFrame | None
    days: float

    def on(self, known: Histories) -> Histories:
        """Return the histories with the column recent_tone: the sum of tones of the last `days`, within ±3.

        Later messages are not used, so that a forecast as of then uses only what was known.
        """
        if self.tones is None:
            return known
        since = known.as_of - timedelta(days=self.days)
        recent = self.tones.filter(pl.col("timestamp") >= since, pl.col("timestamp") < known.as_of)
        recent_tone = recent.group_by("customer_id").agg(
            pl.col("tone").sum().clip(-_MOST, _MOST).alias(RECENT_TONE)
        )
        table = known.table.join(recent_tone, on="customer_id", how="left", maintain_order="left")
        return replace(known, table=table.with_columns(pl.col(RECENT_TONE).fill_null(0.0)))


NO_TONE = RecentTones(None, 0.0)


def read_recent_tones(workspace: Workspace, as_of: datetime, days: float, progress: Progress) -> RecentTones:
    """Read the tone of all messages before `as_of` with the trained language model, if there is one."""
    read = read_messages(workspace, as_of, progress) if days else None
    if read is None or read["tone"].null_count() == read.height:
        return RecentTones(None, days)
    written = permitted(workspace, "messages", PROFILING).select("message_id", "customer_id", "timestamp")
    tones = written.join(read.lazy().select("message_id", "tone"), on="message_id")
    return RecentTones(tones.select("customer_id", "timestamp", "tone").collect(), days)
