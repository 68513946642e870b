"""From tables to towers and ranker: epochs chosen on one window, judged on the next, fitted to everything.

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

from serving.contract import METRICS_FILE, read_json, write_json
from training.checkpoints import NotTrained, folder_of
from training.data.tables import snapshot_sha256
from training.recommend.embedding.config import EmbeddingConfig, config_from
from training.recommend.embedding.examples import Examples
from training.recommend.embedding.fitting import EpochReport, fit
from training.recommend.embedding.group import Group, process_group
from training.recommend.embedding.measuring import measure, ranker_task, shop_of
from training.recommend.embedding.retrieval_task import TwoTowerTask
from training.recommend.embedding.shop_examples import read_asked, write_asked, write_shop_examples
from training.recommend.judging import Judge
from training.workspace import Workspace

FAMILY = "embedding"
FORMAT_VERSION = 2  # 1: the dense layers read embeddings in the order of the sharding plan
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
            task = ranker_task(fits, name, config, data)
            fit(task, config.ranker.loop, fits / f"ranker-{name}", **hooks)
        metrics: dict[str, Any] = _first_alone(
            group, lambda: _finish(workspace, config, fits, chosen.best_epochs)
        )
        return metrics


def evaluate(workspace: Workspace, config: EmbeddingConfig) -> dict[str, Any]:
    """Measure the trained towers again and rewrite their metrics; raises NotTrained as `load_state` does."""
    folder, state = load_state(workspace)
    fixed = config_from(EmbeddingConfig, state["config"])
    trained = replace(fixed, k=config.k, num_bootstraps=config.num_bootstraps)
    metrics = measure(workspace, trained, folder, state["epochs"])
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
    if state.get("format_version") != FORMAT_VERSION:
        raise NotTrained(
            f"{folder / _STATE}: format_version is {state.get('format_version')}, expected {FORMAT_VERSION}; "
            "in format 1 the layers read the embeddings in the order in which the tables were sharded, and "
            "were measured and served in another; run 'shopsight train embedding' again"
        )
    if state["data_sha256"] != snapshot_sha256(workspace.tables):
        raise NotTrained(
            f"{workspace.tables} changed since the embedding model was trained; "
            "run 'shopsight train embedding' again"
        )
    return folder, state


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
    metrics = measure(workspace, config, fits, epochs)
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
