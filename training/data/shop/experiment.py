"""The planted A/B test: who was shown what, in which arm, and what the metric is expected to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopsight.training.data.shop.behaviour import WEB, Ints, Sessions, Views, experiment_time
from shopsight.training.data.shop.spec import EXPERIMENT_DAYS, FUTURE_DAYS, NUM_DAYS, START, ShopSpec

NAME = "checkout_reminder"
ARMS = ("control", "treatment")
SLOTS = 4
_METRIC = (
    "share of exposed customers with a purchase in channel web at or after their first exposure "
    "and before the window ends"
)


def assign_arms(numbers: Ints, seed: int) -> Ints:
    """Return 0 or 1 a person, from a hash of the person's number: stable however often one comes back."""
    start = np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    state = (numbers.astype(np.uint64) + start) ^ np.uint64(0xD1B54A32D192ED03)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return ((state ^ (state >> np.uint64(31))) & np.uint64(1)).astype(np.int64)


def draw_exposures(
    sessions: Sessions, arm: Ints, popularity: np.ndarray, rng: np.random.Generator
) -> pl.DataFrame:
    """Return what logged-in web visitors saw: session, person, item, position, arm, propensity, time."""
    shown = np.flatnonzero(experiment_time(sessions.start) & (sessions.channel == WEB) & ~sessions.anonymous)
    weight = np.exp(0.5 * popularity)
    weight /= weight.sum()
    session = np.repeat(shown, SLOTS)
    item = np.searchsorted(np.cumsum(weight), rng.random(session.size)).clip(0, weight.size - 1)
    position = np.tile(np.arange(1, SLOTS + 1), shown.size)
    frame = pl.DataFrame(
        {
            "session": session,
            "person": sessions.person[session],
            "item": item,
            "position": position,
            "arm": arm[sessions.person[session]],
            "propensity": np.round(weight[item], 8),
            "time": sessions.start[session],
        }
    )
    return frame.unique(["session", "item"], keep="first", maintain_order=True)


class Expectation:
    """Sums up, over chunks, what the metric is expected to be if all exposed people were in one arm."""

    def __init__(self, spec: ShopSpec) -> None:
        self._spec = spec
        self._expected = np.zeros(2)
        self._exposed = np.zeros(2, dtype=np.int64)
        self._converted = np.zeros(2, dtype=np.int64)

    def add(self, sessions: Sessions, views: Views, arm: Ints) -> None:
        """Add one chunk: browsing is taken as it happened, paying as its probability."""
        tested = experiment_time(sessions.start) & (sessions.channel == WEB) & ~sessions.anonymous
        has_cart = np.bincount(views.session, views.carted, sessions.start.size) > 0
        bought = np.bincount(views.session, views.bought, sessions.start.size) > 0
        exposed = np.bincount(sessions.person, tested, arm.size) > 0
        for side, factor in enumerate((1.0, self._spec.effect)):
            chance = np.where(tested & has_cart, sessions.pays * factor, 0.0)
            stays_away = np.bincount(sessions.person, np.log1p(-chance), arm.size)
            self._expected[side] += (1 - np.exp(stays_away[exposed])).sum()
        converted = exposed & (np.bincount(sessions.person, tested & bought, arm.size) > 0)
        self._exposed += np.bincount(arm[exposed], minlength=2)
        self._converted += np.bincount(arm[converted], minlength=2)

    def write(self, path: Path) -> None:
        """Write the planted truth of the experiment as JSON."""
        path.write_text(json.dumps(self._truth(), indent=1) + "\n", encoding="utf-8")

    def _truth(self) -> dict[str, Any]:
        start = np.datetime64(START.replace(tzinfo=None)) + np.timedelta64(NUM_DAYS - EXPERIMENT_DAYS, "D")
        rate = self._expected / max(1, self._exposed.sum())
        return {
            "format_version": 1,
            "experiment": NAME,
            "arms": list(ARMS),
            "assignment": "50/50 by a hash of the person",
            "unit": "person",
            "source": "web",
            "window": [f"{start}Z", f"{start + np.timedelta64(EXPERIMENT_DAYS, 'D')}Z"],
            "metric": _METRIC,
            "planted_effect": self._spec.effect,
            "planted_effect_meaning": "factor on the probability that a web session with a cart is paid",
            "expected_metric": dict(zip(ARMS, rate.round(6).tolist(), strict=True)),
            "expected_lift": round(float(rate[1] / max(rate[0], 1e-12) - 1), 6),
            "exposed": dict(zip(ARMS, self._exposed.tolist(), strict=True)),
            "converted": dict(zip(ARMS, self._converted.tolist(), strict=True)),
            "future_days": FUTURE_DAYS,
        }
