"""From tables to towers: epochs chosen on one window, judged on the next, then fitted to everything.

Every worker of a process group calls `train`; what is done once, the first of them does while the others
wait. Under `checkpoints/embedding`:

    fits/       the training that is under way: examples and checkpoints of each fit, gone on from when cut
    trained/    the last one that was finished, as `export` and `evaluate` read it
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from serving.contract import METRICS_FILE, read_json, write_json
from training.checkpoints import NotTrained, folder_of
from training.data.tables import snapshot_sha256
from training.recommend.config import RecommendConfig
from training.recommend.embedding.config import ITEM_DTYPES, EmbeddingConfig, config_from
from training.recommend.embedding.examples import Examples
from training.recommend.embedding.fitting import EpochReport, fit
from training.recommend.embedding.group import ALONE, Group, process_group
from training.recommend.embedding.item_store import restored, stored
from training.recommend.embedding.retrieval_task import Asked, TwoTowerTask
from training.recommend.embedding.shop_examples import read_asked, write_asked, write_shop_examples
from training.recommend.embedding.two_tower import TwoTower, load_towers
from training.recommend.evaluation import PROTOCOL
from training.recommend.judging import Judge, Lists
from training.recommend.metrics import recall_at_k
from training.recommend.shop import Shop
from training.recommend.split import leak_report
from training.workspace import Workspace

FAMILY = "embedding"
FORMAT_VERSION = 1
_STATE = "embedding.json"
_ITEMS = "items.parquet"
_READY = "ready.json"
_FITS = ("chosen", "judged", "final")
Progress = Callable[[str], None]


def train(
    workspace: Workspace,
    config: EmbeddingConfig,
    progress: Progress,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    on_checkpoint: Callable[[Path, int], None] = lambda _, __: None,
) -> dict[str, Any]:
    """Train on everything in the tables; returns the test figures, on every worker. Collective.

    A training that was cut goes on where it was, on any number of workers. Raises NoInteractions when no
    event ties a customer to an item, CheckpointMismatch when settings or tables changed since it was cut.
    """
    with process_group() as group:
        fits = folder_of(workspace, FAMILY) / "fits"
        _first_alone(group, lambda: _prepare(workspace, config, fits))
        hooks: dict[str, Any] = {"progress": progress, "on_epoch": on_epoch, "on_checkpoint": on_checkpoint}
        data = snapshot_sha256(workspace.tables)
        chosen = fit(_task(fits, "chosen", config, data), config.two_tower.loop, fits / "chosen", **hooks)
        loop = replace(config.two_tower.loop, epochs=chosen.best_epochs, patience=0)
        for name in ("judged", "final"):
            fit(_task(fits, name, config, data), loop, fits / name, **hooks)
        metrics: dict[str, Any] = _first_alone(
            group, lambda: _finish(workspace, config, fits, chosen.best_epochs)
        )
        return metrics


def evaluate(workspace: Workspace, config: EmbeddingConfig) -> dict[str, Any]:
    """Measure the trained towers again and rewrite their metrics; raises NotTrained as `load_state` does."""
    folder, state = load_state(workspace)
    fixed = config_from(EmbeddingConfig, state["config"])
    trained = replace(fixed, k=config.k, num_bootstraps=config.num_bootstraps)
    metrics = _measure(workspace, trained, folder, state["epochs"])
    write_json(folder / METRICS_FILE, metrics)
    return metrics


def load_state(workspace: Workspace) -> tuple[Path, dict[str, Any]]:
    """The folder and state of the last finished training.

    Raises NotTrained when there is none, or when the tables changed since.
    """
    folder = folder_of(workspace, FAMILY) / "trained"
    if not (folder / _STATE).is_file():
        raise NotTrained(f"{folder}: no trained embedding model; run 'shopsight train embedding' first")
    state = read_json(folder / _STATE)
    if state.get("format_version") != FORMAT_VERSION or state["data_sha256"] != snapshot_sha256(
        workspace.tables
    ):
        raise NotTrained(
            f"{workspace.tables} or the code changed since the embedding model was trained; "
            "run 'shopsight train embedding' again"
        )
    return folder, state


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


def _prepare(workspace: Workspace, config: EmbeddingConfig, fits: Path) -> None:
    """Write what all workers read; what a cut training wrote of the same tables is kept."""
    about: dict[str, Any] = {
        "data_sha256": snapshot_sha256(workspace.tables),
        "features": asdict(config.features),
    }
    about |= {"test_days": config.test_days, "k": config.k, "max_judged": config.max_judged}
    if (fits / _READY).is_file() and read_json(fits / _READY) == about:
        return
    shop = shop_of(workspace, config)
    cut = shop.windows
    for name, before in zip(_FITS, (cut.validation, cut.test, cut.end), strict=True):
        write_shop_examples(fits / f"examples-{name}", shop, before, config.features)
    judge = Judge.of(shop, shop.user_items(cut.validation), cut.validation, cut.test)
    write_asked(fits / "asked", judge)
    shop.known.item_ids.to_frame("item_id").write_parquet(fits / _ITEMS)
    write_json(fits / _READY, about)


def _task(fits: Path, name: str, config: EmbeddingConfig, data_sha256: str) -> TwoTowerTask:
    examples = Examples.open(fits / f"examples-{name}")
    asked = read_asked(fits / "asked", examples.end, bought_again=True) if name == "chosen" else None
    return TwoTowerTask(
        f"two towers, {name}",
        examples,
        config.features,
        config.two_tower,
        data_sha256=data_sha256,
        asked=asked,
    )


def _finish(workspace: Workspace, config: EmbeddingConfig, fits: Path, epochs: int) -> dict[str, Any]:
    """Judge, write the state and let the finished training replace the one before."""
    metrics = _measure(workspace, config, fits, epochs)
    write_json(fits / METRICS_FILE, metrics)
    state = {
        "format_version": FORMAT_VERSION,
        "data_sha256": snapshot_sha256(workspace.tables),
        "epochs": epochs,
        "config": asdict(config),
    }
    write_json(fits / _STATE, state)
    final = fits.with_name("trained")
    shutil.rmtree(final, ignore_errors=True)
    fits.rename(final)
    return metrics


def _measure(workspace: Workspace, config: EmbeddingConfig, folder: Path, epochs: int) -> dict[str, Any]:
    """Recall, ndcg and coverage on the test window beside popularity, and what narrower vectors lose."""
    shop = shop_of(workspace, config)
    cut = shop.windows
    again = _bought_again(folder, config)
    judge = Judge.of(shop, shop.user_items(cut.test), cut.test, cut.end)
    customers, items, examples = _vectors(folder, "judged", config, judge.users)
    asked = _asked_of(judge, examples, again)
    draws = (shop.config.seed, config.num_bootstraps)
    lists = {
        dtype: asked.lists(customers, restored(*stored(items, dtype)), 0, len(customers))
        for dtype in ITEM_DTYPES
    }
    ours = lists[config.item_dtype]
    popular = judge.by_popularity(shop.popularity(cut.test), again)
    return {
        "protocol": PROTOCOL,
        "data_sha256": snapshot_sha256(workspace.tables),
        "target": shop.target,
        "test_start": cut.test.isoformat(),
        "test_end": cut.end.isoformat(),
        "bought_items_recommended_again": again,
        "num_customers": len(judge.users),
        "num_items": shop.known.shape[1],
        **judge.figures(ours, *draws),
        "popularity": judge.figures(popular, *draws),
        "times_popularity": judge.ratio(ours, popular, *draws),
        f"recall_at_{judge.k}_by_item_dtype": {dtype: judge.recall(found) for dtype, found in lists.items()},
        "leaks": leak_report(shop.events, shop.items, shop.known, cut),
        "chosen": {"epochs": epochs},
    }


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


def _asked_of(judge: Judge, examples: Examples, again: bool) -> Asked:
    users = judge.users
    return Asked(
        customer=users,
        begin=examples.end[users],
        end=examples.end[users + 1],
        relevant=judge.relevant,
        hidden=None if again else judge.bought,
        blocked=judge.blocked,
        k=judge.k,
    )


def _first_alone(group: Group, work: Callable[[], Any]) -> Any:
    """What the first worker's `work` returns, on every worker; what it raises is raised on every worker."""
    result, problem = None, None
    if group.is_first:
        try:
            result = work()
        except Exception as error:  # the others wait for a word, whatever went wrong
            problem = error
    result, problem = group.from_first((result, problem))
    if problem is not None:
        raise problem
    return result
