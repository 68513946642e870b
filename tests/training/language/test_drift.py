"""A new topic that comes up is found: the abstained share moves, and its messages form a group."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from shopsight.serving.routing.scope import Abstention
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language.checkpoint import Prediction
from shopsight.training.language.drift import OUTSIDE, drift, groups, intent_drift, read
from tests.training.small_shop import event, write_shop

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
WEEKS = 12
KNOWN = {
    "order_status": ["where is my {} parcel", "track the {} order please", "我的{}订单到哪里了"],
    "refund": ["money back for the {} now", "refund the {} soon", "请退{}的款"],
}
NEW = [
    "how much is left on my gift card {}",
    "gift card balance shows zero {}",
    "can i pay with a gift card {}",
]
NOISE = [
    f"{a}{b}{c}" for a in ("lo", "ip", "do", "am") for b in ("re", "su", "ti") for c in ("m", "s", "xo", "ka")
]


@dataclass
class Reader:
    """Knows the two old intents by their words, and that it knows nothing else."""

    abstention: Abstention = field(default_factory=lambda: Abstention("confidence", 0.9, 1.0))

    def in_scope(self, said: Prediction) -> NDArray[np.bool_]:
        return self.abstention.accepts(said.logits["intent"])

    def predict(self, texts: list[str]) -> Prediction:
        order = [any(w in t for w in ("parcel", "order", "订单")) for t in texts]
        refund = [any(w in t for w in ("money", "refund", "款")) for t in texts]
        logits = np.stack([order, refund], axis=1).astype(np.float32) * 20
        return Prediction({"intent": ("order_status", "refund")}, {"intent": logits}, {"intent": 1.0})


def _shop(
    root: Path, new_from: int | None, seed: int = 0, more: list[dict[str, Any]] | None = None
) -> Workspace:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for week in range(WEEKS):
        texts = [t.format(i) for i in range(20) for t in (*KNOWN["order_status"], *KNOWN["refund"])]
        texts += [" ".join(rng.permutation(NOISE)[:4]) for _ in range(10)]
        if new_from is not None and week >= new_from:
            texts += [t.format(i) for i in range(8) for t in NEW]
        for n, text in enumerate(texts):
            time = START + timedelta(weeks=week, minutes=int(rng.integers(10_000)))
            who = f"c{n % 30}"
            rows.append({"message_id": f"{week}-{n}", "customer_id": who, "timestamp": time, "text": text})
    return write_shop(root, [event("ann", "x", "view", 1.0)], messages=rows + (more or []))


def test_a_new_topic_moves_the_abstained_share_and_forms_a_group(tmp_path: Path) -> None:
    workspace = _shop(tmp_path, new_from=9)
    told = drift(workspace, Reader())  # type: ignore[arg-type]
    assert [share["intent"] for share in told["shares"] if share["moved"]] == [OUTSIDE]
    assert told["shares"][0]["recent"] > 0.15 > told["shares"][0]["before"]
    new = [group for group in told["groups"] if "card" in group["words"]]
    assert new[0] == told["groups"][0] and sum(group["size"] for group in new) == 72
    for group in new:
        assert group["recent_a_week"] > 5 and group["before_a_week"] < 0.1 * group["recent_a_week"]
        assert "card" in group["words"] and "examples" not in group


def test_no_text_is_told_and_no_word_or_group_of_few_people(tmp_path: Path) -> None:
    late = START + timedelta(weeks=WEEKS - 1)
    alone = [f"zyxquill wants the wobblefritz {n} back" for n in range(30)]
    named = [f"how much is left on my gift card {n} vandermark" for n in range(8)]
    more = [
        {"message_id": f"x{n}", "customer_id": who, "timestamp": late, "text": text}
        for n, (who, text) in enumerate([*(("one", t) for t in alone), *(("two", t) for t in named)])
    ]
    told = drift(_shop(tmp_path, new_from=9, more=more), Reader())  # type: ignore[arg-type]
    assert any("card" in group["words"] for group in told["groups"])
    said = json.dumps(told)
    assert not [word for word in ("zyxquill", "wobblefritz", "vandermark", "left on my") if word in said]


def test_without_a_new_topic_nothing_moved(tmp_path: Path) -> None:
    for seed in range(3):
        found = read(_shop(tmp_path / str(seed), None, seed), Reader())  # type: ignore[arg-type]
        told = intent_drift(found)
        assert not any(share["moved"] for share in told["shares"]) and told["psi"] < 0.02
        assert not any({"gift", "parcel", "refund"} & set(group["words"]) for group in groups(found))


def test_weeks_hold_every_message_once_with_an_interval(tmp_path: Path) -> None:
    found = read(_shop(tmp_path, new_from=9), Reader())  # type: ignore[arg-type]
    weeks = intent_drift(found)["weeks"]
    assert sum(week["messages"] for week in weeks) == found.frame.height and len(weeks) == WEEKS
    assert weeks[0]["week"] == "2026-01-05"
    for week in weeks:
        rows = found.frame.filter(
            pl.col("timestamp").dt.truncate("1w").dt.date() == pl.lit(week["week"]).str.to_date()
        )
        assert week["value"] == pytest.approx((rows["intent"] == OUTSIDE).mean())
        assert week["low"] < week["value"] < week["high"]


def test_a_shop_with_few_messages_tells_nothing(tmp_path: Path) -> None:
    none = write_shop(tmp_path / "none", [event("ann", "x", "view", 1.0)])
    empty = drift(none, Reader())  # type: ignore[arg-type]
    assert empty["shares"] == [] and empty["groups"] == [] and empty["psi"] is None
    rows = [{"message_id": "a", "customer_id": "ann", "timestamp": START, "text": "hm"}]
    one = write_shop(tmp_path / "one", [event("ann", "x", "view", 1.0)], messages=rows)
    assert drift(one, Reader())["groups"] == []  # type: ignore[arg-type]
