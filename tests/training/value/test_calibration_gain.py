"""A calibration is kept only where a later window shows that it helps."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from training.report.value import doubt
from training.value.holdout import Foretold


@pytest.mark.parametrize(
    ("calibrated", "helps"), [((0.9, 0.1), True), ((0.4, 0.6), False), ((0.7, 0.3), False)]
)
def test_a_later_window_decides(calibrated: tuple[float, float], helps: bool) -> None:
    table = pl.DataFrame({"churn": calibrated, "churn_uncalibrated": [0.7, 0.3], "num_purchases": [0, 2]})
    test = Foretold(datetime(2026, 1, 1, tzinfo=UTC), table)
    assert test.gains_from_calibration is helps
    assert test.without_calibration().column("churn").tolist() == [0.7, 0.3]


@pytest.mark.parametrize(("expected", "words"), [(110.0, ""), (150.0, "50% off"), (60.0, "40% off")])
def test_money_that_the_backtest_missed_is_told_with_its_range(expected: float, words: str) -> None:
    told = doubt({"spend": {"happened": 100.0, "expected": expected}}, 1_000.0, "EUR")
    assert (words in told) and (bool(told) is bool(words))
    assert "between 500 and 1,500 EUR" in told or expected != 150.0
    assert "guess" in doubt(None, 1_000.0, "EUR")
