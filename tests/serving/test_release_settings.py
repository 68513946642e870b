"""A release that lacks a key which its router reads is refused when it is loaded, with what to do."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving.contract import CONTRACT_FILE, ContractError
from shopsight.serving.routing.insight import InsightRouter
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.tensors import ROUTERS
from shopsight.serving.routing.understand import UnderstandRouter
from tests.serving.tiny_models import KEY, TinyShop

OPENERS = {
    "recommend": lambda folder: RecommendRouter(folder, "7", load_key=lambda: KEY),
    "profile": lambda folder: ProfileRouter(folder, "7", load_key=lambda: KEY),
    "understand": lambda folder: UnderstandRouter(folder, "7"),
    "insight": lambda folder: InsightRouter(folder, "7"),
}
# What real releases say beside the tiny shop's.
MORE: dict[str, dict[str, Any]] = {
    "recommend": {
        "max_per_category": 2,
        "suppressed": ["complaint"],
        "blend": {
            "num_candidates": 20,
            "weights": {"factorised": 1.0, "towers": 1.0, "popular": 0.5, "ranker": 1.0},
            "softness": 10.0,
            "max_history": 8,
            "item_buckets": 30,
            "num_facts": 0,
        },
    },
    "understand": {
        "answers": {"threshold": 0.5, "weights": {"words": 0.5, "meaning": 0.3, "intent": 0.2}},
        "several_threshold": 0.5,
    },
    "insight": {"suppressing_intents": ["refund"]},
}
# A release may lack these: what they are for is then left out.
OPTIONAL = {
    "recommend": {
        "key_id", "max_per_category", "suppressed", "blend", "event_weights.view", "event_weights.cart",
        "event_weights.purchase",
    },
    "profile": {"key_id", "forecast"},
    "understand": {"several_threshold", "max_tokens"},
    "insight": {"suppressing_intents"},
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyShop(seed=3).write(tmp_path_factory.mktemp("models"))


def keys_of(settings: Any, where: str = "") -> Iterator[str]:
    """Every key, as dotted names; of a list, those of its first object."""
    if isinstance(settings, list) and settings and isinstance(settings[0], dict):
        settings = {"0": settings[0]}
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if key != "0":
            yield f"{where}{key}"
        yield from keys_of(value, f"{where}{key}.")


def without(settings: dict[str, Any], dotted: str) -> dict[str, Any]:
    changed: Any = copy.deepcopy(settings)
    inside, (*path, last) = changed, dotted.split(".")
    for key in path:
        inside = inside[int(key)] if isinstance(inside, list) else inside[key]
    del inside[last]
    return dict(changed)


def test_all_routers_are_tried() -> None:
    assert OPENERS.keys() == ROUTERS.keys()


@pytest.mark.parametrize("router", OPENERS)
def test_each_key_that_a_release_lacks_is_named_with_the_remedy(router: str, models: Path) -> None:
    path = models / router / CONTRACT_FILE
    contract = json.loads(path.read_text())
    whole = contract["preprocessing"] | MORE.get(router, {})
    not_refused, other = set(), {}
    for key in keys_of(whole):
        path.write_text(json.dumps(contract | {"preprocessing": without(whole, key)}))
        try:
            OPENERS[router](models / router)
        except ContractError as error:
            name = key.rsplit(".", 1)[-1]
            told = str(error)
            if f"'{name}'" not in told or str(path) not in told or "publish again" not in told:
                other[key] = told
        except FileNotFoundError as error:  # of the answers, which the tiny shop does not have
            assert router == "understand" and "answer" in str(error)
            not_refused.add(key)
        else:
            not_refused.add(key)
    path.write_text(json.dumps(contract))
    assert other == {}
    assert not_refused == OPTIONAL[router]


def test_a_profile_of_before_the_forecast_s_trust_says_what_is_missing(models: Path) -> None:
    path = models / "profile" / CONTRACT_FILE
    contract = json.loads(path.read_text())
    whole = contract["preprocessing"]
    path.write_text(json.dumps(contract | {"preprocessing": without(whole, "forecast.trust")}))
    with pytest.raises(ContractError, match=r"preprocessing\.forecast has no 'trust'.*shopsight export"):
        OPENERS["profile"](models / "profile")
    path.write_text(json.dumps(contract))
