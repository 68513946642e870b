"""A small shop from events to value and churn, held against what the shop did later, and served."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.serving.contract import ModelContract, read_goldens
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.rows import Row
from shopsight.serving.routing.tensors import FORECAST
from shopsight.training import profiles, value
from shopsight.training.artifacts.goldens import member
from shopsight.training.artifacts.trained_state import NotTrained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import PROFILING
from shopsight.training.data.tables import write_tables
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.recipes import Recipe
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.value.config import ValueConfig
from tests.training.small_shop import START, event, table, tastes_shop, write_shop
from tests.training.value.shoppers import buyers, spending

CONFIG = ValueConfig(horizon_days=60, num_bootstraps=50)
QUICK = ProfilesConfig(num_segments=3, num_bootstraps=2)


def _silent(_: str) -> None:
    return None


def _shop(root: Path, num_customers: int = 900, days: int = 400) -> Workspace:
    """Customers who buy as the models say, known from their first purchase on."""
    rng = np.random.default_rng(3)
    frequency, recency, T = buyers(num_customers, rng, r=0.9, alpha=30.0, a=0.8, b=3.0, longest=days)
    mean = spending(frequency + 1, rng, p=3.0, q=4.0, v=60.0)
    events = []
    for i in range(num_customers):
        first = days - int(T[i])
        between = rng.choice(np.arange(1, max(recency[i], 1)), max(frequency[i] - 1, 0), replace=False)
        for day in [0, *between.tolist(), *([int(recency[i])] if frequency[i] else [])]:
            money = {"price": round(float(mean[i]), 2), "currency": "EUR", "quantity": 1}
            events.append(event(f"c{i:04d}", "x", "purchase", first + day + 0.5, **money))
    return write_shop(root, events, [{"item_id": "x", "price": 5.0}], customers=["c9998", "c9999"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    workspace = _shop(tmp_path_factory.mktemp("value"))
    return workspace, value.train(workspace, CONFIG, _silent)


def test_everybody_who_bought_has_a_row(shop: tuple[Workspace, dict[str, Any]]) -> None:
    rows = value.load(shop[0]).customers
    assert rows.height == 900 and rows["customer_id"].is_sorted() and rows["customer_id"].is_unique().all()
    assert rows.columns == [
        "customer_id", "frequency", "recency", "T", "monetary_value", "alive", "expected_purchases",
        "value", "value_low", "value_high", "churn",
    ]  # fmt: skip
    assert rows.select(pl.exclude("customer_id").is_finite().all()).row(0) == (True,) * 10
    assert rows.filter(~pl.col("churn").is_between(0, 1) | ~pl.col("alive").is_between(0, 1)).is_empty()
    assert rows.filter((pl.col("value_low") > pl.col("value_high")) | (pl.col("value") < 0)).is_empty()


def test_the_holdout_agrees_with_what_the_shop_did(shop: tuple[Workspace, dict[str, Any]]) -> None:
    figures = shop[1]["holdout"]
    assert figures["brier"]["high"] < figures["brier_base_rate"]["value"]
    assert figures["auc"]["low"] > 0.6
    assert figures["churn_said"] == pytest.approx(figures["churned"], abs=0.06)
    assert figures["purchases"]["expected"] == pytest.approx(figures["purchases"]["happened"], rel=0.2)
    assert figures["purchases_rmse"] < figures["purchases_rmse_same_rate"]
    assert figures["spend_within_interval"]["value"] > 0.75
    assert figures["deciles"][0]["happened"] > figures["deciles"][-1]["happened"]
    json.dumps(figures, allow_nan=False)


def test_the_holdout_is_blind_to_what_came_after(tmp_path: Path) -> None:
    """What was forecast as of the cut is the same whether or not the shop has a future."""
    from shopsight.training.data.tables import scan_table
    from shopsight.training.value.holdout import forecast_holdout
    from shopsight.training.value.purchases import histories

    workspace = _shop(tmp_path, 300)
    events = scan_table(workspace.tables, "events")
    end = START + timedelta(days=400)
    test = forecast_holdout(events, histories(events, end), 1, CONFIG)
    assert test is not None
    before = events.filter(pl.col("timestamp") < test.cut)
    blind = value.model.fit(histories(before, test.cut)).forecast(histories(before, test.cut), CONFIG)
    columns = ["customer_id", "value", "churn_uncalibrated", "alive"]
    assert test.table.select(columns).equals(blind.select(columns))
    assert test.table["num_purchases"].sum() > 0


def test_evaluate_repeats_the_figures_of_training(shop: tuple[Workspace, dict[str, Any]]) -> None:
    assert value.evaluate(shop[0], CONFIG)["holdout"] == shop[1]["holdout"]


def test_a_shop_too_young_to_calibrate_says_so(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    said: list[str] = []
    metrics = value.train(workspace, replace(CONFIG, horizon_days=90), said.append)
    assert "holdout" not in metrics and metrics["calibration"] == {
        "intercept": 0.0,
        "slope": 1.0,
        "tone": 0.0,
    }
    assert any("less than 3 horizons of 90 days" in line and "value.horizon_days" in line for line in said)
    shorter = value.train(workspace, replace(CONFIG, horizon_days=20), said.append)
    assert shorter["holdout"]["num_customers"] > 0


def test_profile_serves_what_training_found(shop: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = shop
    profiles.train(workspace, QUICK, _silent)
    steps.export(workspace, Recipe(profiles=QUICK), ["value"])
    folder = workspace.models / "profile"
    contract = ModelContract.read(folder)
    contract.verify_files(folder)
    assert {spec.name for spec in FORECAST} < {spec.name for spec in contract.outputs}
    assert contract.preprocessing["forecast"]["currency"] == "EUR"
    assert all({"VALUE", "CHURN"} <= {t.name for t in g.answer} for g in read_goldens(folder))
    router, ask = ProfileRouter(folder, "1"), member(workspace.models / "segment" / "model.onnx")
    rows = value.load(workspace).customers.sample(20, seed=0)
    asked = [Row({"CUSTOMER_ID": np.array([c.encode()], dtype=object)}) for c in rows["customer_id"]]
    for answer, row in zip(router.answer(asked, ask), rows.to_dicts(), strict=True):
        assert isinstance(answer, dict)
        for spec in FORECAST:
            assert answer[spec.name][0] == pytest.approx(row[spec.name.lower()], rel=1e-6), spec.name
        assert answer["HORIZON_DAYS"].tolist() == [60] and answer["CURRENCY"].tolist() == [b"EUR"]
    (never,) = router.answer([Row({"CUSTOMER_ID": np.array([b"c9998"], dtype=object)})], ask)
    assert isinstance(never, dict) and {spec.name.encode() for spec in FORECAST} <= set(never["MISSING"])


def test_without_a_value_model_profile_tells_none(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    profiles.train(workspace, QUICK, _silent)
    profiles.export(workspace, QUICK)
    outputs = {spec.name for spec in ModelContract.read(workspace.models / "profile").outputs}
    assert outputs == {
        "SEGMENT",
        "SEGMENT_DESCRIPTION",
        "FEATURE_NAME",
        "FEATURE_VALUE",
        "MISSING",
        "RELEASE",
    }


def test_forecasts_of_other_tables_are_not_served(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    value.train(workspace, replace(CONFIG, horizon_days=20), _silent)
    more = pl.read_parquet(workspace.tables / "events" / "*.parquet").head(-1)
    write_tables(workspace.tables, {"events": more})
    profiles.train(workspace, QUICK, _silent)
    with pytest.raises(NotTrained, match="shopsight train value"):
        profiles.export(workspace, QUICK)


def test_who_forbids_profiling_has_no_value(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    said = [{"customer_id": "c000", "purpose": PROFILING, "allowed": False, "timestamp": START}]
    write_tables(workspace.tables, {"consents": table("consents", said)})
    value.train(workspace, replace(CONFIG, horizon_days=20), _silent)
    assert "c000" not in value.load(workspace).customers["customer_id"].to_list()


def test_a_shop_without_purchases_is_left_out_by_name(tmp_path: Path) -> None:
    workspace = write_shop(tmp_path, [event("a", "x", "view", i / 10) for i in range(9)])
    said: list[str] = []
    assert "value" not in steps.chosen(workspace, "all", said.append)
    assert any(line.startswith("left out value: no rows in purchases") for line in said)
    with pytest.raises(steps.NothingToLearn, match="purchases"):
        steps.chosen(workspace, "value", _silent)


def test_purchases_without_prices_have_churn_but_no_value(tmp_path: Path) -> None:
    rows = [event(f"c{i}", "x", "purchase", d) for i in range(60) for d in range(i % 20, 100, 7 + i)]
    workspace = write_shop(tmp_path, rows)
    metrics = value.train(workspace, replace(CONFIG, horizon_days=20), _silent)
    customers = value.load(workspace).customers
    assert customers["value"].is_nan().all() and customers["churn"].is_finite().all()
    assert metrics["total_value"] is None and "spend" not in metrics["holdout"]
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    "change", [{"horizon_days": 0}, {"interval": 1.0}, {"discount_rate": -0.1}, {"tone_days": -1.0}]
)
def test_settings_that_cannot_be_are_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        ValueConfig(**change)
