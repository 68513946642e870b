"""Embeddings are read by key: whatever the plan and the workers, what was trained is what is served.

A sharded collection returns its keys in the order of the plan, a whole one in that of the configuration. Each
fit here goes on from a checkpoint of one worker, and the answers of the sharded model are compared with those
of the exported graph of its weights in onnxruntime.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from shopsight.training.recommend.embedding import sharding
from shopsight.training.recommend.embedding.checkpoint import weights
from shopsight.training.recommend.embedding.config import SHARDINGS, LoopConfig, RankerConfig, TwoTowerConfig
from shopsight.training.recommend.embedding.examples import Examples, Features, write_examples
from shopsight.training.recommend.embedding.fitting import fit
from shopsight.training.recommend.embedding.graph import write_ranker_graph, write_two_tower_graph
from shopsight.training.recommend.embedding.group import ALONE, Group
from shopsight.training.recommend.embedding.inputs import customer_keys, item_keys
from shopsight.training.recommend.embedding.ranker import Ranker, load_ranker
from shopsight.training.recommend.embedding.ranking_task import RankerTask
from shopsight.training.recommend.embedding.retrieval_task import Asked, TwoTowerTask
from shopsight.training.recommend.embedding.two_tower import TwoTower, load_towers
from tests.training.recommend.embedding.small import FEATURES, LOOP, in_workers

pytest.importorskip("torchrec")
NUM_CUSTOMERS, NUM_ITEMS = 48, 60
CUSTOMER_SIZES = {"country": 4, "bucket": 40, "city": 50}  # the smallest of each is never split
ITEM_SIZES = {"category_1": 6, "category_2": 45, "brand": 52, "price": 38}
TOWERS = TwoTowerConfig(dim=64, layers=(16,), num_negatives=8, loop=LOOP)
RANKER = RankerConfig(dim=64, dense_layers=(8,), layers=(16,), num_negatives=6, loop=LOOP)
PLANS = (*SHARDINGS, "mixed-0", "mixed-1", "mixed-2")  # a mixed plan shards each table in its own way
RUNS = [(num, plan) for num, plan in product((1, 2), PLANS)] + [
    (4, plan) for plan in PLANS if "mixed" in plan
]
KINDS = ("towers", "ranker")


def _examples(folder: Path) -> Examples:
    rng = np.random.default_rng(0)
    num = NUM_CUSTOMERS * 6

    def facts(sizes: dict[str, int], rows: int) -> Features:
        codes = np.column_stack([rng.integers(0, size, rows) for size in sizes.values()]).astype(np.int32)
        return Features(tuple(sizes), tuple(sizes.values()), codes)

    write_examples(
        folder,
        customer=np.arange(num) % NUM_CUSTOMERS,
        item=rng.integers(0, NUM_ITEMS - 2, num),  # two items that nobody touched
        time=np.arange(num),
        is_target=np.ones(num, dtype=bool),
        item_ids=[f"i{number}" for number in range(NUM_ITEMS)],
        customer_features=facts(CUSTOMER_SIZES, NUM_CUSTOMERS),
        item_features=facts(ITEM_SIZES, NUM_ITEMS),
        item_buckets=FEATURES.item_buckets,
    )
    return Examples.open(folder)


def _loop(plan: str, epochs: int) -> LoopConfig:
    given = SHARDINGS if "mixed" in plan else (plan,)
    return replace(LOOP, sharding=given, epochs=epochs)


def _mixed_ways(first: int) -> Any:
    """Shards each table in a way of its own, those of few rows apart; `first` says where the round starts."""
    names = ["history", *(f"customer_{name}" for name in CUSTOMER_SIZES)]
    names += ["item", *(f"item_{name}" for name in ITEM_SIZES)]
    usual = sharding.ways_of

    def ways_of(table: Any, config: LoopConfig, world_size: int) -> list[str]:
        own = SHARDINGS[(names.index(table.name) + first) % len(SHARDINGS)]
        return usual(table, replace(config, sharding=(own,)), world_size)

    return ways_of


def _towers_answer(task: TwoTowerTask, model: Any, group: Group) -> tuple[Any, Any, list[list[str]]]:
    """Customers of this worker, their scores of all items, and the order of keys in the sharded model."""
    ends, rows = task._examples.end, np.arange(NUM_CUSTOMERS)
    items = task.item_vectors(model, group)
    ((begin, end, vectors),) = task.customer_vectors(
        model, Asked(rows, ends[:-1], ends[1:], relevant=None), group
    )
    customers = task._inputs.customers(ends[:1], ends[1:2], rows[:1], 1).to(group.device)
    with torch.no_grad():
        orders = [
            list(model.customer_tables.bags(customers).keys()),
            list(model.item_tables.bags(task._inputs.items(rows[:1], 1)).keys()),
        ]
    return rows[begin:end], vectors @ items.T, orders


def _ranker_answer(task: RankerTask, model: Any, group: Group) -> tuple[Any, Any, list[list[str]]]:
    """The same of the ranker."""
    begin, end = group.share.bounds(NUM_CUSTOMERS)
    rows, ends = np.arange(begin, end), task._examples.end
    every = np.broadcast_to(np.arange(NUM_ITEMS), (len(rows), NUM_ITEMS))
    most = group.share.most(NUM_CUSTOMERS)
    customers = task._inputs.customers(ends[:1], ends[1:2], rows[:1], 1)
    with torch.no_grad():
        scores = task.scores(model, ends[rows], ends[rows + 1], rows, every, most, group)
        orders = [
            list(model.customer_tables.bags(customers).keys()),
            list(model.item_tables.bags(task._inputs.items(rows[:1], 1)).keys()),
        ]
    return rows, scores.numpy(), orders


def _fit(kind: str, root: Path, folder: Path, plan: str, epochs: int) -> None:
    """Fit, or go on, and leave the answers of the sharded model after the last epoch beside the weights."""
    examples = Examples.open(root / "data")
    task: Any = (
        TwoTowerTask("towers", examples, FEATURES, TOWERS, data_sha256="d")
        if kind == "towers"
        else RankerTask("ranker", examples, FEATURES, RANKER, "d")
    )
    answer = _towers_answer if kind == "towers" else _ranker_answer

    def record(model: Any, group: Group) -> dict[str, float]:
        rows, scores, orders = answer(task, model.module, group)
        np.savez(folder / f"answers-{group.share.rank}.npz", rows=rows, scores=scores)
        (folder / f"orders-{group.share.rank}.json").write_text(json.dumps(orders))
        return {}

    task.validate = record
    fitted = fit(task, _loop(plan, epochs), folder)
    assert [report.epoch for report in fitted.reports] == list(range(1, epochs + 1))


def _go_on(root: Path, num_workers: int) -> None:
    """Every plan of this many workers, from the checkpoint that one worker left."""
    usual = sharding.ways_of
    for (num, plan), kind in product(RUNS, KINDS):
        if num == num_workers:
            sharding.ways_of = _mixed_ways(int(plan[-1])) if "mixed" in plan else usual
            _fit(kind, root, root / f"{kind}-{num}-{plan}", plan, epochs=2)
    sharding.ways_of = usual


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orders")
    _examples(folder / "data")
    for kind in KINDS:
        (folder / f"{kind}-first").mkdir()
        _fit(kind, folder, folder / f"{kind}-first", "table_wise", epochs=1)
        for num, plan in RUNS:
            shutil.copytree(folder / f"{kind}-first", folder / f"{kind}-{num}-{plan}")
    _go_on(folder, 1)
    for num in (2, 4):
        in_workers(num, _go_on, folder, num)
    return folder


def _told(folder: Path) -> Any:
    """What the sharded model answered, all workers together: float32 [customers, items]."""
    parts = [np.load(path) for path in sorted(folder.glob("answers-*.npz"))]
    rows = np.concatenate([part["rows"] for part in parts])
    assert sorted(rows) == list(range(NUM_CUSTOMERS))
    return np.concatenate([part["scores"] for part in parts])[np.argsort(rows)]


def _served(kind: str, root: Path, folder: Path) -> Any:
    """What the exported graph of the same weights answers, float32 [customers, items]."""
    examples, path = Examples.open(root / "data"), folder / "model.onnx"
    history = np.stack([examples.item[first:last][::-1] for first, last in pairwise(examples.end)]).astype(
        np.int64
    )
    request = {"HISTORY_ITEM": history, "CUSTOMER_FEATURE": examples.customer_feature.astype(np.int64)}
    if kind == "ranker":
        write_ranker_graph(
            load_ranker(Ranker(examples.schema, RANKER, "cpu"), folder), examples, FEATURES, path
        )
        request["CANDIDATE_ITEM"] = np.tile(np.arange(NUM_ITEMS), (NUM_CUSTOMERS, 1))
        return _session(path).run(["SCORE"], request)[0]
    towers = load_towers(TwoTower(examples.schema, TOWERS, "cpu"), folder)
    items = TwoTowerTask("towers", examples, FEATURES, TOWERS, data_sha256="d").item_vectors(towers, ALONE)
    write_two_tower_graph(towers, examples, FEATURES, items, np.zeros(NUM_ITEMS, dtype=bool), "float32", path)
    nothing = np.full((NUM_CUSTOMERS, 1), -1)
    request |= {"EXCLUDE_ITEM": nothing, "ALLOW_ITEM": nothing}
    request["K"] = np.full((NUM_CUSTOMERS, 1), NUM_ITEMS)
    index, score = _session(path).run(["ITEM_INDEX", "SCORE"], request)
    return np.take_along_axis(score, np.argsort(index, axis=1), axis=1)


def _session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num", "plan"), RUNS)
def test_what_a_sharded_model_answers_is_what_its_exported_graph_answers(
    root: Path, kind: str, num: int, plan: str
) -> None:
    folder = root / f"{kind}-{num}-{plan}"
    told = _told(folder)
    assert told.std() > 0.01
    np.testing.assert_allclose(_served(kind, root, folder), told, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num", "plan"), RUNS)
def test_every_plan_on_any_number_of_workers_trains_the_same_model(
    root: Path, kind: str, num: int, plan: str
) -> None:
    one, other = (weights(root / f"{kind}-{name}") for name in ("1-table_wise", f"{num}-{plan}"))
    assert one.keys() == other.keys()
    # A softmax over a customer's candidates does not see what is added to all of them.
    seen = [name for name in one if (kind, name) != ("ranker", "layers.2.bias")]
    assert max(float((one[name] - other[name]).abs().max()) for name in seen) < 2e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num", "plan"), [(num, plan) for num, plan in RUNS if "mixed" in plan])
def test_a_mixed_plan_has_another_order_than_the_configuration(
    root: Path, kind: str, num: int, plan: str
) -> None:
    schema = Examples.open(root / "data").schema
    configured = [customer_keys(schema), item_keys(schema)]
    for path in (root / f"{kind}-{num}-{plan}").glob("orders-*.json"):
        planned = json.loads(path.read_text())
        assert [sorted(keys) for keys in planned] == [sorted(keys) for keys in configured]
        assert all(keys != expected for keys, expected in zip(planned, configured, strict=True))
