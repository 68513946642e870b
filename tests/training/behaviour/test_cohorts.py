"""Cohorts against loops over customers; periods that are not over stay blank, currencies apart."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.training.behaviour.cohorts import cohorts
from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.evaluation.proportions import wilson
from tests.training.small_shop import event, table

ITEMS = table("items", [{"item_id": "i", "goods": True}, {"item_id": "post", "goods": False}]).lazy()
END = datetime(2026, 5, 20, tzinfo=UTC)


def shop(seed: int) -> pl.DataFrame:
    """Return purchases and returns of 40 customers in two currencies over January to 19 May 2026."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(300):
        kind = "return" if rng.random() < 0.1 else "purchase"
        currency = ["EUR", "USD", None][int(rng.choice(3, p=[0.7, 0.25, 0.05]))]
        more = {
            "price": round(float(rng.gamma(2, 10)), 2),
            "currency": currency,
            "quantity": int(rng.integers(1, 4)),
        }
        if rng.random() < 0.05:
            more = {"price": None, "currency": None}
        customer = f"c{int(rng.gamma(1.5, 8))}" if rng.random() < 0.95 else None
        item = "post" if rng.random() < 0.1 else "i"
        rows.append(event(customer, item, kind, float(rng.integers(139)), line_id=str(n), **more))
    rows.append(event("last", "i", "purchase", 138.5, price=1, currency="EUR"))
    return table("events", rows)


def month(time: datetime, by: str) -> date:
    return time.date().replace(day=1) if by == "month" else time.date() - timedelta(days=time.weekday())


def following(start: date, by: str) -> date:
    return (start + timedelta(days=32)).replace(day=1) if by == "month" else start + timedelta(days=7)


def slow(events: pl.DataFrame, by: str) -> tuple[dict[Any, Any], dict[Any, dict[str, float]]]:
    """Return the cohort of each customer, and the amounts by (currency, customer, start of period)."""
    rows = [r for r in events.to_dicts() if r["customer_id"]]
    cohort: dict[str, date] = {}
    for row in rows:
        if row["event"] == "purchase" and row["item_id"] != "post":
            start = month(row["timestamp"], by)
            cohort[row["customer_id"]] = min(start, cohort.get(row["customer_id"], start))
    paid: dict[Any, dict[str, float]] = {}
    for row in rows:
        start = month(row["timestamp"], by)
        if row["price"] is None or start < cohort.get(row["customer_id"], date.max):
            continue
        total = float(row["price"]) * float(row["quantity"] or 1) * (-1 if row["event"] == "return" else 1)
        of = paid.setdefault((row["currency"], start), {})
        of[row["customer_id"]] = of.get(row["customer_id"], 0.0) + total
    return cohort, paid


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("by", ["month", "week"])
def test_people_and_revenue_are_those_of_loops(seed: int, by: str) -> None:
    events = shop(seed)
    found = cohorts(events.lazy(), ITEMS, by)
    cohort, paid = slow(events, by)
    seen = 0
    for row in found.people.to_dicts():
        start = first = row["cohort"]
        members = {c for c, begin in cohort.items() if begin == first}
        for _ in range(row["period"]):
            start = following(start, by)
        buyers = {
            r["customer_id"]
            for r in events.to_dicts()
            if r["event"] == "purchase" and r["item_id"] != "post" and month(r["timestamp"], by) == start
        }
        assert row["customers"] == len(members)
        if following(start, by) > END.date():
            assert (row["bought"], row["retention"], row["retention_low"]) == (None, None, None)
            continue
        seen += 1
        assert row["bought"] == len(members & buyers)
        assert (row["retention_low"], row["retention_high"]) == pytest.approx(
            wilson(len(members & buyers), len(members))
        )
    assert seen
    for row in found.revenue.to_dicts():
        start = first = row["cohort"]
        members = sorted(c for c, begin in cohort.items() if begin == first)
        for _ in range(row["period"]):
            start = following(start, by)
        if following(start, by) > END.date():
            assert (row["revenue"], row["kept"], row["kept_low"]) == (None, None, None)
            continue
        base = np.array([paid.get((row["currency"], first), {}).get(c, 0.0) for c in members])
        now = np.array([paid.get((row["currency"], start), {}).get(c, 0.0) for c in members])
        assert row["revenue"] == pytest.approx(now.sum(), abs=1e-6)
        if base.sum() <= 0:
            assert row["kept"] is None
            continue
        ratio = now.sum() / base.sum()
        assert row["kept"] == pytest.approx(ratio, abs=1e-9)
        if len(members) > 1:
            error = np.sqrt(len(members) * np.var(now - ratio * base, ddof=1)) / base.sum()
            mean_free = (
                np.sqrt(len(members) / (len(members) - 1) * ((now - ratio * base) ** 2).sum()) / base.sum()
            )
            assert error == pytest.approx(mean_free)  # residuals of a ratio add up to 0
            assert row["kept_high"] - row["kept"] == pytest.approx(1.959964 * mean_free, rel=1e-5, abs=1e-6)
    assert set(found.revenue["currency"]) == {"EUR", "USD", None}


def test_the_last_period_is_blank_until_the_data_covers_it() -> None:
    rows = [event("a", "i", "purchase", day) for day in (0, 40, 58)]  # 1 January, 10 and 28 February 2026
    rows += [event("b", "i", "purchase", 35)]
    closed = cohorts(table("events", rows).lazy(), ITEMS).people
    assert closed["retention"].to_list() == [1.0, 1.0, 1.0]  # the data ends with 28 February
    early = cohorts(table("events", rows).lazy(), ITEMS, until=datetime(2026, 2, 20, tzinfo=UTC)).people
    assert early["bought"].to_list() == [1, None, None]
    late = cohorts(table("events", rows).lazy(), ITEMS, until=datetime(2026, 4, 1, tzinfo=UTC)).people
    assert late.filter(pl.col("cohort").dt.month() == 2)["bought"].to_list() == [1, 0]


def test_impossible_cohorts_are_refused() -> None:
    with pytest.raises(BehaviourError, match="by month or by week, not by 'day'"):
        cohorts(shop(0).lazy(), ITEMS, "day")
    with pytest.raises(BehaviourError, match="there are no purchases"):
        cohorts(table("events", []).lazy(), ITEMS)
    with pytest.raises(BehaviourError, match="no customer bought anything"):
        cohorts(table("events", [event(None, "i", "purchase", 1)]).lazy(), ITEMS)
