"""Since when a step of a funnel is taken more or less often: one change a channel and step."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from shopsight.training.behaviour.shares import with_share

SIGNIFICANT = 0.01  # after the correction for all weeks, channels and steps that were looked at
_LEAST_WEEKS = 3  # on each side of a change
_COLUMNS = (
    "channel",
    "step",
    "since",
    "before",
    "before_low",
    "before_high",
    "after",
    "after_low",
    "after_high",
)

Float64 = NDArray[np.float64]


def changes(weeks: pl.DataFrame) -> pl.DataFrame:
    """Return the channels and steps whose share changed, the most certain first.

    weeks: channel, step, week, previous, reached, as in funnel.py. The week that parts the shares best is
    found by the likelihood ratio of two binomial shares against one, divided by how much more the weeks
    scatter around the two than binomial shares do. Its p value is multiplied by the number of all splits
    that were looked at (Bonferroni); changes up to SIGNIFICANT are listed. Columns: channel, step, since (the
    first week after the change), before and after (shares, each with its 95 % Wilson interval), p_value.
    """
    found, num_splits = [], 0
    for (channel, step), own in weeks.sort("week").group_by("channel", "step", maintain_order=True):
        of, did = (own[c].cast(pl.Float64).to_numpy() for c in ("previous", "reached"))
        splits = range(_LEAST_WEEKS, own.height - _LEAST_WEEKS + 1)
        num_splits += len(splits)
        if not splits:
            continue
        gains = np.array([_gain(did, of, split) for split in splits])
        at = splits[int(gains.argmax())]
        left, right = (int(of[:at].sum()), int(did[:at].sum())), (int(of[at:].sum()), int(did[at:].sum()))
        p_value = float(stats.chi2.sf(gains.max() / _scatter(did, of, at), 1))
        found.append((channel, step, own["week"][at], *left, *right, p_value))
    names = ("channel", "step", "since", "of_before", "did_before", "of_after", "did_after", "p_value")
    types = (pl.String, pl.String, pl.Date, pl.Int64, pl.Int64, pl.Int64, pl.Int64, pl.Float64)
    table = pl.DataFrame(found, schema=dict(zip(names, types, strict=True)), orient="row")
    table = table.with_columns((pl.col("p_value") * num_splits).clip(upper_bound=1.0))
    table = with_share(
        with_share(table, "before", "did_before", "of_before"), "after", "did_after", "of_after"
    )
    listed = table.filter(pl.col("p_value") <= SIGNIFICANT).sort("p_value", "channel", "step")
    return listed.select(*_COLUMNS, "p_value")


def _gain(did: Float64, of: Float64, split: int) -> float:
    """Twice the log likelihood that two shares gain over one."""
    parts = sum(
        _log_likelihood(did[side].sum(), of[side].sum()) for side in (slice(split), slice(split, None))
    )
    return 2 * (parts - _log_likelihood(did.sum(), of.sum()))


def _log_likelihood(did: float, of: float) -> float:
    rest = of - did
    return sum(n * float(np.log(n / of)) for n in (did, rest) if n > 0)


def _scatter(did: Float64, of: Float64, split: int) -> float:
    """Pearson's chi-square of the weeks around the two shares, a degree of freedom; at least 1."""
    total = 0.0
    for side in (slice(split), slice(split, None)):
        share = did[side].sum() / max(of[side].sum(), 1.0)
        variance = of[side] * share * (1 - share)
        known = variance > 0
        total += float((((did[side] - of[side] * share) ** 2)[known] / variance[known]).sum())
    return max(1.0, total / (did.size - 2))
