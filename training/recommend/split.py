"""What is trained on, what is judged on: windows of time, the same for every customer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from training.recommend.interactions import Catalogue, to_csr

_MOST_DAYS = 28.0
_SHARE_OF_SPAN = 0.1
# What a shop wants to happen, the best first: the first that the data have is what is predicted.
_TARGETS = ("purchase", "cart", "view")


@dataclass(frozen=True)
class Windows:
    """Global cuts in time: train [.., validation), validate [validation, test), test [test, end)."""

    validation: datetime
    test: datetime
    end: datetime


class NoInteractions(ValueError):  # noqa: N818 - reads as what happened
    """No event ties a known customer to an item, so there is nothing to learn."""


def windows(events: pl.LazyFrame, test_days: float) -> Windows:
    """Return the cuts for windows of `test_days` days, 0: a tenth of the span of the data, at most 28 days.

    Raises NoInteractions when no event has a customer and an item.
    """
    tied = events.filter(pl.col("customer_id").is_not_null(), pl.col("item_id").is_not_null())
    span = tied.select(first=pl.col("timestamp").min(), last=pl.col("timestamp").max()).collect()
    first, last = span.row(0)
    if first is None:
        raise NoInteractions("no event has both a customer and an item; ingest events that do")
    days = test_days or min(_MOST_DAYS, (last - first) / timedelta(days=1) * _SHARE_OF_SPAN)
    end = last + timedelta(microseconds=1)
    test = end - timedelta(days=days)
    return Windows(validation=test - timedelta(days=days), test=test, end=end)


def target_event(events: pl.LazyFrame) -> str:
    """Return what is predicted: purchases, or what comes nearest in a shop without any."""
    present = set(events.select(pl.col("event").unique()).collect()["event"].to_list())
    return next((event for event in _TARGETS if event in present), _TARGETS[0])


def targets(events: pl.LazyFrame, known: Catalogue, event: str, begin: datetime, end: datetime) -> csr_matrix:
    """Return the items of each customer's `event`s in [begin, end), CSR of ones [customers, items]."""
    chosen = events.filter(pl.col("event") == event, pl.col("timestamp") >= begin, pl.col("timestamp") < end)
    cells = known.index(chosen).select("row", "column").unique().sort("row", "column").collect()
    return to_csr(cells, known.shape, np.ones(cells.height))


def leak_report(events: pl.LazyFrame, items: pl.LazyFrame, known: Catalogue, cut: Windows) -> dict[str, Any]:
    """Count what would betray the test window to training; `passed` is false when anything did.

    Rows of training at or after the cut, events that lie in both, and, as facts and no leaks, customers and
    items that only the test window has. Customers are joined across channels without regard to time: who
    somebody is, is no secret of the future.
    """
    tied = known.index(events)
    train, test = tied.filter(pl.col("timestamp") < cut.test), tied.filter(pl.col("timestamp") >= cut.test)
    late = train.filter(pl.col("timestamp") >= cut.test).select(pl.len()).collect().item()
    both = train.select("event_id").join(test.select("event_id").unique(), on="event_id").collect().height
    seen = train.select("column").unique()
    new_items = test.select("column").unique().join(seen, on="column", how="anti").collect().height
    new_customers = (
        test.select("row").unique().join(train.select("row").unique(), on="row", how="anti").collect().height
    )
    to_come = items.filter(pl.col("available_from") >= cut.test).select("item_id")
    premature = train.join(to_come, on="item_id").select(pl.len()).collect().item()
    return {
        "train_rows_after_cut": late,
        "events_in_both": both,
        "train_rows_of_items_not_yet_available": premature,
        "items_only_in_test": new_items,
        "customers_only_in_test": new_customers,
        "passed": late == 0 and both == 0 and premature == 0,
    }
