"""Settings of the value and churn models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from shopsight.training.artifacts.plain_settings import take_plain_values


@dataclass(frozen=True)
class ValueConfig:
    """What is forecast of every customer who bought.

    horizon_days: how far ahead purchases, value and churn are told; churn is no purchase in so many days.
    interval: probability with which spending falls between value_low and value_high.
    discount_rate: a year's; 0.1 counts a purchase a year from now as about nine tenths of one today.
    tone_days: how far back messages count whose tone moves the probability of churn, 0 for none; how much,
        the calibration learns.
    num_bootstraps: resamples of customers behind the intervals of figures.
    """

    MOVED: ClassVar[Mapping[str, str]] = {
        "rates": "exchange rates stand in one place, [currency.rates] of the sources file: write them there "
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
