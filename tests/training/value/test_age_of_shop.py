"""How long a shop has been selling, which decides whether its forecasts can be judged on what came later."""

from __future__ import annotations

from typing import Any

import pytest

from shopsight.training.value.config import ValueConfig
from shopsight.training.value.holdout import forecast_holdout
from tests.training.value.test_purchases import bought, known, table_of

CONFIG = ValueConfig(horizon_days=60, num_bootstraps=2)
WRONG_CLOCK = bought("c0", -7000.0)
POSTAGE = [bought(f"c{n % 40}", -200.0 - n, item="POST") for n in range(40)]


def sold(days: int) -> list[dict[str, Any]]:
    """Purchases of forty customers on each of the last `days` days before day 200."""
    return [
        bought(f"c{(day * 7 + n) % 40}", 200.0 - day + n / 10) for day in range(1, days) for n in range(3)
    ]


@pytest.mark.parametrize("more", [[], [WRONG_CLOCK], POSTAGE])
@pytest.mark.parametrize(("days", "can_be_judged"), [(100, False), (125, True)])
def test_a_wrong_clock_or_a_fee_does_not_make_a_young_shop_old(
    days: int, can_be_judged: bool, more: list[dict[str, Any]]
) -> None:
    rows = [*sold(days), *more]
    found = forecast_holdout(table_of(rows), known(rows, 200.0, fees=["POST"]), 1, CONFIG, fees=["POST"])
    assert (found is not None) == can_be_judged
