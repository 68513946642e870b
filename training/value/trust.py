"""Decide which forecasts are reported, from the amount of data and the backtest.

The page, the contract and the served answers all use this decision. A quantity is `tested` if the backtest
came near enough; `widened` if its interval is widened by the error of the backtest; `withheld` if the
backtest refutes it, or if it must not be reported without a backtest; and `untested` if it is reported
without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from shopsight.training.value.holdout import Backtest, HoldoutForecast
from shopsight.training.value.purchases import Histories

Status = Literal["tested", "widened", "untested", "withheld"]

LEAST_CUSTOMERS = 50  # who bought, as of now and as of the cut of a backtest
LEAST_REPEAT = 20  # of them who bought on a second day, from whom the models learn repeat purchases
LEAST_HORIZONS = 3  # of history for a backtest: one to fit to, one for the base rate, one to test on
CALIBRATED_HORIZONS = 4  # of history for a calibration: one more, to decide whether it helps
NEAR_ENOUGH = 0.2  # relative error of a total up to which it is reported as it is
FAR_OFF = 0.5  # relative error of money above which it is withheld

_MONEY = ("value", "value_low", "value_high")
_COLUMNS = {"value": _MONEY, "expected_purchases": ("expected_purchases",), "churn": ("churn", "alive")}


@dataclass(frozen=True)
class Trust:
    """How far the forecast of one quantity can be trusted.

    reason: a sentence without its full stop. miss: |expected - observed| / observed of the total over the
    customers of a backtest, for the worse of the two latest windows; None without a backtest. factor: the
    larger of expected / observed and its inverse there, by which a widened interval is divided and
    multiplied.
    """

    status: Status
    reason: str
    miss: float | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class Trusts:
    """The trust in each quantity that is forecast of a customer; `alive` has the trust of `churn`."""

    value: Trust
    expected_purchases: Trust
    churn: Trust

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return JSON-ready data."""
        return asdict(self)

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Trusts:
        """Read the result of `as_dict`."""
        return Trusts(**{name: Trust(**one) for name, one in raw.items()})

    def warnings(self) -> list[str]:
        """Return a sentence on each quantity that is not `tested`."""
        named = {"the money": self.value, "the purchases": self.expected_purchases, "churn": self.churn}
        return [
            f"{name}: {one.status}, {one.reason}" for name, one in named.items() if one.status != "tested"
        ]

    def applied_to(self, customers: pl.DataFrame) -> pl.DataFrame:
        """Return the forecasts to report: with widened intervals, and NaN for quantities withheld."""
        factor = self.value.factor if self.value.status == "widened" else 1.0
        rows = customers.with_columns(pl.col("value_low") / factor, pl.col("value_high") * factor)
        withheld = [
            name
            for quantity, names in _COLUMNS.items()
            if getattr(self, quantity).status == "withheld"
            for name in names
        ]
        return rows.with_columns(pl.lit(float("nan")).alias(name) for name in withheld)


def decide(known: Histories, priced: bool, backtest: Backtest | None, horizon_days: int) -> Trusts:
    """Return the trust in each quantity forecast of the customers of `known`.

    priced: whether any purchase has a price. backtest: None if the history is too short for one.
    """
    if lacking := _lacking(known):
        nothing = Trust("withheld", lacking)
        return Trusts(nothing, nothing, nothing)
    if backtest is None or (few := _lacking_at(backtest.earlier)):
        short = (
            f"the purchases span less than {LEAST_HORIZONS} horizons of {horizon_days} days, so that no "
            "backtest could be made; a smaller value.horizon_days needs less history"
        )
        reason = short if backtest is None else f"no backtest could be made: {few}"
        return Trusts(
            Trust("withheld", reason),
            Trust("untested", reason),
            Trust("untested", f"not calibrated: {reason}"),
        )
    money = _money(backtest) if priced else Trust("withheld", "no purchase has a price")
    return Trusts(money, _purchases(backtest), _churn(backtest))


def _lacking(known: Histories) -> str:
    """Return what the history lacks for any forecast, "" if it has enough."""
    num, repeat = known.table.height, int((known.table["frequency"] > 0).sum())
    if num < LEAST_CUSTOMERS:
        return f"{num:,} customers have bought, at least {LEAST_CUSTOMERS} are needed"
    if repeat < LEAST_REPEAT:
        return f"{repeat:,} customers bought on a second day, at least {LEAST_REPEAT} are needed"
    return ""


def _lacking_at(window: HoldoutForecast) -> str:
    short = _lacking(Histories(window.table, window.cut, None, ()))
    return short and f"as of {window.cut:%Y-%m-%d} {short}"


def _money(backtest: Backtest) -> Trust:
    miss, factor = _worst(backtest, "value", "spend")
    if miss is None:
        return Trust("withheld", "nobody spent anything in the backtest")
    off = f"the same forecast missed the money by {miss:.0%} in the backtest"
    if miss > FAR_OFF:
        return Trust("withheld", off, miss, factor)
    if miss > NEAR_ENOUGH:
        return Trust(
            "widened", f"{off}, so that every range is wider by the factor {factor:.2f}", miss, factor
        )
    return Trust("tested", off, miss, factor)


def _purchases(backtest: Backtest) -> Trust:
    miss, factor = _worst(backtest, "expected_purchases", "num_purchases")
    if miss is None:
        return Trust("withheld", "nobody bought anything in the backtest")
    status: Status = "tested" if miss <= NEAR_ENOUGH else "withheld"
    said = f"the same forecast missed the number of purchases by {miss:.0%} in the backtest"
    return Trust(status, said, miss, factor)


def _churn(backtest: Backtest) -> Trust:
    brier, base = backtest.figures["brier"], backtest.figures["brier_base_rate"]["value"]
    scores = f"Brier score {brier['value']:.3f}, {base:.3f} for giving everybody the same chance"
    if brier["low"] > base:
        return Trust("withheld", f"the backtest refutes it: {scores}")
    return Trust("tested", f"{scores}; {backtest.calibrated}")


def _worst(backtest: Backtest, said: str, happened: str) -> tuple[float | None, float]:
    """Return miss and factor (see Trust) of the worse of the two latest windows."""
    found = []
    for window in (backtest.earlier, backtest.last):
        expected, really = float(window.column(said).sum()), float(window.column(happened).sum())
        if not (really > 0 and expected > 0):
            return None, 1.0
        found.append((abs(expected - really) / really, max(expected / really, really / expected)))
    return max(found)
