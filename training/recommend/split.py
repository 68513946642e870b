"""The split into training, validation and test windows in time, the same for every customer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shopsight.training.data.period import after, period
from shopsight.training.recommend.interactions import Catalogue, to_csr

_MOST_DAYS = 28.0
_SHARE_OF_SPAN = 0.1
# Events in descending order of their value to a shop; the first that the data have is the target.
_TARGETS = ("purchase", "cart", "view")


@dataclass(frozen=True)
class Windows:
    """Global cuts in time: train [.., validation), validate [validation, test), test [test, end)."""

    validation: datetime
    test: datetime
    end: datetime


class NoInteractions(ValueError):  # noqa: N818 - reads as what happened
    """No event ties a known customer to an item, so there is nothing to learn."""


class NoWindow(ValueError):  # noqa: N818 - reads as what happened
    """The windows that were asked for do not fit into the data."""


def windows(events: pl.LazyFrame, test_days: float) -> Windows:
    """Return the cuts for windows of `test_days` days, 0: a tenth of the span of the data, at most 28 days.

    The span is that of `period`: no single event decides where a window begins or ends. Raises NoInteractions
    when no event has a customer and an item, NoWindow when `test_days` leaves nothing to train on.
    """
    tied = events.filter(pl.col("customer_id").is_not_null(), pl.col("item_id").is_not_null())
    found = period(tied)
    if found is None:
        raise NoInteractions("no event has both a customer and an item; ingest events that do")
    first, end = found[0], after(found[1])
    span = (end - first) / timedelta(days=1)
    days = test_days or min(_MOST_DAYS, span * _SHARE_OF_SPAN)
    if test_days and span <= 2 * test_days:
        raise NoWindow(
            f"test_days={test_days:g}: the events span {span:.1f} days, {first:%Y-%m-%d} to {end:%Y-%m-%d}; "
            "a validation and a test window of this length leave nothing to train on, take less than "
            f"{span / 2:.1f}"
        )
    test = end - timedelta(days=days)
    return Windows(validation=test - timedelta(days=days), test=test, end=end)


def target_event(events: pl.LazyFrame) -> str:
    """Return the event to predict: purchases, or in a shop without any carts or views."""
    present = set(events.select(pl.col("event").unique()).collect()["event"].to_list())
    return next((event for event in _TARGETS if event in present), _TARGETS[0])


def targets(events: pl.LazyFrame, known: Catalogue, event: str, begin: datetime, end: datetime) -> csr_matrix:
    """Return the items of each customer's `event`s in [begin, end), CSR of ones [customers, items]."""
    chosen = events.filter(pl.col("event") == event, pl.col("timestamp") >= begin, pl.col("timestamp") < end)
    cells = known.index(chosen).select("row", "column").unique().sort("row", "column").collect()
    return to_csr(cells, known.shape, np.ones(cells.height))


def leak_report(
    events: pl.LazyFrame,
    items: pl.LazyFrame,
    known: Catalogue,
    cut: Windows,
    trained: csr_matrix,
    earlier: csr_matrix,
) -> dict[str, Any]:
    """Return counts of leaks from the test window into training; `passed` is False if there is any.

    trained: CSR [customers, items], the matrix that the evaluated model was fitted to. earlier: the same
    matrix computed from `events_before` alone, for comparison. Leaks are training cells without an earlier
    event, cells whose weight differs from that of the earlier events, cells of items not yet available at the
    cut. Counted as facts: customers and items that occur only in the test window, and cells of it that
    training has too. Customers are joined across channels regardless of time; that is not counted as a leak.
    """
    tied = known.index(events)
    tested = tied.filter(pl.col("timestamp") >= cut.test).select("row", "column").unique().collect()
    tested_cells = tested["row"].to_numpy() * known.shape[1] + tested["column"].to_numpy()
    repeated = int(np.isin(tested_cells, _cells(trained)).sum())
    to_come = items.filter(pl.col("available_from") >= cut.test).select("item_id").collect()["item_id"]
    premature = known.item_ids.is_in(to_come.to_list()).to_numpy()
    in_train, expected = trained.astype(bool), earlier.astype(bool)
    unexplained = int((in_train > expected).nnz)
    changed = abs(trained - earlier) > 1e-4 * abs(earlier)
    differing = int(changed.multiply(in_train).multiply(expected).nnz)
    of_premature = int(np.diff(trained.tocsc().indptr)[premature].sum())
    return {
        "train_cells": int(trained.nnz),
        "train_cells_without_earlier_event": unexplained,
        "train_cells_with_later_weight": differing,
        "train_cells_of_items_not_yet_available": of_premature,
        "test_cells": tested.height,
        "test_cells_also_in_training": repeated,
        "items_only_in_test": _only_in(tested["column"], np.diff(trained.tocsc().indptr)),
        "customers_only_in_test": _only_in(tested["row"], np.diff(trained.indptr)),
        "passed": not (unexplained or differing or of_premature),
    }


def events_before(events: pl.LazyFrame, time: datetime) -> pl.LazyFrame:
    """Return the events before a time."""
    return events.filter(pl.col("timestamp") < time)


def _cells(matrix: csr_matrix) -> NDArray[np.int64]:
    """Return row · columns + column of every stored cell, int64 [nnz]."""
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return np.asarray(rows * matrix.shape[1] + matrix.indices)


def _only_in(tested: pl.Series, num_trained: NDArray[np.int64]) -> int:
    return int((num_trained[tested.unique().to_numpy()] == 0).sum())
