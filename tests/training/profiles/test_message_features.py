"""What the language model reads in messages becomes features; without one they are missing, as is said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language import checkpoint
from shopsight.training.language.checkpoint import Prediction
from shopsight.training.language.reading import read_messages
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, fit_spec
from tests.training.language_shop import pretend_trained
from tests.training.small_shop import START, event, write_shop

AS_OF = START + timedelta(days=10)


def _message(
    key: str, customer: str | None, day: float, text: str, rating: float | None = None
) -> dict[str, object]:
    time = START + timedelta(days=day)
    return {"message_id": key, "customer_id": customer, "timestamp": time, "text": text, "rating": rating}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    messages = [
        _message("r1", "ann", 1, "good", 5.0),
        _message("r2", "ann", 2, "bad", 1.0),
        _message("q1", "ann", 3, "good where"),
        _message("q2", "bob", 4, "bad refund"),
        _message("q3", "bob", 5, "bad where"),
        _message("late", "ann", 12, "bad refund"),
        _message("nobody", None, 5, "bad"),
    ]
    return write_shop(tmp_path, [event("ann", "x", "view", 1.0)], customers=["bob", "cid"], messages=messages)


@dataclass
class Reader:
    """Reads "good" and "bad" as tones, "where" and "refund" as intents; keeps what it was shown."""

    shown: list[str]

    def predict(self, texts: list[str]) -> Prediction:
        self.shown += texts
        tone = np.array([[("bad" in t), False, ("good" in t)] for t in texts]) * 100.0
        intent = np.array([["refund" in t, "where" in t] for t in texts]) * 100.0
        classes = {"sentiment": ("negative", "neutral", "positive"), "intent": ("refund", "order_status")}
        return Prediction(classes, {"sentiment": tone, "intent": intent}, {"sentiment": 1.0, "intent": 1.0})


@pytest.fixture
def reader(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Reader:
    pretend_trained(workspace)
    made = Reader([])
    monkeypatch.setattr(checkpoint, "load", lambda _: made)
    return made


def _measured(workspace: Workspace, read: pl.DataFrame | None) -> dict[str, dict[str, float]]:
    tables = Tables.of(workspace, read)
    spec = fit_spec(tables, as_of=AS_OF, config=ProfilesConfig())
    return {row["customer_id"]: row for row in compute(tables, spec, AS_OF).iter_rows(named=True)}


def test_tone_and_topics_are_averaged_by_customer(workspace: Workspace, reader: Reader) -> None:
    measured = _measured(workspace, read_messages(workspace, AS_OF, print))
    ann, bob, cid = (measured[name] for name in ("ann", "bob", "cid"))
    assert (ann["review_sentiment"], ann["message_sentiment"]) == pytest.approx((0.0, 1.0))
    assert (bob["message_sentiment"], bob["intent_share.refund"]) == pytest.approx((-1.0, 0.5))
    assert ann["intent_share.order_status"] == pytest.approx(1.0)
    assert np.isnan(bob["review_sentiment"])
    assert all(
        np.isnan(cid[name]) for name in ("message_sentiment", "review_sentiment", "intent_share.refund")
    )
    assert cid["num_messages"] == 0
    assert reader.shown


def test_messages_of_later_or_of_nobody_are_not_even_read(workspace: Workspace, reader: Reader) -> None:
    read = read_messages(workspace, AS_OF, print)
    assert read is not None
    assert sorted(read["message_id"]) == ["q1", "q2", "q3", "r1", "r2"]
    assert len(reader.shown) == 5


def test_labels_that_hold_later_messages_change_nothing(workspace: Workspace, reader: Reader) -> None:
    before = _measured(workspace, read_messages(workspace, AS_OF, print))
    everything = read_messages(workspace, AS_OF + timedelta(days=99), print)
    np.testing.assert_equal(_measured(workspace, everything), before)
    assert len(reader.shown) > 5


def test_without_a_language_model_tone_is_missing_and_that_is_said(workspace: Workspace) -> None:
    said: list[str] = []
    assert read_messages(workspace, AS_OF, said.append) is None
    assert "no language model is trained" in said[0]
    measured = _measured(workspace, None)
    assert measured["ann"]["num_messages"] == 3
    assert all(np.isnan(row["review_sentiment"]) for row in measured.values())
    assert not any(name.startswith("intent_share") for name in measured["ann"])


def test_a_model_without_sentiment_gives_topics_alone(
    workspace: Workspace, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def intents_only(texts: list[str]) -> Prediction:
        said = Reader.predict(reader, texts)
        return Prediction({"intent": said.classes["intent"]}, said.logits, said.temperature)

    monkeypatch.setattr(reader, "predict", intents_only)
    bob = _measured(workspace, read_messages(workspace, AS_OF, print))["bob"]
    assert np.isnan(bob["message_sentiment"])
    assert bob["intent_share.refund"] == pytest.approx(0.5)
