"""Who complained or sent something back of late is helped first: nothing is offered to them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.serving.routing.insight import InsightRouter
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import Row
from shopsight.training import recommend
from shopsight.training.artifacts.goldens import members_of
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import write_tables
from shopsight.training.language import checkpoint
from shopsight.training.language.checkpoint import Prediction
from shopsight.training.pipeline.insight import export_insight
from shopsight.training.recommend.config import Suppression
from tests.training.language_shop import pretend_trained
from tests.training.recommend.test_recommend import SMALL
from tests.training.small_shop import START, event, table, write_shop

END = 40.0  # days; the last event of the shop
INTENTS = ("complaint", "order_status")


@dataclass
class Reader:
    """Reads "bad" as a complaint."""

    def predict(self, texts: list[str]) -> Prediction:
        logits = np.array([["bad" in text, "bad" not in text] for text in texts]) * 100.0
        return Prediction({"intent": INTENTS}, {"intent": logits}, {"intent": 1.0})


def _message(key: str, customer: str, day: float, text: str) -> dict[str, object]:
    time = START + timedelta(days=day)
    return {"message_id": key, "customer_id": customer, "timestamp": time, "text": text}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    rng = np.random.default_rng(0)
    names = ("calm", "returned", "returned_long_ago", "complained", "complained_long_ago", "asked", "private")
    events = [
        event(c, f"i{rng.integers(8)}", kind, float(rng.uniform(0, END - 15)))
        for c in names for kind in ("view", "view", "purchase", "purchase")
    ]  # fmt: skip
    events += [
        event("returned", "i1", "return", END - 2),
        event("returned_long_ago", "i1", "return", END - 12),
        event("private", "i1", "return", END - 2),
        event("calm", "i2", "view", END),
    ]
    messages = [
        _message("m1", "complained", END - 3, "bad"),
        _message("m2", "complained", END - 1, "where is it"),
        _message("m3", "complained_long_ago", END - 12, "bad"),
        _message("m4", "asked", END - 1, "where is it"),
    ]
    made = write_shop(
        tmp_path_factory.mktemp("shop"), events, [{"item_id": f"i{n}"} for n in range(8)], messages=messages
    )
    forbids = {"customer_id": "private", "purpose": "personalisation", "allowed": False}
    write_tables(made.tables, {"consents": table("consents", [{**forbids, "timestamp": START}])})
    recommend.train(made, SMALL, lambda _: None)
    return made


@pytest.fixture
def reader(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pretend_trained(workspace)
    monkeypatch.setattr(checkpoint, "load", lambda _: Reader())
    yield
    shutil.rmtree(workspace.checkpoints / "language")


def _suppressed(workspace: Workspace, suppression: Suppression | None = None) -> dict[str, str]:
    recommend.export(workspace, replace(SMALL, **({"suppression": suppression} if suppression else {})))
    router = RecommendRouter(workspace.models / "recommend", release="1")
    ask = members_of({"mf_retrieval": workspace.models / "mf_retrieval" / "model.onnx"})
    found = {}
    for name in pl.read_parquet(next(workspace.tables.glob("customers/**/*.parquet")))["customer_id"]:
        (answer,) = router.answer([Row({"CUSTOMER_ID": np.array([name.encode()], np.object_)})], ask)
        assert isinstance(answer, dict), answer
        found[name] = answer["SUPPRESSED"][0].decode()
        assert bool(len(answer["ITEM_ID"])) != bool(found[name])
    return found


@pytest.mark.usefixtures("reader")
def test_nothing_is_offered_within_a_week_of_a_return_or_a_complaint(workspace: Workspace) -> None:
    found = _suppressed(workspace)
    assert {name: why for name, why in found.items() if why} == {
        "returned": "return",
        "complained": "complaint",
    }


@pytest.mark.usefixtures("reader")
def test_days_intents_and_events_are_settings(workspace: Workspace) -> None:
    longer = _suppressed(workspace, Suppression(days=20.0))
    assert {n for n, why in longer.items() if why} == {
        "returned", "returned_long_ago", "complained", "complained_long_ago",
    }  # fmt: skip
    assert set(_suppressed(workspace, Suppression(events=(), intents=("order_status",))).values()) == {
        "", "order_status",
    }  # fmt: skip
    assert not any(_suppressed(workspace, Suppression(days=0.0)).values())
    with pytest.raises(ValueError, match=r"suppression.days is -1"):
        Suppression(days=-1)


def test_without_a_language_model_returns_alone_count(workspace: Workspace) -> None:
    assert {n for n, why in _suppressed(workspace).items() if why} == {"returned"}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    ("intent", "outside", "suppressed"),
    [("complaint", False, "complaint"), ("complaint", True, None), ("order_status", False, None)],
)
def test_a_complaint_that_comes_with_the_request_stops_the_offers_at_once(
    workspace: Workspace, intent: str, outside: bool, suppressed: str | None
) -> None:
    recommend.export(workspace, SMALL)
    export_insight(workspace)
    router = RecommendRouter(workspace.models / "recommend", release="1")
    members = members_of({"mf_retrieval": workspace.models / "mf_retrieval" / "model.onnx"})
    said = {
        "INTENT": np.array([[intent.encode()]], np.object_),
        "CONFIDENCE": np.ones((1, 1), np.float32),
        "IS_OUT_OF_SCOPE": np.array([[outside]]),
    }

    async def ask(model: str, inputs: Mapping[str, Any], request_id: str) -> Mapping[str, Any]:
        if model == "understand":
            return said
        (answer,) = router.answer([Row({k: v[0] for k, v in inputs.items()}, request_id)], members)
        assert isinstance(answer, dict), answer
        return {name: value[None] for name, value in answer.items()}

    insight = InsightRouter(workspace.models / "insight", "1")
    insight._calls = ("recommend", "understand")
    given = {"CUSTOMER_ID": np.array([b"calm"], np.object_), "TEXT": np.array([b"hm"], np.object_)}
    (answer,) = asyncio.run(insight.answer([Row(given)], ask))
    told = json.loads(answer["INSIGHT"][0])  # type: ignore[index]
    assert told["suppressed"] == suppressed
    assert bool(told["recommendations"]) == (suppressed is None)
