"""What may be told of a forecast: decided once, and the same on the page, in the contract and the answers."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.serving.client import _forecast
from shopsight.serving.contract import ModelContract
from shopsight.serving.routing.insight import InsightRouter
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.rows import Row
from shopsight.serving.routing.tensors import FORECAST, FORECAST_TRUST
from shopsight.training import profiles, value
from shopsight.training.artifacts.goldens import member
from shopsight.training.artifacts.trained_state import training
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.pipeline.insight import export_insight
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.report.value import worth
from shopsight.training.value.calibration import Calibration
from shopsight.training.value.checkpoint import FAMILY, save
from shopsight.training.value.config import ValueConfig
from shopsight.training.value.holdout import Backtest, HoldoutForecast
from shopsight.training.value.purchases import Histories
from shopsight.training.value.trust import LEAST_CUSTOMERS, LEAST_REPEAT, Trusts, decide
from tests.training.small_shop import START, event, tastes_shop, write_shop

CONFIG = ValueConfig(horizon_days=20, num_bootstraps=20)


def _silent(_: str) -> None:
    return None


def _known(customers: int = 200, repeat: int = 100) -> Histories:
    table = pl.DataFrame({"frequency": [1] * repeat + [0] * (customers - repeat)})
    return Histories(table, START, "EUR", ())


def _window(expected: float, happened: float, rows: Histories) -> HoldoutForecast:
    def split(total: float) -> list[float]:
        return [total / rows.table.height] * rows.table.height

    return HoldoutForecast(
        START,
        rows.table.with_columns(
            value=pl.Series(split(expected)), spend=pl.Series(split(happened)),
            expected_purchases=pl.Series(split(expected)), num_purchases=pl.Series(split(happened)),
        ),
    )  # fmt: skip


def _tested(
    last: tuple[float, float],
    earlier: tuple[float, float] = (100, 100),
    brier: float = 0.2,
    known: Histories | None = None,
) -> Backtest:
    rows = known or _known()
    figures = {"brier": {"value": brier, "low": brier - 0.005}, "brier_base_rate": {"value": 0.22}}
    return Backtest(_window(*earlier, rows), _window(*last, rows), figures, Calibration(), "not calibrated")


@pytest.mark.parametrize(
    ("last", "earlier", "status", "miss", "purchases"),
    [
        ((110, 100), (100, 100), "tested", 0.10, "tested"),
        ((81, 100), (100, 100), "tested", 0.19, "tested"),
        ((131, 100), (100, 100), "widened", 0.31, "withheld"),
        ((65, 100), (100, 100), "widened", 0.35, "withheld"),
        ((100, 100), (130, 100), "widened", 0.30, "withheld"),  # the window before last counts too
        ((169, 100), (100, 100), "withheld", 0.69, "withheld"),
        ((100, 0), (100, 100), "withheld", None, "withheld"),  # nothing happened: there is no miss to tell
    ],
)  # fmt: skip
def test_the_miss_of_the_backtest_decides(
    last: tuple[float, float], earlier: tuple[float, float], status: str, miss: float | None, purchases: str
) -> None:
    found = decide(_known(), True, _tested(last, earlier), 90)
    assert (found.value.status, found.expected_purchases.status) == (status, purchases)
    assert found.value.miss == (None if miss is None else pytest.approx(miss))
    assert miss is None or f"{miss:.0%}" in found.value.reason


@pytest.mark.parametrize(("expected", "happened"), [(131.0, 100.0), (65.0, 100.0)])
def test_a_widened_range_reaches_what_happened_from_what_was_expected(
    expected: float, happened: float
) -> None:
    found = decide(_known(), True, _tested((expected, happened)), 90)
    rows = pl.DataFrame({
        "value": [expected], "value_low": [expected], "value_high": [expected],
        "expected_purchases": [1.0], "churn": [0.5], "alive": [0.9],
    })  # fmt: skip
    told = found.applied_to(rows)
    low, high = told["value_low"][0], told["value_high"][0]
    assert low <= happened * (1 + 1e-9) and high >= happened * (1 - 1e-9) and told["value"][0] == expected
    assert math.isnan(told["expected_purchases"][0]) and told["churn"][0] == 0.5


def test_churn_that_the_backtest_refutes_is_withheld() -> None:
    assert decide(_known(), True, _tested((100, 100), brier=0.23), 90).churn.status == "withheld"
    assert decide(_known(), True, _tested((100, 100), brier=0.224), 90).churn.status == "tested"


def test_below_the_least_data_nothing_is_told() -> None:
    enough = decide(_known(LEAST_CUSTOMERS, LEAST_REPEAT), True, _tested((100, 100)), 90)
    assert enough.value.status == "tested"
    for customers, repeat in ((LEAST_CUSTOMERS - 1, LEAST_REPEAT), (LEAST_CUSTOMERS, LEAST_REPEAT - 1)):
        few = _known(customers, repeat)
        found = decide(few, True, _tested((100, 100)), 90)
        assert {found.value.status, found.expected_purchases.status, found.churn.status} == {"withheld"}
        assert "at least" in found.value.reason
        # As many at the cut of the earlier window cannot test anything either.
        untested = decide(_known(), True, _tested((100, 100), known=few), 90)
        assert (untested.value.status, untested.churn.status) == ("withheld", "untested")


def test_without_a_backtest_money_is_withheld_and_churn_is_told_as_untested() -> None:
    found = decide(_known(), True, None, 90)
    assert (found.value.status, found.churn.status) == ("withheld", "untested")
    assert "3 horizons of 90 days" in found.value.reason and "value.horizon_days" in found.value.reason
    assert decide(_known(), False, _tested((100, 100)), 90).value.reason == "no purchase has a price"


def test_what_is_kept_is_what_was_decided() -> None:
    found = decide(_known(), True, _tested((131, 100)), 90)
    assert Trusts.of(json.loads(json.dumps(found.as_dict(), allow_nan=False))) == found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = tastes_shop(tmp_path_factory.mktemp("trust"))
    value.train(workspace, CONFIG, _silent)
    profiles.train(workspace, ProfilesConfig(num_segments=3, num_bootstraps=2), _silent)
    return workspace


def _served(
    workspace: Workspace, trusts: Trusts
) -> tuple[dict[str, Any], dict[str, Any] | None, Any, dict[str, Any]]:
    """The contract's part, an answer of `insight`, the client's forecast and the page's part."""
    trained = value.load(workspace)
    numbers = trained.customers.with_columns(pl.col(spec.name.lower()).fill_nan(0.5) for spec in FORECAST)
    with training(workspace, FAMILY) as run:
        save(run, replace(trained, trusts=trusts, customers=trusts.applied_to(numbers)))
    profiles.export(workspace, ProfilesConfig())
    export_insight(workspace)
    folder = workspace.models / "profile"
    router, ask = ProfileRouter(folder, "1"), member(workspace.models / "segment" / "model.onnx")
    who = {"CUSTOMER_ID": np.array([[trained.customers["customer_id"][0].encode()]], dtype=object)}
    (direct,) = router.answer([Row({"CUSTOMER_ID": who["CUSTOMER_ID"][0]})], ask)
    assert isinstance(direct, dict)

    async def routed(_: str, given: Mapping[str, Any], __: str) -> dict[str, Any]:
        (found,) = router.answer([Row({name: tensor[0] for name, tensor in given.items()})], ask)
        assert isinstance(found, dict)
        return {name: tensor[None] for name, tensor in found.items()}

    (said,) = asyncio.run(
        InsightRouter(workspace.models / "insight", "1").answer(
            [Row({"CUSTOMER_ID": who["CUSTOMER_ID"][0]})], routed
        )
    )
    assert isinstance(said, dict), said
    insight = json.loads(said["INSIGHT"][0])["profile"]["forecast"]
    missing = {name.decode() for name in direct["MISSING"].tolist()}
    return (
        ModelContract.read(folder).preprocessing["forecast"]["trust"],
        insight,
        _forecast(direct, missing),
        worth(workspace)["worth"],
    )


@pytest.mark.parametrize(
    ("last", "told"),
    [((110, 100), ("tested", True)), ((131, 100), ("widened", True)), ((169, 100), ("withheld", False))],
)
def test_page_contract_and_answers_say_the_same(
    shop: Workspace, last: tuple[float, float], told: tuple[str, bool]
) -> None:
    trusts = decide(_known(), True, _tested(last), CONFIG.horizon_days)
    contract, insight, client, page = _served(shop, trusts)
    status, is_told = told
    badge = next(one for one in page["badges"] if one["name"] == "Money")
    assert insight is not None
    assert (
        contract["value"]["status"]
        == insight["value_status"]
        == client.value_status
        == badge["status"]
        == status
    )
    assert contract["value"]["reason"] == insight["value_reason"] == client.value_reason == badge["reason"]
    assert insight["value_miss"] == pytest.approx(client.value_miss) == pytest.approx(trusts.value.miss)
    assert (insight["value"] is not None) is is_told and math.isfinite(client.value) is is_told
    assert ("Their expected spending" in page["sentence"]) is is_told
    assert insight["churn"] is not None and insight["churn_status"] == "tested"
    if status != "tested":
        assert insight["expected_purchases"] is None and "expected number" not in page["sentence"]


def test_a_shop_below_the_least_data_answers_with_the_reason(shop: Workspace) -> None:
    trusts = decide(_known(10, 5), True, None, CONFIG.horizon_days)
    _, insight, client, page = _served(shop, trusts)
    assert insight is not None and client is not None
    assert all(insight[spec.name.lower()] is None for spec in FORECAST)
    assert "10 customers have bought" in insight["churn_reason"] and math.isnan(client.churn)
    assert page["sentence"].count(".") == 1  # how many bought, and no forecast
    assert {spec.name.lower() for spec in FORECAST_TRUST} < insight.keys()


@pytest.mark.parametrize("days", [[0.5], [3.0] * 3])
def test_everybody_once_or_all_on_one_day_trains_and_withholds(tmp_path: Path, days: list[float]) -> None:
    rows = [
        event(f"c{i}", "x", "purchase", d, price=9.0, currency="EUR", quantity=1)
        for i in range(80)
        for d in days
    ]
    workspace = write_shop(tmp_path, rows)
    metrics = value.train(workspace, CONFIG, _silent)
    assert metrics["total_value"] is None and metrics["mean_churn"] is None
    assert "bought on a second day" in metrics["trust"]["churn"]["reason"]
    json.dumps(metrics, allow_nan=False)
