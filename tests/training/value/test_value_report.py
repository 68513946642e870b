"""What people read of value and churn: on the page, and at the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from shopsight.serving.pages import insight_page
from shopsight.training import profiles, value
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.report.page import write_report
from shopsight.training.report.value import worth
from shopsight.training.value.config import ValueConfig
from tests.training.small_shop import tastes_shop

CONFIG = ValueConfig(horizon_days=20, num_bootstraps=20)


def _silent(_: str) -> None:
    return None


def test_the_page_tells_value_by_tenth_and_segment_and_whether_it_came_true(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    assert worth(workspace) == {"worth": None}
    value.train(workspace, CONFIG, _silent)
    profiles.train(workspace, ProfilesConfig(num_segments=3, num_bootstraps=2), _silent)
    trained, told = value.load(workspace), worth(workspace)["worth"]
    assert f"{trained.customers.height:,} customers have bought" in told["sentence"]
    assert f"{trained.customers['value'].sum():,.0f} EUR" in told["sentence"]
    assert told["value_plot"].count("tenth ") == 10
    assert sum(int(row["buyers"]) for row in told["segments"]) == trained.customers.height
    assert f"{trained.metrics['holdout']['churned']:.0%} bought nothing" in told["holdout"]["sentence"]
    page = write_report(workspace, title="Shop").read_text(encoding="utf-8")
    assert "Customer value and churn" in page and "How accurate are such forecasts?" in page
    value.train(workspace, replace(CONFIG, horizon_days=90), _silent)
    young = write_report(workspace, title="Shop").read_text(encoding="utf-8")
    assert "How accurate are such forecasts?" not in young and "less than 3 horizons of 90 days" in young


@pytest.mark.parametrize(
    ("forecast", "said"),
    [
        ({"value": 1234.5, "value_low": 0.0, "value_high": 2000.0},
         "Next 90 days: 1,234.50 EUR expected, likely 0.00 to 2,000.00; 1.8 purchases expected; 31% chance"),
        ({"value": None, "value_low": None, "value_high": None},
         "Next 90 days: 1.8 purchases expected; 31% chance"),
        (None, "No purchases yet: there is no forecast of value or churn."),
    ],
)  # fmt: skip
def test_ask_prints_the_forecast(forecast: dict[str, float | None] | None, said: str) -> None:
    common = {"horizon_days": 90, "currency": "EUR", "churn": 0.31, "alive": 0.9, "expected_purchases": 1.8}
    common |= {f"{name}_status": "tested" for name in ("value", "expected_purchases", "churn")}
    common |= {"value_status": "withheld", "value_reason": "it was 69% off"}
    profile = {
        "segment": "S",
        "segment_description": "d",
        "features": {},
        "forecast": forecast and common | forecast,
    }
    console = Console(width=200, record=True, quiet=False, file=None)
    with console.capture() as shown:
        console.print(insight_page({"profile": profile, "release": "1", "request_id": "r"}, "host:1"))
    assert said in shown.get() and ("Money: withheld, it was 69% off." in shown.get()) is bool(forecast)
