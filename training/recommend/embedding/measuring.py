"""Evaluate trained models on a held-out window, and popularity for comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_matrix

from shopsight.training.artifacts.snapshots import snapshot_sha256
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.evaluation.ranking import recall_at_k
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.embedding.config import ITEM_DTYPES, EmbeddingConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.group import ALONE
from shopsight.training.recommend.embedding.item_store import restored, stored
from shopsight.training.recommend.embedding.ranker import Ranker, load_ranker
from shopsight.training.recommend.embedding.ranking_task import RankerTask
from shopsight.training.recommend.embedding.retrieval_task import Asked, TwoTowerTask
from shopsight.training.recommend.embedding.shop_examples import read_asked
from shopsight.training.recommend.embedding.two_tower import TwoTower, load_towers
from shopsight.training.recommend.evaluation import PROTOCOL
from shopsight.training.recommend.evaluator import Evaluator, Lists
from shopsight.training.recommend.shop import Shop
from shopsight.training.recommend.split import events_before, leak_report

_CHUNK = 256  # customers whose candidates are ranked at a time


def shop_of(workspace: Workspace, config: EmbeddingConfig) -> Shop:
    """What the trainings of recommenders read, cut in time as this configuration says."""
    return Shop(
        workspace,
        RecommendConfig(
            test_days=config.test_days,
            k=config.k,
            max_judged=config.max_judged,
            num_bootstraps=config.num_bootstraps,
            seed=config.two_tower.loop.seed,
        ),
    )


def towers_of(folder: Path, fit_name: str, config: EmbeddingConfig) -> tuple[TwoTower, Examples]:
    """The towers of a fit, whole and on the CPU, and the examples that they learned from."""
    examples = Examples.open(folder / f"examples-{fit_name}")
    return load_towers(TwoTower(examples.schema, config.two_tower, "cpu"), folder / fit_name), examples


def ranker_of(folder: Path, fit_name: str, config: EmbeddingConfig) -> tuple[Ranker, Examples]:
    """The ranker of a fit, whole and on the CPU, and the examples that it learned from."""
    examples = Examples.open(folder / f"examples-{fit_name}")
    model = Ranker(examples.schema, config.ranker, "cpu")
    return load_ranker(model, folder / f"ranker-{fit_name}"), examples


def ranker_task(folder: Path, name: str, config: EmbeddingConfig, data_sha256: str = "") -> RankerTask:
    """The task of one of a training's rankers."""
    examples = Examples.open(folder / f"examples-{name}")
    return RankerTask(f"ranker, {name}", examples, config.features, config.ranker, data_sha256)


def measure(workspace: Workspace, config: EmbeddingConfig, folder: Path, epochs: int) -> dict[str, Any]:
    """Return recall, NDCG and coverage on the test window, those of popularity, and of narrower vectors."""
    shop = shop_of(workspace, config)
    cut = shop.windows
    again = _bought_again(folder, config)
    evaluator = Evaluator.of(shop, shop.user_items(cut.test), cut.test, cut.end)
    customers, items, examples = _vectors(folder, "judged", config, evaluator.users)
    asked = _asked_of(evaluator, examples, again)
    draws = (shop.config.seed, config.num_bootstraps)
    lists = {
        dtype: asked.lists(customers, restored(*stored(items, dtype)), 0, len(customers))
        for dtype in ITEM_DTYPES
    }
    ours = lists[config.item_dtype]
    popular = evaluator.by_popularity(shop.popularity(cut.test), again)
    return {
        "protocol": PROTOCOL,
        "data_sha256": snapshot_sha256(workspace.tables),
        "target": shop.target,
        "test_start": cut.test.isoformat(),
        "test_end": cut.end.isoformat(),
        "bought_items_recommended_again": again,
        "num_customers": len(evaluator.users),
        "num_items": shop.known.shape[1],
        **evaluator.figures(ours, *draws),
        "popularity": evaluator.figures(popular, *draws),
        "times_popularity": evaluator.ratio(ours, popular, *draws),
        f"recall_at_{evaluator.k}_by_item_dtype": {
            dtype: evaluator.recall(found) for dtype, found in lists.items()
        },
        "ranker": evaluator.figures(_ranked(folder, config, asked, customers, items), *draws)
        | {"num_candidates": config.ranker.num_candidates},
        "leaks": leaks(shop, examples),
        "chosen": {"epochs": epochs},
    }


def leaks(shop: Shop, examples: Examples) -> dict[str, Any]:
    """Compare the events that the judged models were fitted to with those before the test window."""
    cut, known = shop.windows, shop.known
    past = events_before(shop.events, cut.test).filter(pl.col("event") != "return")
    cells = known.index(past).select("row", "column").collect()
    earlier = _counts(cells["row"].to_numpy(), cells["column"].to_numpy(), known.shape)
    trained = _counts(np.asarray(examples.customer), np.asarray(examples.item), known.shape)
    return leak_report(shop.events, shop.items, known, cut, trained, earlier)


def _counts(row: Any, column: Any, shape: tuple[int, int]) -> csr_matrix:
    return csr_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape=shape)


def _bought_again(folder: Path, config: EmbeddingConfig) -> bool:
    """Whether bought items may come again: what the validation window found better."""
    examples = Examples.open(folder / "examples-chosen")
    recall = []
    for again in (False, True):
        asked = read_asked(folder / "asked", examples.end, again)
        if not len(asked.customer):
            return False
        customers, items, _ = _vectors(folder, "chosen", config, asked.customer)
        lists: Lists = asked.lists(customers, items, 0, len(customers))
        recall.append(float(recall_at_k(lists, asked.relevant).mean()))
    return recall[1] > recall[0]


def _vectors(folder: Path, name: str, config: EmbeddingConfig, users: Any) -> tuple[Any, Any, Any]:
    """Vectors of these customers by all they did before the fit's cut, and of all items."""
    towers, examples = towers_of(folder, name, config)
    task = TwoTowerTask(name, examples, config.features, config.two_tower, data_sha256="")
    everyone = Asked(users, examples.end[users], examples.end[users + 1], relevant=None)
    customers = [part[2] for part in task.customer_vectors(towers, everyone, ALONE)]
    dim = config.two_tower.dim
    return (
        np.concatenate([*customers, np.empty((0, dim), np.float32)]),
        task.item_vectors(towers, ALONE),
        examples,
    )


def _ranked(folder: Path, config: EmbeddingConfig, asked: Asked, customers: Any, items: Any) -> Lists:
    """The towers' best candidates in the ranker's order, int32 [users, k]."""
    task = ranker_task(folder, "judged", config)
    ranker, _ = ranker_of(folder, "judged", config)
    wide = replace(asked, k=config.ranker.num_candidates)
    lists = [np.empty((0, min(asked.k, len(items))), dtype=np.int32)]
    for begin in range(0, len(customers), _CHUNK):
        rows = slice(begin, min(begin + _CHUNK, len(customers)))
        found = wide.lists(customers[rows], items, rows.start, rows.stop)
        with torch.no_grad():
            scores = task.scores(
                ranker,
                asked.begin[rows],
                asked.end[rows],
                asked.customer[rows],
                np.maximum(found, 0),
                len(found),
                ALONE,
            ).numpy()
        order = np.argsort(-np.where(found < 0, -np.inf, scores), axis=1, kind="stable")[:, : asked.k]
        lists.append(np.take_along_axis(found, order, axis=1))
    return np.concatenate(lists)


def _asked_of(evaluator: Evaluator, examples: Examples, again: bool) -> Asked:
    users = evaluator.users
    return Asked(
        customer=users,
        begin=examples.end[users],
        end=examples.end[users + 1],
        relevant=evaluator.relevant,
        hidden=None if again else evaluator.bought,
        blocked=evaluator.blocked,
        k=evaluator.k,
    )
