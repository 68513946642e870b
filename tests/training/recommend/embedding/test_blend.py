"""Retrieve, then rank: the router joins what all propose, in the order of them all, by the rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from shopsight.serving.contract import ModelContract, read_goldens
from shopsight.serving.routing.blend import Blender, varied
from shopsight.serving.routing.people import CUSTOMERS_FILE
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import Row
from shopsight.training import recommend
from shopsight.training.artifacts.goldens import members_of
from shopsight.training.artifacts.trained_state import NotTrained, training
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.recipes import Recipe
from shopsight.training.privacy.artefacts import erase_people, people_rows
from shopsight.training.recommend import embedding
from shopsight.training.recommend.config import BlendWeights, Rules
from shopsight.training.recommend.embedding.examples import buckets_of
from tests.training.recommend.embedding.test_family import CONFIG
from tests.training.recommend.test_recommend import SMALL
from tests.training.small_shop import tastes_shop

FEW = replace(SMALL, num_candidates=6, bought_again="yes")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = tastes_shop(tmp_path_factory.mktemp("shop"))
    embedding.train(made, CONFIG, lambda _: None)
    recommend.train(made, FEW, lambda _: None)
    return made


@pytest.fixture
def asked(workspace: Workspace) -> Any:
    """Ask the router of an export with some rules; every call of a member is kept in `calls`."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def export(**changes: Any) -> Any:
        recipe = Recipe(recommend=replace(FEW, **changes), embedding=CONFIG)
        steps.export(workspace, recipe, ["embedding"])
        router = RecommendRouter(workspace.models / "recommend", release="1")
        names = ModelContract.read(workspace.models / "recommend").calls
        ask = members_of({name: workspace.models / name / "model.onnx" for name in names})

        def told(name: str, inputs: Any) -> Any:
            answer = ask(name, inputs)
            calls.append((name, {**inputs, **answer}))
            return answer

        def answer(**tensors: Any) -> dict[str, Any]:
            texts = {n: _texts(v) if isinstance(v, str) else v for n, v in tensors.items()}
            return router.answer([Row(texts)], told)[0]  # type: ignore[return-value]

        answer.calls = calls  # type: ignore[attr-defined]
        return answer

    return export


def _texts(*values: str) -> Any:
    return np.array([value.encode() for value in values], dtype=np.object_)


def _items(answer: dict[str, Any]) -> list[str]:
    return [item.decode() for item in answer["ITEM_ID"].tolist()]


def test_a_known_customer_gets_every_proposal_the_best_first(asked: Any) -> None:
    answer = asked()(CUSTOMER_ID="c001", K=np.array([24], np.int32))
    assert "personal" in {r.decode() for r in answer["REASON_CODE"]}
    assert {r.decode() for r in answer["REASON_CODE"]} <= {"personal", "recent", "popular"}
    assert (np.diff(answer["SCORE"]) <= 0).all() and len(set(_items(answer))) == len(_items(answer))


def test_candidates_are_those_of_the_factorisation_the_towers_and_popularity(
    workspace: Workspace, asked: Any
) -> None:
    ask = asked()
    answer = ask(CUSTOMER_ID="c001", K=np.array([6], np.int32))
    by_name = dict(ask.calls)
    factorisation = by_name["mf_retrieval"]["ITEM_INDEX"][0, :6]
    towers = by_name["two_tower_retrieval"]["ITEM_INDEX"][0, :6]
    ranked = by_name["ranker"]
    given = ranked["CANDIDATE_ITEM"][0]
    given = given[given >= 0]
    assert {*factorisation.tolist(), *towers.tolist()} <= set(given.tolist())
    assert 6 < len(given) <= 18 and len(answer["ITEM_ID"]) == 6
    places = np.argsort(-ranked["SCORE"][0, : len(given)], kind="stable")
    lists = [(1.0, factorisation.tolist()), (1.0, towers.tolist()), (0.5, given[places].tolist())]
    fused = {i: sum(w / (20 + one.index(i)) for w, one in lists if i in one) for i in given.tolist()}
    best = sorted(fused, key=lambda item: (-fused[item], item))[:6]
    router = RecommendRouter(workspace.models / "recommend", release="1")
    assert _items(answer) == [router._items.ids[i].decode() for i in best]
    np.testing.assert_allclose(answer["SCORE"], [fused[i] for i in best], rtol=1e-6)


def test_weights_of_the_lists_are_settings(workspace: Workspace, asked: Any) -> None:
    ask = asked(blend_weights=BlendWeights(factorised=0.0, towers=0.0, popular=0.0, ranker=1.0))
    answer = ask(CUSTOMER_ID="c001", K=np.array([6], np.int32))
    ranked = dict(ask.calls)["ranker"]
    given = ranked["CANDIDATE_ITEM"][0]
    given = given[given >= 0]
    best = given[np.argsort(-ranked["SCORE"][0, : len(given)], kind="stable")][:6]
    router = RecommendRouter(workspace.models / "recommend", release="1")
    assert _items(answer) == [router._items.ids[i].decode() for i in best.tolist()]
    with pytest.raises(ValueError, match="blend_weights must be 0 or above"):
        BlendWeights(towers=-1.0)


def test_a_history_of_the_request_comes_before_what_is_known(asked: Any) -> None:
    ask = asked()
    days = np.array([1, 3, 2], dtype=np.int64) * 86_400_000_000
    ask(
        CUSTOMER_ID="c001",
        HISTORY_ITEM=_texts("Toys-1", "Books-2", "never seen"),
        HISTORY_EVENT=_texts("view", "cart", "view"),
        HISTORY_TIME=days,
    )
    history = dict(ask.calls)["two_tower_retrieval"]["HISTORY_ITEM"][0]
    ids = sorted(f"{c}-{n}" for c in ("Books", "Garden", "Toys") for n in range(8))
    assert history[0] == ids.index("Books-2") and history[2] == ids.index("Toys-1")
    assert 24 <= history[1] < 24 + CONFIG.features.item_buckets  # the bucket of an id that nobody knew
    assert (history >= 0).sum() == CONFIG.features.max_history


def test_somebody_unknown_without_a_history_is_not_ranked(asked: Any) -> None:
    ask = asked()
    answer = ask(CUSTOMER_ID="nobody", K=np.array([5], np.int32))
    assert not ask.calls and {r.decode() for r in answer["REASON_CODE"]} == {"popular"}
    answer = ask(CUSTOMER_ID="c001", PERSONALISED=np.array([False]), K=np.array([5], np.int32))
    assert not ask.calls and {r.decode() for r in answer["REASON_CODE"]} == {"popular"}


def test_hidden_categories_and_prices_outside_the_band_are_never_shown(asked: Any) -> None:
    rules = Rules(hidden_categories=("Books/part 0", "Toys"), least_price=8.0, most_price=20.0)
    ask = asked(rules=rules)
    for customer in ("c000", "c001", "c002", "nobody"):
        shown = _items(ask(CUSTOMER_ID=customer, K=np.array([24], np.int32)))
        assert shown
        for item in shown:
            category, number = item.split("-")
            assert category != "Toys" and not (category == "Books" and int(number) % 2 == 0)
            assert 8.0 <= 5.0 + 3 * int(number) <= 20.0


def test_a_list_has_no_more_of_a_department_than_the_rule_allows(asked: Any) -> None:
    ask = asked(rules=Rules(max_per_category=2))
    shown = _items(ask(CUSTOMER_ID="c001", K=np.array([6], np.int32)))
    counts = {c: sum(item.startswith(c) for item in shown) for c in ("Books", "Garden", "Toys")}
    assert len(shown) == 6 and max(counts.values()) == 2


def test_exclusions_and_allowances_bind_every_proposer(asked: Any) -> None:
    ask = asked()
    free = _items(ask(CUSTOMER_ID="c001", K=np.array([24], np.int32)))
    without = _items(ask(CUSTOMER_ID="c001", K=np.array([24], np.int32), EXCLUDE=_texts(*free[:3])))
    assert not set(free[:3]) & set(without)
    only = _items(ask(CUSTOMER_ID="c001", K=np.array([24], np.int32), ALLOW=_texts("Toys-1", "Books-2")))
    assert set(only) == {"Toys-1", "Books-2"}
    assert not _items(ask(CUSTOMER_ID="c001", ALLOW=_texts("never seen")))


def test_goldens_of_the_blend_are_replayed_to_the_same_answers(workspace: Workspace, asked: Any) -> None:
    ask = asked()
    goldens = read_goldens(workspace.models / "recommend")
    assert any("recent" in str(golden.answer) or "folded_in" in str(golden.answer) for golden in goldens)
    assert ModelContract.read(workspace.models / "recommend").calls == (
        "mf_retrieval",
        "two_tower_retrieval",
        "ranker",
    )
    del ask


def test_a_forgotten_customer_leaves_no_history_behind(workspace: Workspace, asked: Any) -> None:
    asked()
    folder = workspace.models / "recommend"
    (held,) = people_rows(folder, ["c001"])
    assert 0 < len(held["recent"]) <= CONFIG.features.max_history
    before = load_file(folder / CUSTOMERS_FILE)
    assert erase_people(folder, ["c001"], [])
    after = load_file(folder / CUSTOMERS_FILE)
    assert not people_rows(folder, ["c001"])
    assert len(after["recent_item"]) == len(before["recent_item"]) - len(held["recent"])


def test_embeddings_of_other_tables_are_refused_and_may_be_left_out(tmp_path: Path) -> None:
    shop = tastes_shop(tmp_path, num_customers=24)
    recommend.train(shop, FEW, lambda _: None)
    with training(shop, "embedding") as run, replace(run, data_sha256="").saved(3, {}, {}, {}):
        pass
    with pytest.raises(NotTrained, match="shopsight train embedding"):
        recommend.export(shop, FEW)
    recommend.export(shop, replace(FEW, blend=False))
    assert ModelContract.read(shop.models / "recommend").calls == ("mf_retrieval",)


def test_an_item_is_named_after_the_list_that_has_it_highest() -> None:
    weights = {"factorised": 1.0, "towers": 2.0, "popular": 0.0, "ranker": 0.0}
    settings = {"weights": weights, "softness": 10, "max_history": 1, "item_buckets": 1, "num_facts": 0}
    blender = Blender(None, {}, settings | {"num_candidates": 2})  # type: ignore[arg-type]
    empty = np.array([], np.int64)
    lists = [
        ("a", "factorised", np.array([5, 3])),
        ("b", "towers", np.array([3, 9])),
        ("c", "popular", empty),
    ]
    found = blender.joined(lists)
    np.testing.assert_allclose(found.score, [1 / 11 + 2 / 10, 1 / 10, 2 / 11])
    assert found.item.tolist() == [3, 5, 9] and found.reason == ("b", "a", "b")
    assert found.only(np.arange(10) != 5).reason == ("b", "b")


@pytest.mark.parametrize(
    ("category", "most", "k", "places"),
    [
        ([0, 0, 0, 1], 2, 3, [0, 1, 3]),
        ([0, 0, 0, 1], 0, 3, [0, 1, 2]),
        ([0, 0, 0], 1, 3, [0, 1, 2]),
        ([-1, -1, 0, 0], 1, 3, [0, 1, 2]),
        ([], 1, 3, []),
    ],
)
def test_a_department_gives_way_while_others_are_left(
    category: list[int], most: int, k: int, places: list[int]
) -> None:
    assert varied(np.array(category), most, k).tolist() == places


class _KnowsNothing:
    def __init__(self, num_items: int) -> None:
        self.num_items = num_items

    def __len__(self) -> int:
        return self.num_items

    def index_of(self, _: bytes) -> None:
        return None


@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=20),
    st.integers(1, 2**31),
    st.integers(0, 2**31),
)
def test_training_and_serving_hash_unseen_items_alike(
    ids: list[str], num_buckets: int, num_items: int
) -> None:
    weights = dict.fromkeys(("factorised", "towers", "popular", "ranker"), 1.0)
    settings = {"weights": weights, "softness": 1, "max_history": 1, "num_facts": 0}
    settings |= {"num_candidates": 1, "item_buckets": num_buckets}
    router = Blender(_KnowsNothing(num_items), {}, settings)  # type: ignore[arg-type]
    expected = num_items + buckets_of(ids, num_buckets)
    assert [router._index(one.encode()) for one in ids] == expected.tolist()
