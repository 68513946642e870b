"""One event of a clock that was never set moves no window, no figure and nothing that newcomers are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import PROFILING, permitted
from shopsight.training.data.period import end_of_data, period
from shopsight.training.language.drift import OUTSIDE, Read
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.shop import Shop
from shopsight.training.recommend.split import NoWindow
from shopsight.training.report.content import sales
from shopsight.training.report.page import _period
from tests.training.small_shop import START, event, write_shop

ODD = [
    datetime(1970, 1, 1, tzinfo=UTC),
    START + timedelta(days=150),  # next month: no flag says so
    datetime(2099, 12, 31, 10, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
]


def _shop(root: Path, *more: dict[str, Any], flagged: bool = False) -> Workspace:
    rng = np.random.default_rng(0)
    events = [
        event(f"c{n % 40}", f"i{rng.integers(12)}", "purchase", float(day), price=5.0, quantity=1)
        for n, day in enumerate(np.sort(rng.uniform(0, 100, 1500)))
    ]
    flags = [
        {"table": "events", "id": row["event_id"], "customer_id": "c0", "rule": "implausible_time"}
        for row in more
    ]
    tables = {"flags": flags} if flagged else {}
    return write_shop(root, [*events, *more], [{"item_id": f"i{n}"} for n in range(12)], **tables)


def _odd(time: datetime) -> dict[str, Any]:
    return event("c0", "i0", "purchase", (time - START) / timedelta(days=1), price=5.0, quantity=1)


@pytest.mark.parametrize("time", ODD)
def test_windows_figures_and_what_newcomers_are_shown_stay(tmp_path: Path, time: datetime) -> None:
    without, odd = _shop(tmp_path / "without"), _shop(tmp_path / "with", _odd(time))
    shops = [Shop(workspace, RecommendConfig()) for workspace in (without, odd)]
    assert shops[0].windows == shops[1].windows
    end = shops[0].windows.end
    np.testing.assert_allclose(shops[0].popularity(end), shops[1].popularity(end), rtol=1e-6)
    assert (shops[1].popularity(end) > 0).all()
    assert end_of_data(without) == end_of_data(odd)
    told = _period(pl.scan_parquet(_events(odd)))
    assert "from 1 January 2026 to" in told and "1 of them have dates outside" in told
    plots = [sales(workspace)["revenue_plot"] for workspace in (without, odd)]
    assert plots[0] and plots[0] == plots[1]


def test_a_flagged_event_is_left_out_of_all_that_is_learned(tmp_path: Path) -> None:
    odd = _odd(datetime(1970, 1, 1, tzinfo=UTC))
    flagged = _shop(tmp_path / "flagged", odd, flagged=True)
    assert Shop(flagged, RecommendConfig()).events.collect().height == 1500
    assert permitted(flagged, "events", PROFILING).collect().height == 1500


@pytest.mark.parametrize("time", [datetime(2099, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
def test_the_last_weeks_of_messages_are_those_before_a_wrong_clocks(time: datetime) -> None:
    times = [START + timedelta(hours=6 * n) for n in range(400)]
    frame = pl.DataFrame({"timestamp": [*times, time], "intent": [OUTSIDE] * 401})
    recent = frame.filter(Read(frame).is_recent)
    assert recent.height == 28 * 4 + 1  # and the odd one, which `read` leaves out


@pytest.mark.parametrize("days", [1000.0, 60.0, 50.0])
def test_windows_that_leave_nothing_to_train_on_are_refused(tmp_path: Path, days: float) -> None:
    shop = Shop(_shop(tmp_path), RecommendConfig(test_days=days))
    with pytest.raises(NoWindow, match=rf"test_days={days:g}: the events span .* take less than 49|50\.0"):
        _ = shop.windows


def _events(workspace: Workspace) -> list[Path]:
    return sorted(path for path in workspace.tables.rglob("*.parquet") if "events" in str(path))


@pytest.mark.parametrize("rows", [3, 8, 20, 49, 50, 200])
@pytest.mark.parametrize("odd", [datetime(2099, 12, 31, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)])
def test_one_wrong_clock_moves_no_end_however_few_rows(rows: int, odd: datetime) -> None:
    right = [START + timedelta(days=100 * n / (rows - 1)) for n in range(rows - 1)] or [START]
    found = period(pl.LazyFrame({"timestamp": [*right, odd]}, schema={"timestamp": pl.Datetime("us", "UTC")}))
    assert found == (right[0], right[-1])


@pytest.mark.parametrize(
    "days", [[0.0], [0.0, 9000.0], [0.0, 1.0, 300.0], [0.0, 0.0, 0.0], [0.0, 400.0, 1500.0]]
)
def test_few_rows_that_a_slow_shop_can_have_all_count(days: list[float]) -> None:
    times = [START + timedelta(days=day) for day in days]
    assert period(pl.LazyFrame({"timestamp": times}, schema={"timestamp": pl.Datetime("us", "UTC")})) == (
        times[0],
        times[-1],
    )
