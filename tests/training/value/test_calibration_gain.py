"""A calibration is used only where a later window than its own, which is not judged on, shows it helps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from shopsight.training.value import holdout
from shopsight.training.value.calibration import Calibration
from shopsight.training.value.config import ValueConfig
from shopsight.training.value.holdout import Backtest, HoldoutForecast, backtest
from shopsight.training.value.purchases import Histories
from tests.training.small_shop import START

CONFIG = ValueConfig(horizon_days=30, num_bootstraps=20)
LEARNED = [Calibration(intercept=float(number)) for number in range(4)]


@pytest.mark.parametrize(
    ("calibrated", "helps"), [((0.9, 0.1), True), ((0.4, 0.6), False), ((0.7, 0.3), False)]
)
def test_a_later_window_decides(calibrated: tuple[float, float], helps: bool) -> None:
    table = pl.DataFrame({"churn": calibrated, "churn_uncalibrated": [0.7, 0.3], "num_purchases": [0, 2]})
    assert HoldoutForecast(datetime(2026, 1, 1, tzinfo=UTC), table).gains_from_calibration is helps


def _backtest(monkeypatch: pytest.MonkeyPatch, gains: dict[int, bool], windows: int = 3) -> Backtest | None:
    """The backtest of windows whose calibrations are LEARNED, by how far back they begin."""

    def forecast_holdout(
        _: object, __: object, back: int, *rest: Any, **_more: object
    ) -> HoldoutForecast | None:
        by = rest[1] if len(rest) > 1 else None
        if back > windows:
            return None
        helped = [0.9, 0.1] if gains.get(back) else [0.6, 0.4]
        plain = [0.7, 0.3]
        columns = {"churn": helped if by and by != Calibration() else plain, "churn_uncalibrated": plain}
        one = {"num_purchases": [0, 2], "expected_purchases": [0.5, 1.0], "spend": [0.0, 9.0]}
        rest_columns = {"frequency": [0, 1], "T": [9, 9], "alive": [0.9, 0.9], "value": [1.0, 8.0]}
        bounds = {"value_low": [0.0, 0.0], "value_high": [9.0, 9.0]}
        cut = START - back * timedelta(days=30)
        return Window(cut, pl.DataFrame(columns | one | rest_columns | bounds), by, back)

    monkeypatch.setattr(holdout, "forecast_holdout", forecast_holdout)
    return backtest(pl.LazyFrame(), Histories(pl.DataFrame(), START, None, ()), CONFIG)


class Window(HoldoutForecast):
    """A window that says how far back it is with the calibration that it learns."""

    def __init__(self, cut: datetime, table: pl.DataFrame, by: Calibration | None, back: int) -> None:
        super().__init__(cut, table, by or Calibration())
        object.__setattr__(self, "back", back)

    def calibration(self) -> Calibration:
        return LEARNED[self.back]  # type: ignore[attr-defined]


def test_the_window_judged_on_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the last window would prefer, the one before decides, and the last learns for the future."""
    for last in (True, False):
        chosen = _backtest(monkeypatch, {2: True, 1: last})
        assert chosen and chosen.last.by == LEARNED[2] and chosen.calibration == LEARNED[1]
        refused = _backtest(monkeypatch, {2: False, 1: last})
        assert refused and refused.last.by == refused.calibration == Calibration()
        assert refused.figures["brier"] == refused.figures["brier_uncalibrated"]
        assert "worse" in refused.calibrated


def test_without_a_window_to_decide_on_nothing_is_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    young = _backtest(monkeypatch, {1: True}, windows=2)
    assert young and young.calibration == Calibration() and "four horizons" in young.calibrated
    assert _backtest(monkeypatch, {}, windows=1) is None


@pytest.mark.parametrize(
    ("spent", "level", "helps"), [(150.0, 1.3, True), (100.0, 1.3, False), (80.0, 1.3, False)]
)
def test_the_level_of_money_is_kept_only_where_a_later_window_came_nearer(
    spent: float, level: float, helps: bool
) -> None:
    table = pl.DataFrame({"value": [60.0, 40.0], "spend": [spent, 0.0]})
    assert HoldoutForecast(START, table).gains_from_level(level) is helps
    moved = HoldoutForecast(START, table.with_columns(pl.col("value") * level), level=level)
    assert moved.gains_from_level(level) is helps
    assert moved.money_level() == HoldoutForecast(START, table).money_level() == pytest.approx(spent / 100)


def test_a_level_is_bounded_and_needs_money() -> None:
    table = pl.DataFrame({"value": [1.0], "spend": [50.0]})
    assert HoldoutForecast(START, table).money_level() == 2.0
    assert HoldoutForecast(START, table.with_columns(spend=0.0)).money_level() == 1.0
    assert HoldoutForecast(START, table.with_columns(value=float("nan"))).money_level() == 1.0
