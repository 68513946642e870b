"""Train towers and ranker: choose epochs on one window, evaluate on the next, then fit to all events.

Every worker of a process group calls `train`; what is done once, the first of them does while the others
wait. Examples and checkpoints of each fit lie in the folder of what is under way, so that a killed training
goes on where it was; the files of the trained state are these very files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shopsight.serving.contract import read_json
from shopsight.serving.durable import write_text
from shopsight.serving.progress import Progress
from shopsight.training.artifacts.folders import link_tree
from shopsight.training.artifacts.plain_settings import config_from
from shopsight.training.artifacts.snapshots import on_one_snapshot, snapshot_sha256
from shopsight.training.artifacts.trained_state import TrainedState, Training, opened, training, write_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.embedding import checkpoint
from shopsight.training.recommend.embedding.config import EmbeddingConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.fitting import EpochReport, decisive, fit
from shopsight.training.recommend.embedding.group import process_group
from shopsight.training.recommend.embedding.measuring import measure, ranker_task, shop_of
from shopsight.training.recommend.embedding.retrieval_task import TwoTowerTask
from shopsight.training.recommend.embedding.shop_examples import read_asked, write_asked, write_shop_examples
from shopsight.training.recommend.evaluator import Evaluator

FAMILY = "embedding"
FORMAT_VERSION = 3  # 1: the dense layers read embeddings in the order of the sharding plan
ITEMS_FILE = "items.parquet"
_READY = "ready.json"
_FITS = ("chosen", "judged", "final")


def train(
    workspace: Workspace,
    config: EmbeddingConfig,
    progress: Progress,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    on_checkpoint: Callable[[Path, int], None] = lambda _, __: None,
) -> dict[str, Any]:
    """Train on everything in the tables; returns the test figures, on every worker. Collective.

    A training that was cut goes on where it was, on any number of workers, unless tables or settings changed
    since. Raises NoInteractions when no event ties a customer to an item, Busy when another process trains.
    """
    with process_group() as group, ExitStack() as stack:
        run = group.first_alone(lambda: stack.enter_context(training(workspace, FAMILY)))
        fits, data = run.under_way, run.data_sha256
        group.first_alone(lambda: prepare(workspace, config, fits, progress))
        hooks: dict[str, Any] = {"progress": progress, "on_epoch": on_epoch, "on_checkpoint": on_checkpoint}
        chosen = fit(task(fits, "chosen", config, data), config.two_tower.loop, fits / "chosen", **hooks)
        loop = replace(config.two_tower.loop, epochs=chosen.best_epochs, patience=0)
        for name in ("judged", "final"):
            fit(task(fits, name, config, data), loop, fits / name, **hooks)
            ranking = ranker_task(fits, name, config, data)
            fit(ranking, config.ranker.loop, fits / f"ranker-{name}", **hooks)
        metrics: dict[str, Any] = group.first_alone(lambda: _finish(run, config, chosen.best_epochs))
        return metrics


@on_one_snapshot
def evaluate(workspace: Workspace, config: EmbeddingConfig) -> dict[str, Any]:
    """Measure the trained towers again and store their metrics; raises NotTrained as `current` does."""
    with current(workspace) as state:
        fixed = config_from(EmbeddingConfig, state.config)
        trained = replace(fixed, k=config.k, num_bootstraps=config.num_bootstraps)
        metrics = measure(workspace, trained, state.folder, state.facts["epochs"])
        write_metrics(workspace, state, metrics)
    return metrics


@contextmanager
def current(workspace: Workspace) -> Iterator[TrainedState]:
    """Keep the state of the last finished training for the block.

    Raises NotTrained when there is none, or when the tables changed since; StateDamaged naming a file.
    """
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        state.require_present_tables(workspace)
        yield state


def prepare(workspace: Workspace, config: EmbeddingConfig, fits: Path, progress: Progress) -> None:
    """Write what all workers read; remove files of an interrupted training on other tables or settings."""
    about = _about(workspace, config)
    if (fits / _READY).is_file():
        if read_json(fits / _READY) == about:
            return
        progress("the checkpoint of an interrupted training is of other tables or settings: starting again")
    shutil.rmtree(fits, ignore_errors=True)
    shop = shop_of(workspace, config)
    cut = shop.windows
    for name, before in zip(_FITS, (cut.validation, cut.test, cut.end), strict=True):
        write_shop_examples(fits / f"examples-{name}", shop, before, config.features)
    evaluator = Evaluator.of(shop, shop.user_items(cut.validation), cut.validation, cut.test)
    write_asked(fits / "asked", evaluator)
    shop.known.item_ids.to_frame("item_id").write_parquet(fits / ITEMS_FILE)
    write_text(fits / _READY, json.dumps(about, sort_keys=True))


def _about(workspace: Workspace, config: EmbeddingConfig) -> dict[str, Any]:
    """Return what determines the result of the fits: a training resumes only if all of it is equal."""
    settings = {n: v for n, v in asdict(config).items() if n not in ("item_dtype", "num_bootstraps")}
    for name in ("two_tower", "ranker"):
        settings[name]["loop"] = decisive(getattr(config, name).loop)
    about = {"data_sha256": snapshot_sha256(workspace.tables), "format_version": checkpoint.FORMAT_VERSION}
    found: dict[str, Any] = json.loads(json.dumps(about | settings))
    return found


def task(fits: Path, name: str, config: EmbeddingConfig, data_sha256: str) -> TwoTowerTask:
    """Return the task of one of a training's towers."""
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


def _finish(run: Training, config: EmbeddingConfig, epochs: int) -> dict[str, Any]:
    """Evaluate the models and replace the earlier training."""
    metrics = measure(run.workspace, config, run.under_way, epochs)
    with run.saved(FORMAT_VERSION, asdict(config), {"epochs": epochs}, metrics) as folder:
        link_tree(run.under_way, folder)
    return metrics
