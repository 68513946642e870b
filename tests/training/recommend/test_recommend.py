"""From events to served recommendations: weights, the graph beside the model, shops of every odd size."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import polars as pl
import pytest
from safetensors.numpy import load_file

from shopsight.serving.contract import ModelContract, read_goldens
from shopsight.serving.routing.history import HistoryReader
from shopsight.serving.routing.items import Items
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import Row
from shopsight.training import profiles, recommend
from shopsight.training.artifacts.goldens import member
from shopsight.training.artifacts.trained_state import NotTrained, saved_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.checkpoint import load
from shopsight.training.recommend.config import EventWeights, RecommendConfig
from shopsight.training.recommend.evaluator import Evaluator
from shopsight.training.recommend.graph import write_retrieval_graph
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.neighbours import ItemKNN
from shopsight.training.recommend.shop import Shop
from tests.training.small_shop import START, event, tastes_shop, write_shop

SMALL = RecommendConfig(
    factors=6, iterations=6, unobserved_weights=(0.1,), regularizations=(0.01, 0.1), test_days=15.0,
    num_bootstraps=50, num_popular=5,
)  # fmt: skip
WEIGHTS = {"view": 1.0, "cart": 3.0, "purchase": 5.0}


def _silent(_: str) -> None:
    return None


@pytest.mark.parametrize("steps", [0.0, 2.5])
def test_weights_are_summed_faded_and_taken_back_as_the_slow_reference_does(
    tmp_path: Path, steps: float
) -> None:
    rng = np.random.default_rng(0)
    kinds = ["view", "cart", "purchase", "return", "rating", "search"]
    events = [
        event(f"c{rng.integers(6)}", f"i{rng.integers(5)}", str(rng.choice(kinds)), float(rng.integers(90)),
              rating=float(rng.integers(1, 6)))
        for _ in range(150)
    ]  # fmt: skip
    events.append(event(None, "i0", "view", 3.0))
    shop = Shop(write_shop(tmp_path, events), RecommendConfig(half_life_days=20.0, half_life_steps=steps))
    before = START + timedelta(days=70)
    told = [e for e in events if e["customer_id"] and e["timestamp"] < before and e["event"] != "search"]
    expected = np.zeros(shop.known.shape)
    customers, items = shop.known.customer_ids.to_list(), shop.known.item_ids.to_list()
    for e in told:
        own = {o["timestamp"] for o in told if o["customer_id"] == e["customer_id"]}
        halvings = (max(own) - e["timestamp"]) / timedelta(days=1) / 20
        halvings += sum(moment > e["timestamp"] for moment in own) / steps if steps else 0
        weight = {**WEIGHTS, "return": -5.0, "rating": 3.0 * (e["rating"] - 3) / 2}[e["event"]]
        expected[customers.index(e["customer_id"]), items.index(e["item_id"])] += weight * 0.5**halvings
    expected[expected <= 1e-6] = 0
    np.testing.assert_allclose(shop.user_items(before).toarray(), expected, rtol=1e-5, atol=1e-6)


def test_histories_are_in_the_order_of_time_and_repeats_in_a_row_are_one_step(tmp_path: Path) -> None:
    events = [
        event("b", "late", "purchase", 9.0),
        event("a", "y", "view", 2.0),
        event("a", "x", "view", 1.0),
        event("a", "y", "cart", 2.5),
        event("a", "y", "purchase", 3.0),
        event("a", "x", "purchase", 3.0),
        event("a", "x", "rating", 3.5, rating=5.0),
        event("a", "y", "return", 3.6),
        event("a", "y", "view", 4.0),
        event("b", "x", "view", 0.5),
        event(None, "x", "view", 0.5),
        event("c", "z", "search", 0.5),
    ]
    shop = Shop(write_shop(tmp_path, events), RecommendConfig())
    found = shop.histories(START + timedelta(days=5))
    assert len(found) == len(shop.known.customer_ids)
    named = {
        customer: [shop.known.item_ids[int(i)] for i in found.part(row, row + 1).items]
        for row, customer in enumerate(shop.known.customer_ids)
    }
    assert {customer: items for customer, items in named.items() if items} == {
        "a": ["x", "y", "x", "y"],
        "b": ["x"],
    }


def test_models_of_histories_are_judged_like_the_others(tmp_path: Path) -> None:
    shop = Shop(tastes_shop(tmp_path), SMALL)
    cut = shop.windows
    evaluator = Evaluator.of(shop, shop.user_items(cut.test), cut.test, cut.end)
    histories = shop.histories(cut.test)
    model = ItemKNN().fit(histories)
    blocked = np.array([3, 5], dtype=np.int32)
    lists = replace(evaluator, blocked=blocked).by_histories(model, histories, bought_again=False)
    scores = model.scores(histories.chosen(evaluator.users))
    for row, (ids, bought) in enumerate(zip(lists, evaluator.bought, strict=True)):
        assert not set(ids.tolist()) & {3, 5, *bought.indices.tolist()}
        left = np.setdiff1d(np.arange(scores.shape[1]), [3, 5, *bought.indices])
        np.testing.assert_array_equal(scores[row, ids], -np.sort(-scores[row, left])[: evaluator.k])
    again = evaluator.by_histories(model, histories, bought_again=True)
    assert any(set(ids) & set(bought.indices) for ids, bought in zip(again, evaluator.bought, strict=True))


def test_what_was_sent_back_was_not_bought(tmp_path: Path) -> None:
    events = [event("a", "kept", "purchase", 1.0), event("a", "sent back", "purchase", 1.0)]
    events += [event("a", "sent back", "return", 2.0), event("a", "unpaid", "return", 2.0)]
    shop = Shop(write_shop(tmp_path, events), RecommendConfig())
    bought = shop.bought(START + timedelta(days=3))
    assert [shop.known.item_ids[int(i)] for i in bought.indices] == ["kept"]


@pytest.fixture(scope="module")
def fitted() -> MatrixFactorization:
    from scipy.sparse import random as random_sparse

    user_items = random_sparse(40, 17, density=0.2, format="csr", dtype=np.float32, random_state=3)
    return MatrixFactorization(MFConfig(num_factors=5, num_epochs=6, seed=1)).fit(user_items)


def _graph(path: Path, model: MatrixFactorization, blocked: Any = None) -> onnxruntime.InferenceSession:
    blocked = np.zeros(len(model.item_factors), dtype=bool) if blocked is None else blocked
    write_retrieval_graph(np.asarray(model.item_factors, np.float32), blocked, path / "model.onnx")
    return onnxruntime.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])


def _ask(
    session: onnxruntime.InferenceSession, factors: Any, exclude: Any, allow: Any, k: list[int]
) -> tuple[Any, Any]:
    num = len(factors)
    inputs = {
        "USER_FACTOR": np.asarray(factors, dtype=np.float32),
        "EXCLUDE_ITEM": np.array(exclude, dtype=np.int64).reshape(num, -1),
        "ALLOW_ITEM": np.array(allow, dtype=np.int64).reshape(num, -1),
        "K": np.array(k, dtype=np.int64).reshape(num, 1),
    }
    return tuple(session.run(["ITEM_INDEX", "SCORE"], inputs))  # type: ignore[return-value]


def test_the_graph_recommends_what_the_model_recommends(tmp_path: Path, fitted: MatrixFactorization) -> None:
    session = _graph(tmp_path, fitted)
    users = np.flatnonzero(fitted.user_factors.any(axis=1))  # the router answers for the others
    num, factors = len(users), fitted.user_factors[users]
    seen = [fitted.user_items[u].indices.tolist() for u in users]
    width = max(map(len, seen))
    padded = [row + [-1] * (width - len(row)) for row in seen]
    index, score = _ask(session, factors, padded, [[-1]] * num, [6] * num)
    expected, expected_score = fitted.recommend(users, k=6, filter_viewed=True)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(score, expected_score, atol=1e-6)
    index, score = _ask(session, factors, [[]] * num, [[]] * num, [6] * num)
    np.testing.assert_array_equal(index, fitted.recommend(users, k=6, filter_viewed=False)[0])


def test_the_graph_obeys_exclusion_allowance_and_what_cannot_be_sold(
    tmp_path: Path, fitted: MatrixFactorization
) -> None:
    blocked = np.zeros(17, dtype=bool)
    blocked[4] = True
    session = _graph(tmp_path, fitted, blocked)
    factors = fitted.user_factors[:3]
    exclude, allow = (
        [[3, 3, -1], [-1, -1, -1], [99, 2, -1]],
        [[2, 3, 4, 5], [-1, -1, -1, -1], [2, -1, 50, -1]],
    )
    index, score = _ask(session, factors, exclude, allow, [2, 17, 4])
    scores = factors @ np.asarray(fitted.item_factors).T
    assert index.shape == (3, 17)  # the largest K of the batch
    for row, may in enumerate([{2, 5}, set(range(17)) - {4}, set()]):
        ranked = sorted(may, key=lambda item: -scores[row, item])
        assert index[row].tolist() == ranked + [-1] * (17 - len(ranked))
        np.testing.assert_allclose(score[row, : len(ranked)], scores[row, ranked], atol=1e-6)
        assert np.isneginf(score[row, len(ranked) :]).all()


@pytest.mark.parametrize("k", [0, 1, 17, 1000])
def test_the_graph_gives_no_more_than_there_is(tmp_path: Path, fitted: MatrixFactorization, k: int) -> None:
    index, _ = _ask(_graph(tmp_path, fitted), fitted.user_factors[:1], [[-1]], [[-1]], [k])
    assert index.shape == (1, min(k, 17))


def test_equal_scores_come_by_index(tmp_path: Path) -> None:
    write_retrieval_graph(np.ones((6, 2), np.float32), np.zeros(6, bool), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    index, _ = _ask(session, np.ones((1, 2)), [[1]], [[-1]], [5])
    assert index[0].tolist() == [0, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    workspace = tastes_shop(tmp_path_factory.mktemp("tastes"))
    metrics = recommend.train(workspace, SMALL, _silent)
    recommend.export(workspace, SMALL)
    return workspace, metrics


def test_tastes_are_found_where_popularity_finds_none(trained: tuple[Workspace, dict[str, Any]]) -> None:
    _, metrics = trained
    assert metrics["leaks"]["passed"]
    assert metrics["times_popularity"]["low"] > 1.3
    popular = metrics["popularity"]["recall_at_10"]["value"]
    assert metrics["item_knn"]["recall_at_10"]["value"] > 1.3 * popular
    assert metrics["transitions"]["recall_at_10"]["value"] > 1.3 * popular
    assert (
        metrics["category_miscalibration"]["high"] < metrics["popularity"]["category_miscalibration"]["low"]
    )
    assert metrics["category_diversity"]["high"] < metrics["popularity"]["category_diversity"]["low"]
    assert metrics["novelty_bits"]["value"] > metrics["popularity"]["novelty_bits"]["value"]
    assert metrics["popularity_bias"]["value"] < metrics["popularity"]["popularity_bias"]["value"]
    assert metrics["recall_at_10_warm_items"]["value"] > 0
    worth = metrics["leaks_in_recall_at_10"]
    assert set(worth) == {"time", "future_items", "repeats"}
    for leak in worth.values():
        assert leak["clean"]["value"] > 0
        assert leak["worth"]["value"] == pytest.approx(leak["leaky"]["value"] - leak["clean"]["value"])
    assert metrics["gini"] < metrics["popularity"]["gini"]
    assert (
        metrics["hit_rate_at_10"]["value"] >= metrics["recall_at_10"]["value"] > metrics["map_at_10"]["value"]
    )
    assert (
        metrics["recall_at_10"]["low"] <= metrics["recall_at_10"]["value"] <= metrics["recall_at_10"]["high"]
    )


def test_evaluate_repeats_the_figures_of_training(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, metrics = trained
    again = recommend.evaluate(workspace, replace(SMALL, half_life_days=7.0, half_life_steps=2.0))
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(metrics))
    assert saved_metrics(workspace, "recommend")["recall_at_10"] == again["recall_at_10"]


def _router(workspace: Workspace) -> tuple[RecommendRouter, Any]:
    folder = workspace.models / "recommend"
    return RecommendRouter(folder, release="1"), member(workspace.models / "mf_retrieval" / "model.onnx")


def _texts(*values: str) -> Any:
    return np.array([value.encode() for value in values], dtype=np.object_)


def _answer(workspace: Workspace, **tensors: Any) -> dict[str, Any]:
    router, ask = _router(workspace)
    found = router.answer([Row(tensors)], ask)[0]
    assert isinstance(found, dict), found
    return found


def test_the_endpoint_gives_a_known_customer_what_the_model_ranks_first(
    trained: tuple[Workspace, dict[str, Any]],
) -> None:
    workspace, _ = trained
    state = load(workspace)
    customers, items = state.catalogue.customer_ids.to_list(), state.catalogue.item_ids.to_list()
    for customer in ("c000", "c041", "c089"):
        row = customers.index(customer)
        seen = Shop(workspace, SMALL).bought(START + timedelta(days=999))[row].indices
        score = state.final.item_factors @ state.final.user_factors[row]
        if not state.choice.bought_again:
            score[seen] = -np.inf
        expected = [items[i].encode() for i in np.argsort(-score, kind="stable")[:4]]
        found = _answer(workspace, CUSTOMER_ID=_texts(customer), K=np.array([4], np.int32))
        assert found["ITEM_ID"].tolist() == expected
        assert set(found["REASON_CODE"].tolist()) == {b"personal"}


def test_a_history_folded_in_by_the_endpoint_is_what_the_model_folds_in(
    trained: tuple[Workspace, dict[str, Any]],
) -> None:
    """The router reads weights, half-life and objective from the contract, training from the config."""
    workspace, _ = trained
    history = [
        ("Toys-1", "view", 0),
        ("Toys-2", "purchase", 50),
        ("Toys-1", "cart", 80),
        ("Books-3", "view", 80),
    ]
    history += [("Books-3", "rating", 81), ("Books-4", "purchase", 20), ("Books-4", "return", 21)]
    state = load(workspace)
    items = state.catalogue.item_ids.to_list()
    rows = [event("new", i, kind, float(day)) for i, kind, day in history]
    apart = write_shop(workspace.root / "apart", rows, [{"item_id": i} for i in items])
    shop = Shop(apart, RecommendConfig())
    factor = state.final.fold_in(shop.user_items(START + timedelta(days=999)))[0]
    score = state.final.item_factors @ factor
    times = [int((START + timedelta(days=day)).timestamp() * 1e6) for _, _, day in history]
    found = _answer(
        workspace, K=np.array([8], np.int32), HISTORY_ITEM=_texts(*(i for i, _, _ in history)),
        HISTORY_EVENT=_texts(*(kind for _, kind, _ in history)), HISTORY_TIME=np.array(times, np.int64),
    )  # fmt: skip
    assert set(found["REASON_CODE"].tolist()) == {b"folded_in"}
    shown = [items.index(item.decode()) for item in found["ITEM_ID"]]
    np.testing.assert_allclose(found["SCORE"], score[shown], atol=1e-5)
    if not state.choice.bought_again:
        score[items.index("Toys-2")] = -np.inf
    assert shown[0] == int(score.argmax())


class _Named:
    """The items of a router, by name alone."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def index_of(self, item_id: bytes) -> int | None:
        return self._names.index(item_id.decode()) if item_id.decode() in self._names else None


@pytest.mark.parametrize("steps", [0.0, 1.5])
def test_a_request_fades_a_history_by_days_and_steps_as_training_does(tmp_path: Path, steps: float) -> None:
    rng = np.random.default_rng(4)
    kinds = ["view", "cart", "purchase", "return", "search"]
    history = [(f"i{rng.integers(6)}", str(rng.choice(kinds)), int(rng.integers(30))) for _ in range(40)]
    config = RecommendConfig(half_life_days=9.0, half_life_steps=steps)
    shop = Shop(write_shop(tmp_path, [event("a", i, kind, float(day)) for i, kind, day in history]), config)
    items = shop.known.item_ids.to_list()
    settings = {"event_weights": WEIGHTS, "half_life_days": 9.0, "half_life_steps": steps}
    reader = HistoryReader(cast(Items, _Named(items)), settings)
    found = reader.read(
        Row({
            "HISTORY_ITEM": _texts(*(i for i, _, _ in history)),
            "HISTORY_EVENT": _texts(*(kind for _, kind, _ in history)),
            "HISTORY_TIME": np.array([day * 86_400_000_000 for _, _, day in history]),
        })
    )  # fmt: skip
    given = np.zeros(len(items))
    given[found.item] = np.where(found.weight > 1e-6, found.weight, 0)
    np.testing.assert_allclose(
        given, shop.user_items(START + timedelta(days=99)).toarray()[0], rtol=1e-5, atol=1e-6
    )


def test_without_times_the_last_entry_of_a_request_is_its_latest_step() -> None:
    settings = {"event_weights": WEIGHTS, "half_life_days": 9.0, "half_life_steps": 1.0}
    reader = HistoryReader(cast(Items, _Named(["a", "b", "c"])), settings)
    wish = {"HISTORY_ITEM": _texts("b", "", "a", "b", "c", "c")}
    wish["HISTORY_EVENT"] = _texts("view", "view", "cart", "view", "view", "search")
    found = reader.read(Row(wish))
    np.testing.assert_allclose(found.weight, [3 / 4, 1 / 8 + 1 / 2, 1.0])


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_half_lives_in_steps_that_are_none_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="half_life_steps is"):
        RecommendConfig(half_life_steps=wrong)


def test_customers_without_events_get_what_is_popular(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = trained
    found = _answer(workspace, CUSTOMER_ID=_texts("c998-silent"))
    assert set(found["REASON_CODE"].tolist()) == {b"popular"}  # no profiles were trained here
    popularity = load_file(workspace.models / "recommend" / "items.safetensors")["popularity"]
    assert found["SCORE"].tolist() == sorted(popularity.tolist(), reverse=True)[:10]


def test_popularity_is_counted_in_each_group_alone(tmp_path: Path) -> None:
    events = [
        event("a", "x", "purchase", 1.0),
        event("a", "x", "purchase", 1.1),
        event("b", "y", "purchase", 1.0),
    ]
    events += [
        event("b", "x", "view", 1.0),
        event("c", "x", "purchase", 1.0),
        event("d", "y", "purchase", 1.0),
    ]
    shop = Shop(write_shop(tmp_path, events), RecommendConfig(half_life_days=5.0))
    before = START + timedelta(days=6)
    assert shop.popularity(before).tolist() == pytest.approx([0.5 ** (4.9 / 5) + 0.5, 1.0], rel=1e-4)
    by_group = shop.popularity(before, np.array([1, 0, 0, -1]))
    np.testing.assert_allclose(by_group, [[0.5, 0.5], [0.5 ** (4.9 / 5), 0.0]], rtol=1e-4)


def test_silent_customers_get_what_is_popular_in_their_segment(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    settings = profiles.ProfilesConfig(num_segments=3, num_bootstraps=2)
    profiles.train(workspace, settings, _silent)
    metrics = recommend.train(workspace, SMALL, _silent)
    recommend.export(workspace, SMALL)
    assert (
        metrics["segment_popularity"]["recall_at_10"]["value"]
        > metrics["popularity"]["recall_at_10"]["value"]
    )
    found = _answer(workspace, CUSTOMER_ID=_texts("c999-silent"))
    assert set(found["REASON_CODE"].tolist()) == {b"popular_in_segment"}
    customers = load_file(workspace.models / "recommend" / "customers.safetensors")
    popular = load_file(workspace.models / "recommend" / "items.safetensors")["segment_popular"]
    assigned = profiles.load(workspace).assigned
    np.testing.assert_array_equal(customers["segment"], assigned["segment"])
    items = load(workspace).catalogue.item_ids
    for number in range(3):  # each segment's favourites are of one category
        members = assigned.filter(pl.col("segment") == number)["customer_id"].to_list()
        taste = np.bincount([int(c[1:4]) % 3 for c in members]).argmax()
        assert items[int(popular[number, 0])].startswith(("Books", "Garden", "Toys")[taste])


def test_goldens_are_clear_cut_and_name_no_real_customer(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = trained
    goldens = read_goldens(workspace.models / "recommend")
    reasons = {r for g in goldens for t in g.answer if t.name == "REASON_CODE" for r in t.data}
    assert reasons == {"popular", "folded_in"}
    for one in goldens:
        named = [t.data for t in one.request if t.name == "CUSTOMER_ID"]
        assert named in ([], [["golden-nobody"]])
        scores = next(np.array(t.data) for t in one.answer if t.name == "SCORE")
        assert len(scores) == 1 or (np.diff(scores) < -1e-5).all()


def test_the_contract_lists_files_that_verify(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = trained
    for name in ("recommend", "mf_retrieval"):
        contract = ModelContract.read(workspace.models / name)
        contract.verify_files(workspace.models / name)
    assert ModelContract.read(workspace.models / "recommend").preprocessing["key_id"] == "k"


def test_export_refuses_factors_of_other_tables(tmp_path: Path) -> None:
    with pytest.raises(NotTrained, match="shopsight train recommend"):
        recommend.export(tastes_shop(tmp_path / "a", 12), SMALL)
    workspace = tastes_shop(tmp_path / "b", 12)
    recommend.train(workspace, SMALL, _silent)
    tastes_shop(tmp_path / "b", 13)
    with pytest.raises(NotTrained, match="changed since"):
        recommend.export(workspace, SMALL)


@pytest.mark.parametrize(
    "events",
    [
        [event("a", "x", "view", 0.0)],
        [event("a", "x", "purchase", 0.0), event("a", "x", "return", 1.0)],
        [event("a", "x", "view", 0.0), event("b", "y", "purchase", 9.0), event("c", "x", "cart", 9.5)],
        [event("a", "商品", "view", float(d)) for d in range(5)] + [event("ß", "x", "purchase", 4.9)],
    ],
    ids=["one event", "everything sent back", "three customers", "no ascii"],
)
def test_the_smallest_shops_are_trained_and_served(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    items = [{"item_id": "never bought"}]
    workspace = write_shop(tmp_path, events, items, customers=["silent"])
    config = replace(SMALL, test_days=0.0)
    metrics = recommend.train(workspace, config, _silent)
    k = min(10, metrics["num_items"])
    assert metrics["num_customers"] == 0 and metrics[f"recall_at_{k}"]["value"] is None
    assert metrics["times_popularity"]["reason"] == "there is nobody to judge"
    assert metrics["coverage"] is None and metrics["chosen"][f"validation_recall_at_{k}"] is None
    recommend.export(workspace, config)
    for customer in ("silent", events[0]["customer_id"]):
        found = _answer(workspace, CUSTOMER_ID=_texts(customer), K=np.array([50], np.int32))
        assert len(set(found["ITEM_ID"].tolist())) == len(found["ITEM_ID"])
        assert np.isfinite(found["SCORE"]).all()
    popularity = load_file(workspace.models / "recommend" / "items.safetensors")["popularity"]
    assert len(_answer(workspace)["ITEM_ID"]) == (popularity > 0).sum() > 0


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="factors is 0"):
        RecommendConfig(factors=0)
    with pytest.raises(ValueError, match="bought_again"):
        RecommendConfig(bought_again="maybe")
    with pytest.raises(ValueError, match="weights"):
        EventWeights(view=-1.0)
