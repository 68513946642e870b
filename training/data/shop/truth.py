"""What the truth says about the weeks after the raw data: the best that any recommender can do."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.shop.spec import FUTURE_DAYS, NUM_DAYS


def propensities(person_factors: pl.Series, items: pl.DataFrame) -> NDArray[np.float64]:
    """Return each person's planted propensity for each item, [people, items], rows summing to 1.

    person_factors: the `factor` column of people.parquet; items: items.parquet.
    """
    logits = _matrix(person_factors) @ _matrix(items["factor"]).T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def future_availability(items: pl.DataFrame) -> NDArray[np.float64]:
    """Return the share of the weeks after the raw data on which each item is on sale, [items]."""
    first = np.maximum(items["from_day"].to_numpy(), NUM_DAYS)
    last = np.minimum(items["to_day"].to_numpy(), NUM_DAYS + FUTURE_DAYS)
    return np.asarray(np.maximum(last - first, 0) / FUTURE_DAYS, dtype=np.float64)


def _matrix(column: pl.Series) -> NDArray[np.float64]:
    return np.array(column.to_list(), dtype=np.float64)
