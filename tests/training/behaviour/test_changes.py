"""A planted change is found at its week, and scattering weeks without one give none."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from shopsight.training.behaviour.changes import changes

MONDAY = date(2026, 1, 5)


def weeks(shares: dict[str, list[float]], num: int, seed: int, scatter: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for channel, own in shares.items():
        noisy = np.clip(np.array(own) + rng.normal(0, scatter, len(own)), 0.01, 0.99)
        days = [MONDAY + timedelta(weeks=n) for n in range(len(own))]
        parts.append(
            pl.DataFrame({"channel": channel, "step": "purchase", "week": days, "previous": num,
                          "reached": rng.binomial(num, noisy)})
        )  # fmt: skip
    return pl.concat(parts)


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.3), (0.3, 0.45)])
@pytest.mark.parametrize("split", [5, 26, 44])
def test_a_change_is_found_at_its_week(before: float, after: float, split: int) -> None:
    own = {"app": [before] * split + [after] * (50 - split), "web": [0.4] * 50}
    (row,) = changes(weeks(own, 200, 100 + split)).to_dicts()
    assert (row["channel"], row["step"]) == ("app", "purchase")
    assert abs((row["since"] - (MONDAY + timedelta(weeks=split))).days) <= 7
    assert row["before_low"] < row["before"] == pytest.approx(before, abs=0.04)
    assert row["after_high"] > row["after"] == pytest.approx(after, abs=0.04)
    assert row["p_value"] < 1e-6


def test_weeks_that_scatter_more_than_chance_are_no_change() -> None:
    found = [changes(weeks({"app": [0.4] * 40}, 2_000, seed, 0.05)).height for seed in range(40)]
    assert sum(found) <= 2


@pytest.mark.parametrize("num_weeks", [0, 1, 5])
def test_too_few_weeks_show_no_change(num_weeks: int) -> None:
    assert changes(weeks({"app": [0.9] * num_weeks}, 10, 0)).is_empty()


def test_nobody_and_everybody_are_shares_too() -> None:
    assert changes(weeks({"web": [0.01] * 10}, 0, 0)).is_empty()
    sure = weeks({"app": [0.5] * 12}, 50, 0)
    sure = sure.with_columns(reached=pl.when(pl.col("week") < date(2026, 2, 16)).then(50).otherwise(0))
    (row,) = changes(sure).to_dicts()
    assert (row["since"], row["before"], row["after"]) == (date(2026, 2, 16), 1.0, 0.0)
