"""Settings of the value and churn models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from shopsight.training.artifacts.plain_settings import take_plain_values


@dataclass(frozen=True)
class ValueConfig:
    """Settings of the forecasts of every customer who bought.

    horizon_days: number of days to forecast purchases, value and churn for; churn is no purchase within them.
    interval: probability with which spending falls between value_low and value_high.
    discount_rate: yearly; with 0.1 a purchase a year from now counts about nine tenths of one today.
    tone_days: age in days up to which the tone of messages affects the probability of churn, 0 for none; the
        calibration learns how much.
    num_bootstraps: resamples of customers for the intervals of figures.
    """

    MOVED: ClassVar[Mapping[str, str]] = {
        "rates": "exchange rates are set in one place, [currency.rates] of the sources file: set them there "
        "and run 'shopsight ingest' again"
    }
    horizon_days: int = 90
    interval: float = 0.8
    discount_rate: float = 0.0
    tone_days: float = 60.0
    num_bootstraps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)
        if self.horizon_days < 1:
            raise ValueError(f"horizon_days is {self.horizon_days}; it must be at least 1")
        if not 0 < self.interval < 1:
            raise ValueError(f"interval is {self.interval}; it must be between 0 and 1")
        if self.discount_rate < 0:
            raise ValueError(f"discount_rate is {self.discount_rate}; it must be from 0 up")
        if self.tone_days < 0:
            raise ValueError(f"tone_days is {self.tone_days}; it must be from 0 up")
        if self.num_bootstraps < 1:
            raise ValueError(f"num_bootstraps is {self.num_bootstraps}; it must be at least 1")
