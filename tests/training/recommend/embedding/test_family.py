"""From a workspace's tables to a member: trained, gone on with, judged, exported, asked like the trainer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch

from shopsight.serving.contract import ModelContract, read_goldens, read_json, write_json
from shopsight.serving.graph import read_graph
from shopsight.training.artifacts.trained_state import NotTrained, saved_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import scan_table, write_tables
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.recipes import Recipe
from shopsight.training.privacy.trained import erase_trained, trained_rows
from shopsight.training.recommend import embedding
from shopsight.training.recommend.embedding.config import (
    EmbeddingConfig,
    FeatureConfig,
    LoopConfig,
    RankerConfig,
    TwoTowerConfig,
)
from shopsight.training.recommend.embedding.examples import Examples, buckets_of
from shopsight.training.recommend.embedding.exporter import synthetic_requests
from shopsight.training.recommend.embedding.group import ALONE
from shopsight.training.recommend.embedding.inputs import Inputs
from shopsight.training.recommend.embedding.item_store import restored, stored
from shopsight.training.recommend.embedding.measuring import ranker_of, ranker_task, towers_of
from shopsight.training.recommend.embedding.retrieval_task import TwoTowerTask
from shopsight.training.recommend.embedding.trainer import current
from tests.training.small_shop import CATEGORIES, event, table, tastes_shop, write_shop

CONFIG = EmbeddingConfig(
    features=FeatureConfig(
        max_history=10, num_recent=2, item_buckets=3, customer_buckets=4, bucket_share=0.05
    ),
    two_tower=TwoTowerConfig(
        dim=16,
        layers=(16,),
        num_negatives=16,
        loop=LoopConfig(epochs=5, batch_size=32, learning_rate=0.01, embedding_learning_rate=0.2),
    ),
    ranker=RankerConfig(
        dim=8,
        dense_layers=(8,),
        layers=(16,),
        num_negatives=6,
        num_candidates=15,
        loop=LoopConfig(epochs=4, batch_size=32, learning_rate=0.003, patience=0),
    ),
    num_bootstraps=50,
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = tastes_shop(tmp_path_factory.mktemp("shop"))
    embedding.train(made, CONFIG, lambda _: None)
    embedding.export(made, CONFIG)
    return made


def _weights(workspace: Workspace) -> Path:
    with current(workspace) as state:
        return state.folder


def _asked(
    workspace: Workspace, requests: dict[str, Any], model: str = "two_tower_retrieval"
) -> dict[str, Any]:
    path = workspace.models / model / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, requests), strict=True))


def test_towers_find_the_tastes_that_popularity_does_not(workspace: Workspace) -> None:
    metrics = saved_metrics(workspace, "embedding")
    assert metrics["times_popularity"]["value"] > 1.3
    assert metrics["leaks"]["passed"]
    by_dtype = metrics["recall_at_10_by_item_dtype"]
    assert by_dtype["float16"] == pytest.approx(by_dtype["float32"], abs=0.03)
    assert by_dtype["int8"] == pytest.approx(by_dtype["float32"], abs=0.06)


def _some_customers(examples: Examples) -> tuple[Any, Any, Any, Any]:
    """Customers, where their events lie, and the raw history of each, the latest first."""
    users = np.arange(0, len(examples.end) - 1, 7)
    begin, end = examples.end[users], examples.end[users + 1]
    history = np.full((len(users), int((end - begin).max())), -1, dtype=np.int64)
    for row, (first, last) in enumerate(zip(begin, end, strict=True)):
        history[row, : last - first] = examples.item[first:last][::-1]
    return users, begin, end, history


def test_the_ranker_member_scores_as_the_trained_one_does_on_raw_inputs(workspace: Workspace) -> None:
    folder = _weights(workspace)
    ranker, examples = ranker_of(folder, "final", CONFIG)
    users, begin, end, history = _some_customers(examples)
    candidates = np.random.default_rng(0).integers(0, 24, (len(users), 9))
    with torch.no_grad():
        expected = ranker_task(folder, "final", CONFIG).scores(
            ranker, begin, end, users, candidates, len(users), ALONE
        )
    given = np.column_stack([candidates, np.full(len(users), -1), np.full(len(users), 24)])
    request = {
        "HISTORY_ITEM": history,
        "CUSTOMER_FEATURE": examples.customer_feature[users].astype(np.int64),
        "CANDIDATE_ITEM": given,
    }
    scores = _asked(workspace, request, "ranker")["SCORE"]
    np.testing.assert_allclose(scores[:, :9], expected.numpy(), rtol=0, atol=1e-5)
    assert (scores[:, 9] == -np.inf).all() and np.isfinite(scores[:, 10]).all()


def test_the_ranker_puts_a_taste_before_what_is_popular(workspace: Workspace) -> None:
    metrics = saved_metrics(workspace, "embedding")
    assert metrics["ranker"]["recall_at_10"]["value"] > 1.2 * metrics["popularity"]["recall_at_10"]["value"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_member_ranks_as_the_trained_towers_do_on_raw_inputs(workspace: Workspace, dtype: str) -> None:
    embedding.export(workspace, replace(CONFIG, item_dtype=dtype))
    folder = _weights(workspace)
    towers, examples = towers_of(folder, "final", CONFIG)
    inputs = Inputs(examples, CONFIG.features)
    users, begin, end, history = _some_customers(examples)
    features = inputs.customers(begin, end, users, len(users))
    items = TwoTowerTask("final", examples, CONFIG.features, CONFIG.two_tower, data_sha256="").item_vectors(
        towers, ALONE
    )
    expected = towers.customers(features).detach().numpy() @ restored(*stored(items, dtype)).T
    answer = _asked(
        workspace,
        {
            "HISTORY_ITEM": history,
            "CUSTOMER_FEATURE": examples.customer_feature[users].astype(np.int64),
            "EXCLUDE_ITEM": np.full((len(users), 1), 3, dtype=np.int64),
            "ALLOW_ITEM": np.full((len(users), 1), -1, dtype=np.int64),
            "K": np.full((len(users), 1), 100, dtype=np.int64),
        },
    )
    assert (answer["ITEM_INDEX"][:, -1] == -1).all()  # what is excluded
    shown = answer["ITEM_INDEX"][:, :-1]
    assert not (shown == 3).any()
    np.testing.assert_allclose(
        answer["SCORE"][:, :-1], np.take_along_axis(expected, shown, axis=1), rtol=0, atol=2e-6
    )


def test_histories_of_nothing_and_of_unseen_items_are_answered(workspace: Workspace) -> None:
    folder = _weights(workspace)
    _, examples = towers_of(folder, "final", CONFIG)
    requests = synthetic_requests(examples, np.random.default_rng(1))
    batch = {name: np.stack([request[name] for request in requests]) for name in requests[0]}
    batch["EXCLUDE_ITEM"] = batch["ALLOW_ITEM"] = np.full((len(requests), 1), -1, dtype=np.int64)
    batch["K"] = np.full((len(requests), 1), 5, dtype=np.int64)
    answer = _asked(workspace, batch)
    assert (answer["ITEM_INDEX"] >= 0).all() and np.isfinite(answer["SCORE"]).all()
    empty = batch | {"HISTORY_ITEM": np.empty((len(requests), 0), dtype=np.int64)}
    np.testing.assert_allclose(_asked(workspace, empty)["SCORE"][-2], answer["SCORE"][-2], atol=1e-6)
    unseen = batch["HISTORY_ITEM"].copy()
    unseen[-1, 0] += 1  # the next bucket: other unseen items say something else
    other = _asked(workspace, batch | {"HISTORY_ITEM": unseen})["SCORE"][-1]
    assert np.abs(other - answer["SCORE"][-1]).max() > 1e-4


@pytest.mark.parametrize("model", ["two_tower_retrieval", "ranker"])
def test_contract_graph_and_goldens_agree(workspace: Workspace, model: str) -> None:
    folder = workspace.models / model
    contract, graph = ModelContract.read(folder), read_graph(folder / "model.onnx")
    contract.verify_files(folder)
    assert {spec.name: (spec.datatype, (-1, *spec.dims)) for spec in contract.inputs} == graph.inputs
    assert 18 <= graph.opset <= 21
    facts = contract.preprocessing["customer_features"]
    assert [fact["name"] for fact in facts] == ["country", "bucket"]
    ids = read_json(folder / "items.json")["item_id"]
    assert ids == sorted(ids) and len(ids) == 24
    assert len(read_goldens(folder)) == 4


def test_a_bucket_is_the_hash_that_the_contract_names() -> None:
    assert buckets_of(["Books-1", "商品"], 64).tolist() == [
        buckets_of([one], 64)[0] for one in ("Books-1", "商品")
    ]
    assert len(set(buckets_of([str(number) for number in range(2000)], 64).tolist())) == 64


def test_all_leaves_embeddings_out_until_they_were_asked_for(workspace: Workspace, tmp_path: Path) -> None:
    assert "embedding" in steps.chosen(workspace, "all", lambda _: None)
    fresh = tastes_shop(tmp_path, num_customers=9)
    assert "embedding" not in steps.chosen(fresh, "all", lambda _: None)
    assert steps.chosen(fresh, "embedding", lambda _: None) == ["embedding"]


def test_a_model_of_the_format_that_read_embeddings_by_place_is_refused(workspace: Workspace) -> None:
    path = workspace.checkpoints / "embedding" / "state.json"
    state = read_json(path)
    write_json(path, state | {"version": 1})
    try:
        with pytest.raises(NotTrained, match=r"format 1\.1 is not 1\.3; run 'shopsight train embedding'"):
            embedding.export(workspace, CONFIG)
    finally:
        write_json(path, state)


def _cut_training(workspace: Workspace, config: EmbeddingConfig) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedding.train(workspace, config, lambda _: None, on_checkpoint=cut)


def test_a_training_that_was_cut_goes_on_with_its_own_settings_and_starts_anew_with_others(
    tmp_path: Path,
) -> None:
    workspace = tastes_shop(tmp_path, num_customers=30)
    said: list[str] = []
    _cut_training(workspace, CONFIG)
    embedding.train(workspace, CONFIG, said.append)
    assert any("goes on after step" in line for line in said)
    _cut_training(workspace, CONFIG)
    said.clear()
    other = replace(CONFIG, two_tower=replace(CONFIG.two_tower, temperature=0.3))
    embedding.train(workspace, other, said.append)
    assert any("starting again" in line for line in said)
    assert not any("goes on after step" in line for line in said)


def test_what_a_cut_training_left_of_other_tables_makes_room(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path, num_customers=30)
    _cut_training(workspace, CONFIG)
    with pytest.raises(NotTrained, match="no trained embedding model"):
        steps.export(workspace, Recipe(embedding=CONFIG), ["embedding"])
    ready = workspace.checkpoints / "embedding" / "under_way" / "ready.json"
    assert ready.is_file()
    event_of_the_next_day = event("c000", "Books-99", "purchase", 101.0)
    catalogue = [{"item_id": f"{c}-{n}"} for c in CATEGORIES for n in range(100)]
    rows = scan_table(workspace.tables, "events").collect()
    write_tables(
        workspace.tables,
        {
            "events": pl.concat([rows, table("events", [event_of_the_next_day])]),
            "items": table("items", catalogue),
        },
    )
    said: list[str] = []
    embedding.train(workspace, CONFIG, said.append)
    assert any("starting again" in line for line in said)
    assert not ready.exists()


def test_a_shop_without_an_early_purchase_is_told_what_it_lacks(tmp_path: Path) -> None:
    events = [event("c1", "a", "purchase", 99.0), event("c1", "b", "view", 0.0)]
    workspace = write_shop(tmp_path, events, [{"item_id": "a"}, {"item_id": "b"}])
    with pytest.raises(ValueError, match="no customer's purchase lies before"):
        embedding.train(workspace, CONFIG, lambda _: None)


def test_forgetting_leaves_nothing_of_what_customers_did(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path, num_customers=30)
    _cut_training(workspace, CONFIG)
    assert trained_rows(workspace, ["c001"])["checkpoints/embedding"] > 30
    erase_trained(workspace, ["c001"])
    assert not list((workspace.checkpoints / "embedding").rglob("*.safetensors"))
    embedding.train(workspace, CONFIG, lambda _: None)
    erase_trained(workspace, ["c002"])
    assert not list((workspace.checkpoints / "embedding").rglob("*.safetensors"))
    assert "embedding" in steps.chosen(workspace, "all", lambda _: None)  # and is trained again with all
    assert steps.as_trained(workspace, Recipe()).embedding == CONFIG
