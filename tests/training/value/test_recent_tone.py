"""What customers wrote moves their probability of churn: in the planted shop those who leave are annoyed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training import value
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.ingest import ingest
from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.data.tables import scan_table
from shopsight.training.language import checkpoint
from shopsight.training.language.checkpoint import Prediction
from shopsight.training.value.calibration import calibrate
from shopsight.training.value.checkpoint import load
from shopsight.training.value.config import ValueConfig
from shopsight.training.value.purchases import histories
from shopsight.training.value.recent_tone import RecentTones
from tests.training.language_shop import pretend_trained
from tests.training.small_shop import START, event, write_shop

CONFIG = ValueConfig(num_bootstraps=20, horizon_days=60)
CLASSES = ("negative", "neutral", "positive")


@dataclass
class Reader:
    """Reads the tone that was planted; None: knows intents alone."""

    tones: dict[str, str] | None

    def predict(self, texts: list[str]) -> Prediction:
        if self.tones is None:
            return Prediction({"intent": ("a", "b")}, {"intent": np.ones((len(texts), 2))}, {"intent": 1.0})
        tone = np.array([[self.tones[text] == name for name in CLASSES] for text in texts]) * 100.0
        return Prediction({"sentiment": CLASSES}, {"sentiment": tone}, {"sentiment": 1.0})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("shop")
    spec = ShopSpec(num_customers=5_000, seed=4, bad_row_share=0, messages_per_customer=3.0)
    make_shop(spec, root / "raw", root / "truth")
    workspace = Workspace(root / "workspace")
    ingest(root / "raw" / "sources.toml", workspace, PseudonymKey("test", b"0" * 32))
    return workspace


def _trained(shop: Workspace, monkeypatch: pytest.MonkeyPatch, heard: bool) -> dict[str, object]:
    pretend_trained(shop)
    truth = pl.read_parquet(shop.root.parent / "truth" / "messages.parquet")
    rows = scan_table(shop.tables, "messages").select("message_id", "text").collect()
    rows = rows.with_columns(pl.col("message_id").str.split(":").list.last()).join(truth, on="message_id")
    tones = dict(rows.select("text", "sentiment").iter_rows()) if heard else None
    texts = set(scan_table(shop.tables, "messages").select("text").collect()["text"])
    if tones is not None:
        tones |= dict.fromkeys(texts - set(tones), "neutral")
    monkeypatch.setattr(checkpoint, "load", lambda _: Reader(tones))
    return value.train(shop, CONFIG, lambda _: None)


def test_annoyed_customers_are_told_to_leave_and_the_holdout_bears_it_out(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = _trained(shop, monkeypatch, heard=False)
    unheard = load(shop).customers
    figures = _trained(shop, monkeypatch, heard=True)
    assert figures["calibration"]["tone"] < -0.05  # type: ignore[index]
    assert deaf["calibration"]["tone"] == 0.0  # type: ignore[index]
    holdout = figures["holdout"]
    assert holdout["brier"]["value"] < holdout["brier_without_tone"]["value"]  # type: ignore[index]
    assert deaf["holdout"]["brier"] == deaf["holdout"]["brier_without_tone"]  # type: ignore[index]
    moved = load(shop).customers.join(unheard, on="customer_id", suffix="_without_tones")
    change = (moved["churn"] - moved["churn_without_tones"]).to_numpy()
    assert (change > 0.02).any() and (change < -0.005).any()


def test_only_messages_of_the_days_before_count(tmp_path: Path) -> None:
    events = [event(name, "x", "purchase", 1.0, order_id=name) for name in ("ann", "bob", "cid")]
    workspace = write_shop(tmp_path, [*events, event("ann", "x", "view", 50.0)])
    known = histories(scan_table(workspace.tables, "events"), START + timedelta(days=40), {})
    told = [
        ("ann", 10.0, -1.0),
        ("ann", 39.0, -0.5),
        ("ann", 38.0, 0.1),
        ("bob", 41.0, -1.0),
        ("cid", 1.0, 1.0),
    ]
    rows = [(name, START + timedelta(days=day), tone) for name, day, tone in told]
    tones = RecentTones(pl.DataFrame(rows, schema=["customer_id", "timestamp", "tone"], orient="row"), 20.0)
    recent_tone = dict(tones.on(known).table.select("customer_id", "recent_tone").iter_rows())
    assert recent_tone == {"ann": pytest.approx(-0.4), "bob": 0.0, "cid": 0.0}
    assert RecentTones(None, 20.0).on(known) is known


def test_a_planted_tone_is_found_and_no_tone_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    said, recent_tone = (
        rng.beta(2, 3, 40_000),
        np.where(rng.random(40_000) < 0.3, rng.uniform(-1, 1, 40_000), 0.0),
    )
    happened = rng.random(40_000) < expit(logit(said) - 0.8 * recent_tone)
    found = calibrate(said, happened, recent_tone)
    assert (found.intercept, found.slope, found.tone) == pytest.approx((0.0, 1.0, -0.8), abs=0.08)
    assert np.abs(found(said, recent_tone) - expit(logit(said) - 0.8 * recent_tone)).max() < 0.03
    assert calibrate(said, happened, np.zeros(40_000)) == calibrate(said, happened)
