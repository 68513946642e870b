"""The value model of a shop: BG/NBD for purchases, Gamma-Gamma for spending, and calibrated churn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from shopsight.training.value import bgnbd, gamma_gamma
from shopsight.training.value.bgnbd import BGNBD
from shopsight.training.value.calibration import Calibration
from shopsight.training.value.config import ValueConfig
from shopsight.training.value.fitting import Estimate, IdentifiabilityWarning
from shopsight.training.value.forecast import forecast
from shopsight.training.value.gamma_gamma import GammaGamma
from shopsight.training.value.purchases import Histories, checked
from shopsight.training.value.recent_tone import RECENT_TONE

DAYS_A_YEAR = 365.25


@dataclass(frozen=True)
class ValueModel:
    """Fitted models with their estimates; spending is None where no purchase has a price.

    level: factor of the money. It is the ratio of recent total spending to its forecast, which reflects a
    trend or season of the whole shop that the models do not include.
    """

    buying: Estimate
    spending: Estimate | None
    calibration: Calibration = field(default_factory=Calibration)
    level: float = 1.0

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences on the parameters that the data do not identify."""
        return self.buying.doubts + (self.spending.doubts if self.spending else ())

    def forecast(self, known: Histories, config: ValueConfig) -> pl.DataFrame:
        """Forecast every customer of `known`, one row each in its order.

        Columns: those of the histories; alive, expected_purchases, value, value_low, value_high (currency
        units within the horizon; NaN without any price), churn_uncalibrated (the model's probability of no
        purchase within the horizon) and churn (calibrated, with the histories' recent_tone where they have
        one).
        """
        buying, spending = BGNBD(**self.buying.parameters), _spending(self.spending)
        expected = forecast(
            buying,
            spending,
            frequency=known.table["frequency"].to_numpy(),
            recency=known.column("recency"),
            T=known.column("T"),
            num_priced=known.table["num_priced"].to_numpy(),
            monetary_value=known.column("monetary_value"),
            horizon=float(config.horizon_days),
            interval=config.interval,
            discount=float(np.log1p(config.discount_rate)) / DAYS_A_YEAR,
        )
        money = self.level if self.spending else float("nan")
        return known.table.with_columns(
            alive=expected.alive,
            expected_purchases=expected.expected_purchases,
            value=expected.value * money,
            value_low=expected.value_low * money,
            value_high=expected.value_high * money,
            churn_uncalibrated=expected.no_purchase,
            churn=self.calibration(
                expected.no_purchase,
                known.column(RECENT_TONE) if RECENT_TONE in known.table.columns else None,
            ),
        )


def fit(known: Histories) -> ValueModel:
    """Fit both models to purchase histories, in days.

    Parameters that the data do not identify are named in the model's doubts. Raises BadHistory for a history
    that is impossible.
    """
    table = checked(known.table)
    priced = table.filter(pl.col("num_priced") > 0, pl.col("monetary_value") > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentifiabilityWarning)
        _, buying = bgnbd.fit(table["frequency"].to_numpy(), known.column("recency"), known.column("T"))
        spending = None
        if priced.height:
            amounts = priced["monetary_value"].to_numpy()
            _, spending = gamma_gamma.fit(priced["num_priced"].to_numpy(), amounts)
    return ValueModel(buying, spending)


def _spending(estimate: Estimate | None) -> GammaGamma:
    return GammaGamma(**estimate.parameters) if estimate else GammaGamma(1.0, 2.0, 1.0)
