"""Forecasts of a row each against every number of purchases summed, one root at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import betainc

from shopsight.training.value.bgnbd import BGNBD
from shopsight.training.value.forecast import Forecast, forecast
from shopsight.training.value.gamma_gamma import GammaGamma

BUYING, SPENDING = BGNBD(0.24, 31.0, 0.79, 2.43), GammaGamma(6.25, 3.74, 15.4)
# frequency, recency, T, num_priced, monetary_value
CUSTOMERS = [
    (0, 0, 200, 1, 30.0), (5, 150, 200, 6, 40.0), (80, 199, 200, 81, 12.0), (2, 20, 300, 0, np.nan),
    (0, 0, 0, 1, 10.0), (400, 700, 720, 401, 5.0), (30, 300, 300, 31, 900.0), (5, 150, 200, 6, 40.0),
]  # fmt: skip
HORIZON = 90.0


def told(customers: list[Any] = CUSTOMERS, **settings: Any) -> Forecast:
    frequency, recency, T, num_priced, monetary_value = (np.array(c) for c in zip(*customers, strict=True))
    given = {"horizon": HORIZON, "interval": 0.8} | settings
    return forecast(
        BUYING, SPENDING, frequency=frequency, recency=recency, T=T, num_priced=num_priced,
        monetary_value=monetary_value, **given,
    )  # fmt: skip


def _quantile(x: int, t_x: float, T: float, priced: int, mean: float, level: float) -> float:
    alive = BUYING.alive(*(np.array([float(v)]) for v in (x, t_x, T)))[0]
    tail = np.append(BUYING.alive_tail(float(x), np.array([float(T)]), HORIZON)[0], 0.0)
    n = np.arange(1, len(tail))
    some = (tail[:-1] - tail[1:]) * alive
    scale = SPENDING.v + (priced * mean if priced else 0.0)

    def below(spend: float) -> float:
        share = spend / (scale + spend)
        spent = betainc(SPENDING.p * n, SPENDING.q + SPENDING.p * priced, share)
        return float(1 - some.sum() + some @ spent - level)

    return 0.0 if below(0.0) >= 0 else float(brentq(below, 0.0, 1e7))


@pytest.mark.parametrize("interval", [0.5, 0.8, 0.98])
def test_intervals_are_quantiles_of_what_may_be_spent(interval: float) -> None:
    found = told(interval=interval)
    for i, customer in enumerate(CUSTOMERS):
        low, high = (_quantile(*customer, level) for level in ((1 - interval) / 2, (1 + interval) / 2))
        assert found.value_low[i] == pytest.approx(low, rel=5e-3, abs=1e-9)
        assert found.value_high[i] == pytest.approx(high, rel=5e-3, abs=1e-9)


def test_value_is_purchases_times_spending_and_churn_is_no_purchase() -> None:
    found = told()
    for i, (x, t_x, T, priced, mean) in enumerate(CUSTOMERS):
        alive = BUYING.alive(*(np.array([float(v)]) for v in (x, t_x, T)))[0]
        tail = BUYING.alive_tail(float(x), np.array([float(T)]), HORIZON)[0]
        spend = SPENDING.expected_spend(np.array([priced]), np.array([mean]))[0]
        assert found.alive[i] == pytest.approx(alive)
        assert found.expected_purchases[i] == pytest.approx(alive * tail.sum())
        assert found.no_purchase[i] == pytest.approx(1 - alive * tail[0])
        assert found.value[i] == pytest.approx(alive * tail.sum() * spend)


def test_a_customer_is_told_the_same_in_any_company() -> None:
    together = told()
    for i, customer in enumerate(CUSTOMERS):
        alone = told([customer])
        for name in ("alive", "expected_purchases", "no_purchase", "value", "value_low", "value_high"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[i], rel=1e-9)
    assert len(told(CUSTOMERS[:0] or [CUSTOMERS[0]]).value) == 1


def test_a_discount_counts_each_purchase_at_its_time() -> None:
    rate, x, T = 0.004, 5, 200.0
    grid = np.linspace(0.0, HORIZON, 4001)
    made = np.array([BUYING.alive_purchases(float(x), np.array([T]), t)[0] if t else 0.0 for t in grid])
    discounted = (np.diff(made) * np.exp(-rate * (grid[1:] + grid[:-1]) / 2)).sum() / made[-1]
    plain, less = told(), told(discount=rate)
    assert less.value[1] / plain.value[1] == pytest.approx(discounted, rel=1e-6)
    assert less.value_high[1] / plain.value_high[1] == pytest.approx(discounted, rel=1e-6)
    assert less.expected_purchases[1] == plain.expected_purchases[1]


def test_fractions_of_time_are_as_good_as_days() -> None:
    weeks = forecast(
        BGNBD(0.24, 31.0 / 7, 0.79, 2.43), SPENDING, frequency=np.array([5]), recency=np.array([150 / 7]),
        T=np.array([200 / 7]), num_priced=np.array([6]), monetary_value=np.array([40.0]), horizon=HORIZON / 7,
    )  # fmt: skip
    days = told()
    assert weeks.value[0] == pytest.approx(days.value[1]) and weeks.value_high[0] == pytest.approx(
        days.value_high[1]
    )
