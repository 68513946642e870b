"""Proposed descriptions of files that no sources file describes yet."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from shopsight.training.data.cleaning.times import parse_times
from shopsight.training.data.describing.joins import Joined
from shopsight.training.data.describing.series import Series


@dataclass(frozen=True)
class Proposal:
    """What the files of a series seem to be.

    columns: our field to a column; constants: our field to a value; values: our field to what its raw values
    mean; flags: further lines of its entry in the sources file; joined: fields that another file has;
    questions: what only the shop can answer; is_open: without an answer the totals are wrong.
    """

    series: Series
    kind: str
    name: str
    columns: dict[str, str]
    unused: list[str]
    sample: pl.DataFrame
    constants: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    joined: Joined | None = None
    questions: list[str] = field(default_factory=list)
    is_open: bool = False


def times_understood(texts: pl.Series) -> float:
    """The share of written times that can be read."""
    share = parse_times(texts.drop_nulls()).is_not_null().mean() if texts.drop_nulls().len() else 1.0
    return float(share) if isinstance(share, float) else 1.0
