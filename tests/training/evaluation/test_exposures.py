"""Exposures get the reward that followed them, and tables that cannot be used are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from shopsight.training.evaluation.exposures import rewarded
from shopsight.training.evaluation.off_policy import BadLog, ips

_START = datetime(2026, 3, 1, tzinfo=UTC)


def _shown(**change: object) -> pl.DataFrame:
    rows = [("r1", "a", "x", 0.0), ("r1", "a", "y", 0.0), ("r2", "b", "x", 2.0), ("r3", "a", "x", 30.0)]
    return pl.DataFrame(
        [
            {
                "request_id": request,
                "customer_id": customer,
                "item_id": item,
                "experiment": "blend",
                "propensity": 0.5,
                "timestamp": _START + timedelta(days=day),
            }
            | change
            for request, customer, item, day in rows
        ]
    )


def _events(*rows: tuple[str, str, str, float]) -> pl.LazyFrame:
    return pl.DataFrame(
        [
            {"customer_id": c, "item_id": i, "event": e, "timestamp": _START + timedelta(days=day)}
            for c, i, e, day in rows
        ]
    ).lazy()


def test_a_reward_is_what_the_customer_did_soon_after() -> None:
    events = _events(
        ("a", "x", "purchase", 0.0),  # at the moment itself
        ("a", "x", "purchase", 6.9),  # again: still one reward
        ("a", "y", "view", 1.0),  # another event
        ("b", "x", "purchase", 1.9),  # before it was shown
        ("a", "x", "purchase", 37.0),  # a window later
    )
    found = rewarded(_shown().lazy(), events)
    assert found["reward"].to_list() == [1.0, 0.0, 0.0, 0.0]
    assert found.drop("reward").equals(_shown())
    assert rewarded(_shown().lazy(), events, window_days=8)["reward"].to_list() == [1.0, 0.0, 0.0, 1.0]
    assert rewarded(_shown().lazy(), events, event="view")["reward"].to_list() == [0.0, 1.0, 0.0, 0.0]
    told = ips(found["reward"], found["propensity"], found["propensity"], group=found["customer_id"])
    assert told.value == 0.25


@pytest.mark.parametrize("column", ["propensity", "customer_id", "timestamp"])
def test_a_table_that_lacks_what_is_needed_is_refused(column: str) -> None:
    shown = _shown().with_columns(
        pl.when(pl.col("request_id") != "r2").then(pl.col(column)).otherwise(None).alias(column)
    )
    message = rf"1 of 4 rows have no {column}, first request r2 \(experiments: blend\)"
    with pytest.raises(BadLog, match=message):
        rewarded(shown.lazy(), _events(("a", "x", "view", 0.0)))
    with pytest.raises(BadLog, match="exposures table is empty"):
        rewarded(shown.head(0).lazy(), _events(("a", "x", "view", 0.0)))
