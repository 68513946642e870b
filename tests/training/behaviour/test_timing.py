"""Time between purchases against loops and SciPy's Kaplan-Meier, with customers who are not back yet."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.timing import kaplan_meier, timing
from tests.training.small_shop import event, table

ITEMS = table("items", [{"item_id": "post", "goods": False}]).lazy()


def censored(seed: int, num: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    back, end = rng.geometric(0.03, num), rng.integers(0, 90, num)
    return np.minimum(back, end), back <= end


@pytest.mark.parametrize(("seed", "num"), [(0, 400), (1, 37), (2, 3), (3, 1)])
def test_the_curve_is_that_of_scipy(seed: int, num: int) -> None:
    days, came_back = censored(seed, num)
    curve = kaplan_meier(days, came_back)
    data = stats.CensoredData(uncensored=days[came_back], right=days[~came_back])
    slow = stats.ecdf(data).sf
    np.testing.assert_allclose(curve["survival"], slow.evaluate(curve["day"].to_numpy()), atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy says that it has none before the first return
        bounds = slow.confidence_interval(method="log-log")
    for ours, theirs in (("low", bounds.low), ("high", bounds.high)):
        expected = theirs.evaluate(curve["day"].to_numpy())
        known = np.isfinite(expected) & curve["survival"].is_between(0, 1, closed="none").to_numpy()
        np.testing.assert_allclose(curve[ours].to_numpy()[known], expected[known], rtol=1e-9)
        assert curve[ours].null_count() == (~known).sum()


def test_all_who_came_back_leave_a_curve_that_ends_at_zero() -> None:
    curve = kaplan_meier(np.array([1, 2, 2]), np.ones(3, dtype=bool))
    assert curve["survival"].to_list() == pytest.approx([1, 2 / 3, 0])
    assert curve["at_risk"].to_list() == [3, 3, 2]


def shop(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        event(f"c{c}", "post" if rng.random() < 0.1 else "i", "purchase", float(day), line_id=f"{c} {n}")
        for c in range(60)
        for n, day in enumerate(rng.uniform(0, 150, rng.integers(1, 7)))
    ]
    return table("events", [*rows, event(None, "i", "purchase", 149.9)])


@pytest.mark.parametrize("seed", range(3))
def test_spans_and_rates_are_those_of_loops(seed: int) -> None:
    events = shop(seed)
    found = timing(events.lazy(), ITEMS, bin_days=10, num_purchases=3, after_days=(30, 60, 400))
    end = events.filter(pl.col("item_id") == "i")["timestamp"].max().date()  # type: ignore[union-attr]
    bought: dict[str, set[Any]] = {}
    for row in events.to_dicts():
        if row["customer_id"] and row["item_id"] == "i":
            bought.setdefault(row["customer_id"], set()).add(row["timestamp"].date())
    for number in (1, 2, 3):
        spans = []
        for days in bought.values():
            ordered = sorted(days)
            if len(ordered) >= number:
                came = len(ordered) > number
                spans.append((((ordered[number] if came else end) - ordered[number - 1]).days, came))
        (row,) = found.medians.filter(purchase=number).to_dicts()
        assert (row["customers"], row["came_back"]) == (len(spans), sum(came for _, came in spans))
        data = stats.CensoredData(
            uncensored=[d for d, came in spans if came], right=[d for d, came in spans if not came]
        )
        survival = stats.ecdf(data).sf
        longest = max(d for d, _ in spans)
        half = [d for d in range(longest + 1) if survival.evaluate(d) <= 0.5]
        assert row["median_days"] == (half[0] if half else None)
        for at in found.returned.filter(purchase=number).to_dicts():
            if at["days"] > longest:
                assert at["returned"] is None and at["at_risk"] is None
                continue
            assert at["returned"] == pytest.approx(1 - float(survival.evaluate(at["days"])))
            assert at["at_risk"] == sum(d >= at["days"] for d, _ in spans)
            assert at["returned_low"] <= at["returned"] <= at["returned_high"]
        for at in found.hazard.filter(purchase=number).to_dicts():
            inside = range(at["from_day"], at["to_day"] + 1)
            returns = sum(came and d in inside for d, came in spans)
            exposure = sum(d >= day for d, _ in spans for day in inside)
            assert (at["returns"], at["customer_days"]) == (returns, exposure)
            assert at["rate"] == pytest.approx(returns / exposure)
            low, high = at["rate_low"] * exposure, at["rate_high"] * exposure
            assert stats.poisson.cdf(returns, high) == pytest.approx(0.025)
            assert low == 0 if not returns else stats.poisson.sf(returns - 1, low) == pytest.approx(0.025)


def test_a_planted_hazard_is_found_in_spite_of_those_who_are_not_back_yet() -> None:
    rng = np.random.default_rng(6)
    rows = []
    for c in range(3_000):
        first = int(rng.integers(0, 100))
        again = first + int(rng.geometric(0.02))
        rows.append(event(f"c{c}", "i", "purchase", first))
        rows += [event(f"c{c}", "i", "purchase", again)] if again < 100 else []
    found = timing(table("events", rows).lazy(), ITEMS)
    (first,) = found.medians.filter(purchase=1).to_dicts()
    assert first["median_days_low"] <= 35 <= first["median_days_high"]  # log(.5) / log(.98) = 34.3
    weeks = found.hazard.filter(purchase=1).head(8)
    inside = ((weeks["rate_low"] <= 0.02) & (weeks["rate_high"] >= 0.02)).sum()
    assert inside >= 7
    naive = np.median(_complete(rows))
    assert naive < 30  # leaving out who is not back yet would be wrong


def _complete(rows: list[dict[str, Any]]) -> list[float]:
    seen: dict[str, Any] = {}
    spans = []
    for row in rows:
        if row["customer_id"] in seen:
            spans.append((row["timestamp"] - seen[row["customer_id"]]) / timedelta(days=1))
        seen[row["customer_id"]] = row["timestamp"]
    return spans


def test_impossible_settings_and_no_purchases_are_refused() -> None:
    with pytest.raises(BehaviourError, match="must be at least 1"):
        timing(shop(0).lazy(), ITEMS, bin_days=0)
    with pytest.raises(BehaviourError, match="there are no purchases"):
        timing(table("events", []).lazy(), ITEMS)
    with pytest.raises(BehaviourError, match="no purchase has a customer"):
        timing(table("events", [event(None, "i", "purchase", 1)]).lazy(), ITEMS)


def test_one_purchase_alone_is_a_table_without_a_median() -> None:
    found = timing(table("events", [event("a", "i", "purchase", 1)]).lazy(), ITEMS)
    assert found.medians.to_dicts() == [
        {
            "purchase": 1, "customers": 1, "came_back": 0,
            "median_days": None, "median_days_low": None, "median_days_high": None,
        }
    ]  # fmt: skip
    assert found.hazard.is_empty()
