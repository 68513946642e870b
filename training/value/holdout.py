"""Backtest on three windows in time: to calibrate on, to decide whether that helps, and to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl

from shopsight.training.data.period import period
from shopsight.training.evaluation.bootstrap import resampled_means
from shopsight.training.evaluation.classification import auc
from shopsight.training.evaluation.undefined import undefined
from shopsight.training.value.calibration import Bools, Calibration, calibrate, reliability
from shopsight.training.value.config import ValueConfig
from shopsight.training.value.fitting import Array
from shopsight.training.value.model import fit
from shopsight.training.value.purchases import Histories, histories, purchases_between
from shopsight.training.value.recent_tone import NO_TONE, RECENT_TONE, RecentTones

_MOST_RESAMPLED = 20_000
_LARGEST_LEVEL = 2.0
PROTOCOL = (
    "customers known at the cut; models fitted to events before the cut alone; churn is no purchase within "
    "the horizon after it; whether churn is calibrated and money is scaled is decided on the horizon before "
    "the cut, with what was learned on the horizon before that: the test window decides nothing; 95 % "
    "bootstrap intervals over customers"
)


@dataclass(frozen=True)
class HoldoutForecast:
    """Customers known at `cut` with their forecasts as of then, and what they did within the horizon.

    table: the columns of ValueModel.forecast, num_purchases and spend. Churn is calibrated by `by` and money
    is multiplied by `level` (see ValueModel).
    """

    cut: datetime
    table: pl.DataFrame
    by: Calibration = field(default_factory=Calibration)
    level: float = 1.0

    @property
    def churned(self) -> Bools:
        """Which customers bought nothing, bool [n]."""
        return (self.table["num_purchases"] == 0).to_numpy()

    def column(self, name: str) -> Array:
        """Return a column as float64 [n]."""
        return self.table[name].cast(pl.Float64).to_numpy()

    @property
    def gains_from_calibration(self) -> bool:
        """Whether the calibration of an earlier window lowers the Brier score of `churn`."""
        calibrated, plain = self.column("churn"), self.column("churn_uncalibrated")
        return bool(((calibrated - self.churned) ** 2).mean() < ((plain - self.churned) ** 2).mean())

    def money_level(self) -> float:
        """Return the factor by which the model's total value must be multiplied to equal the spending."""
        plain, spent = self.column("value").sum() / self.level, self.column("spend").sum()
        if not (plain > 0 and spent > 0):
            return 1.0
        return float(np.clip(spent / plain, 1 / _LARGEST_LEVEL, _LARGEST_LEVEL))

    def gains_from_level(self, level: float) -> bool:
        """Return whether the level of an earlier window brings total value nearer to the spending."""
        plain, spent = self.column("value").sum() / self.level, self.column("spend").sum()
        return bool(abs(plain * level - spent) < abs(plain - spent))

    def calibration(self) -> Calibration:
        """Return the calibration of churn fitted to this window."""
        recent_tone = self.column(RECENT_TONE) if RECENT_TONE in self.table.columns else None
        return calibrate(self.column("churn_uncalibrated"), self.churned, recent_tone)


def forecast_holdout(
    events: pl.LazyFrame,
    known: Histories,
    windows_back: int,
    config: ValueConfig,
    calibration: Calibration | None = None,
    tones: RecentTones = NO_TONE,
    fees: Sequence[str] = (),
    level: float = 1.0,
) -> HoldoutForecast | None:
    """Return forecasts as of `windows_back` horizons before the last midnight, and what followed.

    known: the histories as of the end of the data; tones: the tones of messages; fees: items that are no
    goods; level: that of an earlier window (see ValueModel). Returns None if the shop had not yet sold for a
    whole horizon at that time. A single purchase dated far before all others does not make the shop older.
    """
    horizon = timedelta(days=config.horizon_days)
    cut = datetime.combine(known.as_of.date(), time(tzinfo=UTC)) - windows_back * horizon
    is_fee = pl.col("item_id").is_in(list(fees)).fill_null(False)
    bought = (pl.col("event") == "purchase") & pl.col("customer_id").is_not_null() & ~is_fee
    selling = period(events.filter(bought & (pl.col("timestamp") < known.as_of)))
    if selling is None or datetime.combine(selling[0].date(), time(tzinfo=UTC)) > cut - horizon:
        return None
    then = tones.on(histories(events, cut, fees))
    model = replace(fit(then), calibration=calibration or Calibration(), level=level)
    happened = purchases_between(events, cut, cut + horizon, fees)
    expected = model.forecast(then, config)
    joined = expected.join(happened, on="customer_id", how="left", maintain_order="left")
    table = joined.with_columns(pl.col("num_purchases", "spend").fill_null(0))
    return HoldoutForecast(cut, table, model.calibration, level)


@dataclass(frozen=True)
class Backtest:
    """The two latest windows, the figures of the last, and the calibration to use with the model.

    calibration and level are learned on the last window; they have no effect if the window before showed that
    they do not help. calibrated: a phrase that says whether churn is calibrated, and if not, why.
    """

    earlier: HoldoutForecast
    last: HoldoutForecast
    figures: dict[str, Any]
    calibration: Calibration
    calibrated: str
    level: float = 1.0


def backtest(
    events: pl.LazyFrame,
    known: Histories,
    config: ValueConfig,
    tones: RecentTones = NO_TONE,
    fees: Sequence[str] = (),
) -> Backtest | None:
    """Return the backtest on the three latest horizons; None with less than three horizons of history.

    The first window gives a calibration and a level of money, the second decides whether to use them, and the
    third is the test window, which decides nothing. With less than four horizons there is no first window,
    and neither is used.
    """
    first = forecast_holdout(events, known, 3, config, None, tones, fees)
    second = forecast_holdout(events, known, 2, config, first.calibration() if first else None, tones, fees)
    if second is None:
        return None
    helps = first is not None and second.gains_from_calibration
    moves = first is not None and second.gains_from_level(first.money_level())
    level = second.money_level() if moves else 1.0
    third = forecast_holdout(
        events, known, 1, config, second.calibration() if helps else None, tones, fees, level
    )
    if third is None:
        return None
    words = "calibrated"
    if first is None:
        words = "not calibrated: the purchases span less than four horizons"
    elif not helps:
        words = "not calibrated: a calibration made a later window worse"
    calibration = third.calibration() if helps else Calibration()
    level = third.money_level() if moves else 1.0
    return Backtest(second, third, judged(third, second, config), calibration, words, level)


def judged(test: HoldoutForecast, earlier: HoldoutForecast, config: ValueConfig) -> dict[str, Any]:
    """Return the figures of a test window; `earlier` is the window of the calibration and the base rate.

    Brier scores (Brier, 1950; the mean squared error of a probability) are given for churn as calibrated, as
    forecast by the model, as the base rate, as forecast without the tone of messages, and as the probability
    of not being alive. The purchases are compared with the customer's own rate so far and with the mean.
    """
    churn, churned = test.column("churn"), test.churned
    base = float(earlier.churned.mean())
    purchases, expected = test.column("num_purchases"), test.column("expected_purchases")
    same_rate = test.column("frequency") / np.maximum(test.column("T"), 1) * config.horizon_days
    spend, value = test.column("spend"), test.column("value")
    inside = (spend >= test.column("value_low") - 0.005) & (spend <= test.column("value_high") + 0.005)
    errors = {
        "brier": (churn - churned) ** 2,
        "brier_uncalibrated": (test.column("churn_uncalibrated") - churned) ** 2,
        "brier_base_rate": (base - churned) ** 2,
        "brier_without_tone": (_without_tone(test, earlier) - churned) ** 2,
        "brier_stopped": (1 - test.column("alive") - churned) ** 2,
        "purchases_mae": np.abs(expected - purchases),
        "purchases_mae_same_rate": np.abs(same_rate - purchases),
        "purchases_mae_mean": np.abs(expected.mean() - purchases),
    }
    if priced := bool(np.isfinite(value).all()):
        errors |= {"spend_mae": np.abs(value - spend), "spend_within_interval": inside.astype(np.float64)}
    figures = {
        "protocol": PROTOCOL,
        "cut": test.cut.isoformat(),
        "horizon_days": config.horizon_days,
        "num_customers": len(churn),
        "churned": float(churned.mean()),
        "churn_said": float(churn.mean()),
        "auc": _auc_interval(churn, churned, config),
        "reliability": reliability(churn, churned),
        "purchases": {"happened": float(purchases.sum()), "expected": float(expected.sum())},
        "purchases_rmse": float(np.sqrt(((expected - purchases) ** 2).mean())),
        "purchases_rmse_same_rate": float(np.sqrt(((same_rate - purchases) ** 2).mean())),
        "deciles": _deciles(test),
    }
    if priced:
        figures["spend"] = {"happened": float(spend.sum()), "expected": float(value.sum())}
    return figures | _means(errors, config)


def _without_tone(test: HoldoutForecast, earlier: HoldoutForecast) -> Array:
    if test.by == Calibration():
        return test.column("churn_uncalibrated")
    plain = calibrate(earlier.column("churn_uncalibrated"), earlier.churned)
    return plain(test.column("churn_uncalibrated"))


def _deciles(test: HoldoutForecast) -> list[dict[str, float]]:
    """Return mean forecast and observed spending of tenths of customers, by descending forecast value."""
    order = np.argsort(-test.column("value"), kind="stable")
    tenths = [rows for rows in np.array_split(order, 10) if len(rows)]
    value, spend = test.column("value"), test.column("spend")
    return [
        {"said": float(value[rows].mean()), "happened": float(spend[rows].mean())}
        for rows in tenths
        if np.isfinite(value[rows]).all()
    ]


def _means(columns: dict[str, Array], config: ValueConfig) -> dict[str, dict[str, float]]:
    """Return each column's mean with its interval, all from the same resamples of customers."""
    values = np.stack(list(columns.values()), axis=1)
    drawn = resampled_means(values, seed=config.seed, num_resamples=config.num_bootstraps)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return {
        name: {"value": float(values[:, i].mean()), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(columns)
    }


def _auc_interval(probability: Array, happened: Bools, config: ValueConfig) -> dict[str, Any]:
    whole = auc(probability, happened)
    if whole is None:
        return undefined("everybody bought" if not happened.any() else "nobody bought")
    generator = np.random.default_rng(config.seed)
    size = min(len(happened), _MOST_RESAMPLED)
    # Resamples of fewer customers vary more: deviations shrink with the square root of their number.
    shrink = np.sqrt(size / len(happened))
    drawn = []
    for _ in range(config.num_bootstraps):
        rows = generator.integers(0, len(happened), size)
        drawn.append(auc(probability[rows], happened[rows]))
    defined = [one for one in drawn if one is not None]  # a resample of one class has no AUC
    if not defined:
        return {"value": whole, "low": None, "high": None}
    low, high = whole + shrink * (np.quantile(defined, [0.025, 0.975]) - whole)
    return {"value": whole, "low": float(low), "high": float(high)}
