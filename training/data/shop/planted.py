"""Behaviour planted on request: a step that loses app users, a pair of items, a cohort that does not stay."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.shop.catalogue import Catalogue
from shopsight.training.data.shop.personas import Traits
from shopsight.training.data.shop.spec import DAY_SECONDS, NUM_DAYS, START

LOSS_DAY = 217  # a Tuesday: from this day on the app's checkout fails
LOSS = 0.45  # share of the app's paid carts that are not paid since then
PAIR_SHARE = 0.5  # of the orders with the one item, the other is added
COHORT_DAYS = (243, 263)  # the first weeks of March: a campaign wins people
COHORT_SHARE = 0.08  # of all people
COHORT_STAY = (15.0, 30.0)  # days after which they are gone
_KEEN = 6  # times as many visits as others in that time


def fails_in_app(
    paid: NDArray[np.bool_], by_app: NDArray[np.bool_], start: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which carts are paid, those of app sessions since LOSS_DAY less a share of LOSS."""
    fails = by_app & (start >= LOSS_DAY * DAY_SECONDS) & (rng.random(paid.size) < LOSS)
    return paid & ~fails


def with_pair(lines: pl.DataFrame, catalogue: Catalogue, rng: np.random.Generator) -> pl.DataFrame:
    """Add the second item of the pair to a share of the orders that have the first.

    lines: person, channel, order, item and time, an order's lines together and in ascending order.
    """
    first, second = pair(catalogue)
    having = lines.filter(pl.col("item") == first).unique("order", keep="first", maintain_order=True)
    added = having.filter(pl.Series(rng.random(having.height) < PAIR_SHARE))
    added = added.with_columns(item=pl.lit(second, dtype=lines.schema["item"]))
    whole = pl.concat([lines, added]).unique(["order", "item"], keep="first", maintain_order=True)
    return whole.sort("order", maintain_order=True)


def pair(catalogue: Catalogue) -> tuple[int, int]:
    """The rows of two items that are on sale all year: the most popular, and a middling one elsewhere."""
    always = np.flatnonzero((catalogue.from_day <= 0) & (catalogue.to_day >= NUM_DAYS))
    ranked = always[np.argsort(-catalogue.popularity[always], kind="stable")]
    first = int(ranked[0])
    department = catalogue.department[catalogue.category]
    others = ranked[department[ranked] != department[first]]
    return first, int(others[others.size // 2])


def with_campaign(traits: Traits, rng: np.random.Generator) -> Traits:
    """Let a share of people join in March and leave soon after."""
    num = traits.persona.size
    won = rng.random(num) < COHORT_SHARE
    joined = np.where(won, rng.uniform(*COHORT_DAYS, num), traits.joined_day)
    left = np.where(won, joined + rng.uniform(*COHORT_STAY, num), traits.left_day)
    sessions = np.where(won, traits.online_sessions * _KEEN, traits.online_sessions)
    return replace(traits, joined_day=joined, left_day=left, online_sessions=sessions)


def write_truth(path: Path, catalogue: Catalogue) -> None:
    """Write what was planted as JSON."""
    ids = catalogue.frame["sku"]
    first, second = pair(catalogue)
    begin, end = (START + timedelta(days=day) for day in COHORT_DAYS)
    truth = {
        "format_version": 1,
        "funnel": {
            "channel": "app",
            "step": "purchase",
            "since": (START + timedelta(days=LOSS_DAY)).date().isoformat(),
            "share_lost": LOSS,
        },
        "basket": {"item_a": ids[first], "item_b": ids[second], "share_of_a": PAIR_SHARE},
        "cohort": {
            "joined_from": begin.date().isoformat(),
            "joined_before": end.date().isoformat(),
            "share_of_people": COHORT_SHARE,
            "gone_after_days": COHORT_STAY,
        },
    }
    path.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
