"""When people shop: trend, seasons, weekdays and hours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.shop.personas import PERSONAS, Traits
from shopsight.training.data.shop.spec import FUTURE_DAYS, NUM_DAYS, START

Array = NDArray[np.float64]

_ALL_DAYS = NUM_DAYS + FUTURE_DAYS


def day_weights() -> Array:
    """Return how busy each day is, [personas, days], future weeks included; a year's mean is 1."""
    day = np.arange(_ALL_DAYS)
    trend = 1 + 0.25 * day / NUM_DAYS
    yearly = 1 + 0.08 * np.cos(2 * np.pi * (day - 165) / 365)
    weekday = (START.weekday() + day) % 7
    before_holidays = np.exp(-0.5 * ((day - 163) / 11.0) ** 2)  # the second week of December
    sale = np.isin(day, [149, 150, 151, 152])  # the last weekend of November
    out = np.empty((len(PERSONAS), _ALL_DAYS))
    for row, persona in enumerate(PERSONAS):
        week = np.where(weekday >= 5, persona.weekend, 1.0) * np.where(weekday == 0, 1.08, 1.0)
        out[row] = trend * yearly * week * (1 + (persona.holiday - 1) * before_holidays) * (1 + 0.9 * sale)
    out /= out[:, :NUM_DAYS].mean(axis=1, keepdims=True)
    return out


class Calendar:
    """Draws days for people within the time that they are customers."""

    def __init__(self, traits: Traits, first_day: int, last_day: int) -> None:
        weights = day_weights()
        weights[:, :first_day] = 0
        weights[:, last_day:] = 0
        self._cumulative = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
        self._traits = traits
        joined = np.clip(traits.joined_day, 0, _ALL_DAYS).astype(np.int64)
        left = np.clip(traits.left_day, 0, _ALL_DAYS).astype(np.int64)
        self._low = self._cumulative[traits.persona, joined]
        self._high = np.maximum(self._cumulative[traits.persona, left], self._low)

    @property
    def active_years(self) -> Array:
        """How much of an average year's business falls into each person's time, [n]."""
        years: Array = (self._high - self._low) / NUM_DAYS
        return years

    def draw_days(self, person: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a day a draw, [num] int64, for people with time in the calendar."""
        persona = self._traits.persona[person]
        low, high = self._low[person], self._high[person]
        point = low + (high - low) * rng.random(person.size)
        total = self._cumulative[:, -1].max() + 1
        flat = (self._cumulative[:, 1:] + total * np.arange(len(PERSONAS))[:, None]).ravel()
        day: NDArray[np.int64] = np.searchsorted(flat, point + total * persona, side="right")
        return day - persona * _ALL_DAYS

    def draw_seconds(
        self, person: NDArray[np.int64], rng: np.random.Generator, opening: tuple[float, float] = (0, 24)
    ) -> NDArray[np.int64]:
        """Return a second of the day a draw, [num] int64, around the usual hour, within opening hours."""
        hour = (self._traits.hour[person] + rng.normal(0, 2.2, person.size)) % 24
        outside = (hour < opening[0]) | (hour >= opening[1])
        hour = np.where(outside, rng.uniform(*opening, person.size), hour)
        return (hour * 3600).astype(np.int64)
