"""What a shop is asked for, its calendar, and its reproducible random streams."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

# Twelve months of raw data, then four weeks that only the truth knows. Fixed days: same seed, same bytes.
START = datetime(2025, 7, 1, tzinfo=UTC)
END = datetime(2026, 7, 1, tzinfo=UTC)  # the first instant after the raw data
NUM_DAYS = (END - START).days
FUTURE_DAYS = 28
DAY_SECONDS = 86_400
EXPERIMENT_DAYS = 56
CURRENCY = "EUR"
SHOP_TIMEZONE = "Europe/Paris"  # the tills write local time; web and app write UTC


class ShopSpecError(ValueError):
    """A shop was asked for that cannot be made."""


@dataclass(frozen=True)
class ShopSpec:
    """A shop's size and seed; equal specs give equal bytes.

    num_customers: people who have an account in at least one selling channel (web, app or store).
    num_items: size of the catalogue; 0 lets it grow slowly with the customers (2,000 at 20,000).
    events_per_customer: mean number of event and order rows of one customer over the year.
    messages_per_customer: mean number of messages to support.
    effect: what the experiment's treatment multiplies the probability of a checkout with.
    pictures: whether every item has one, which shows the style that customers like or not; items.csv then has
        a column of their paths.
    behaviour: whether a failing step of the app, a pair of items and a cohort that does not stay are planted
        (planted.py); without it the bytes are the same as ever.
    bad_row_share: share of each file's rows that are planted as bad (every kind at least once a file).
    Raises ShopSpecError for a count or share out of range.
    """

    num_customers: int = 20_000
    seed: int = 0
    num_items: int = 0
    events_per_customer: float = 50.0
    messages_per_customer: float = 1.1
    effect: float = 1.25
    bad_row_share: float = 0.002
    pictures: bool = False
    behaviour: bool = False

    def __post_init__(self) -> None:
        if self.num_customers < 50 or self.num_customers > 10_000_000:
            raise ShopSpecError(f"num_customers is {self.num_customers}; it must be from 50 to 10,000,000")
        if self.num_items and not 200 <= self.num_items <= 99_999:
            raise ShopSpecError(f"num_items is {self.num_items}; must be 0 (automatic) or from 200 to 99,999")
        if not 5 <= self.events_per_customer <= 1_000:
            raise ShopSpecError(f"events_per_customer is {self.events_per_customer}; must be from 5 to 1,000")
        if not 0 <= self.messages_per_customer <= 20:
            raise ShopSpecError(f"messages_per_customer is {self.messages_per_customer}; must be 0 to 20")
        if not 0.5 <= self.effect <= 1.5:
            raise ShopSpecError(f"effect is {self.effect}; it must be from 0.5 to 1.5")
        if not 0 <= self.bad_row_share <= 0.05:
            raise ShopSpecError(f"bad_row_share is {self.bad_row_share}; it must be from 0 to 0.05")

    @property
    def catalogue_size(self) -> int:
        """Items in the catalogue."""
        return self.num_items or max(200, round(2_000 * (self.num_customers / 20_000) ** 0.3))


@dataclass(frozen=True)
class ShopSummary:
    """What was written: data rows by raw file (bad ones included), bad rows by reason, and totals."""

    num_customers: int
    num_items: int
    num_events: int
    rows: dict[str, int] = field(default_factory=dict)
    bad_rows: dict[str, int] = field(default_factory=dict)
    raw_bytes: int = 0


def random_stream(spec: ShopSpec, purpose: str, chunk: int = 0) -> np.random.Generator:
    """Return the generator of one purpose in one chunk, independent of what other purposes draw."""
    return np.random.default_rng([spec.seed, chunk, zlib.crc32(purpose.encode())])
