"""Shares of counts as columns, each with its 95 % interval."""

from __future__ import annotations

import numpy as np
import polars as pl

from shopsight.training.evaluation.proportions import wilson_intervals


def with_share(table: pl.DataFrame, name: str, part: str, whole: str) -> pl.DataFrame:
    """Append the columns `name`, `name_low` and `name_high`: part / whole with its Wilson interval.

    part, whole: names of columns of counts. Rows whose whole is 0 or null have null in all three.
    """
    counts = table.select(pl.col(part, whole).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    num, total = counts[:, 0], np.where(counts[:, 1] > 0, counts[:, 1], np.nan)
    low, high = wilson_intervals(num, total)
    columns = {name: num / total, f"{name}_low": low, f"{name}_high": high}
    return table.with_columns(pl.Series(c, v, dtype=pl.Float64).fill_nan(None) for c, v in columns.items())
