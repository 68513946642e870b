"""Settings of the value and churn models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.plain_settings import take_plain_values


@dataclass(frozen=True)
class ValueConfig:
    """What is forecast of every customer who bought.

    horizon_days: how far ahead purchases, value and churn are told; churn is no purchase in so many days.
    interval: probability with which spending falls between value_low and value_high.
    discount_rate: a year's; 0.1 counts a purchase a year from now as about nine tenths of one today.
    rates: other currencies in the shop's most frequent one, as "USD=0.92"; without a rate their purchases
        count, but not their money.
    mood_days: how far back messages count whose tone moves the probability of churn, 0 for none; how much,
        the calibration learns.
    num_bootstraps: resamples of customers behind the intervals of figures.
    """

    horizon_days: int = 90
    interval: float = 0.8
    discount_rate: float = 0.0
    rates: tuple[str, ...] = ()
    mood_days: float = 60.0
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
        if self.mood_days < 0:
            raise ValueError(f"mood_days is {self.mood_days}; it must be from 0 up")
        if self.num_bootstraps < 1:
            raise ValueError(f"num_bootstraps is {self.num_bootstraps}; it must be at least 1")
        list(_rates(self.rates))

    def rate_of(self) -> dict[str, float]:
        """Return the rates by currency."""
        return dict(_rates(self.rates))


def _rates(texts: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for text in texts:
        name, _, rate = str(text).partition("=")
        try:
            value = float(rate)
        except ValueError:
            value = 0.0
        if not name.strip() or not 0 < value < float("inf"):
            raise ValueError(f"rates has '{text}'; write a currency and its rate above 0, as in USD=0.92")
        yield name.strip(), value
