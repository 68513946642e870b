"""The period of a shop's rows against planted clocks, and a small shop with one wrong row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from shopsight.training.data.cleaning.clocks import hourly, implausible
from shopsight.training.data.period import after, period

START = datetime(2025, 1, 1, tzinfo=UTC)
ODD = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    START - timedelta(days=40),
    START + timedelta(days=240),
    datetime(2099, 12, 31, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
]


def _rows(*times: datetime) -> pl.LazyFrame:
    frame = pl.DataFrame({"timestamp": list(times)}, schema={"timestamp": pl.Datetime("us", "UTC")})
    return frame.lazy()


def _steady(count: int, days: float = 200) -> list[datetime]:
    return [START + timedelta(days=days * number / count) for number in range(count)]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("count", [60, 3600])
def test_one_row_of_a_wrong_clock_moves_no_end(count: int, odd: datetime) -> None:
    times = _steady(count)
    assert period(_rows(*times)) == (times[0], times[-1])
    assert period(_rows(*times, odd)) == (times[0], times[-1])


@pytest.mark.parametrize("count", [1, 2, 3, 25, 1000])
def test_without_a_wrong_clock_every_row_counts(count: int) -> None:
    times = _steady(count)
    assert period(_rows(*times)) == (times[0], times[-1])
    same = [START] * count
    assert period(_rows(*same)) == (START, START)


def test_days_without_hours_keep_their_last_day() -> None:
    days = [START + timedelta(days=number // 30) for number in range(3000)]
    assert period(_rows(*days)) == (days[0], days[-1])
    assert after(days[-1]) > days[-1]


def test_no_row_has_no_period() -> None:
    assert period(_rows()) is None


@pytest.mark.parametrize("count", [30, 100, 3600])
def test_one_far_event_is_flagged_in_a_shop_of_any_size(count: int) -> None:
    for odd in (ODD[1], ODD[4]):
        frame = _rows(*_steady(count), odd).with_columns(channel=pl.lit("web"))
        flagged = frame.filter(implausible(hourly(frame))).collect()
        assert flagged["timestamp"].to_list() == [odd]
