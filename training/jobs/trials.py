"""One trial of a search: a fit that is judged after every epoch, and keeps what was said of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shopsight.serving.contract import read_json
from shopsight.serving.durable import write_text
from shopsight.training.artifacts.trained_state import search_folder
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.pipeline.recipes import Recipe

Report = Callable[[int, dict[str, float]], None]  # epochs done, and figures: the decisive one first


_NOBODY = (
    "no customer has both a past before and a target in the validation window, {:%Y-%m-%d} to {:%Y-%m-%d}; "
    "set test_days, or ingest more events"
)


class NobodyToJudge(ValueError):  # noqa: N818 - reads as what happened
    """The validation window has no customer on whom trials could be compared."""


def run_trial(
    workspace: Workspace, recipe: Recipe, family: str, name: str, record: Path, report: Report
) -> None:
    """Fit with the settings of `recipe`, reporting every epoch; `record` (JSON) keeps them as they come.

    What a record of an earlier, cut search holds is reported again without being fitted again.
    """
    history: list[dict[str, Any]] = read_json(record)["epochs"] if record.is_file() else []
    began, before = time.monotonic(), sum(row["seconds"] for row in history[-1:])
    for row in history:
        report(row["epoch"], row["figures"])

    def keep(epoch: int, figures: dict[str, float]) -> None:
        if history and epoch <= history[-1]["epoch"]:
            return
        seconds = round(before + time.monotonic() - began, 2)
        history.append({"epoch": epoch, "figures": figures, "seconds": seconds})
        record.parent.mkdir(parents=True, exist_ok=True)
        write_text(record, json.dumps({"epochs": history}))
        report(epoch, figures)

    folder = search_folder(workspace) / family / name
    last = history[-1]["epoch"] if history else 0
    if last < epochs_of(recipe, family):
        _FITS[family](workspace, recipe, folder, keep)
    shutil.rmtree(folder, ignore_errors=True)


def epochs_of(recipe: Recipe, family: str) -> int:
    """How many epochs a trial has when nothing stops it."""
    return recipe.recommend.iterations if family == "recommend" else recipe.embedding.two_tower.loop.epochs


def _factorization(workspace: Workspace, recipe: Recipe, folder: Path, keep: Report) -> None:
    from dataclasses import replace

    from shopsight.training.recommend.checkpoint import Choice
    from shopsight.training.recommend.evaluator import Judge
    from shopsight.training.recommend.shop import Shop
    from shopsight.training.recommend.trainer import fit

    config = recipe.recommend
    shop = Shop(workspace, config)
    cut = shop.windows
    past = shop.user_items(cut.validation)
    judge = Judge.of(shop, past, cut.validation, cut.test)
    if not len(judge.users):
        raise NobodyToJudge(_NOBODY.format(cut.validation, cut.test))
    choice = Choice(config.unobserved_weights[0], config.regularizations[0], False, 0.0, ())
    again = {"auto": (False, True), "yes": (True,), "no": (False,)}[config.bought_again]
    for epoch in range(1, config.iterations + 1):
        model = fit(past, choice, replace(config, iterations=epoch), checkpoint=folder)
        recall = max(judge.recall(judge.by_factors(model, one)) or 0.0 for one in again)
        keep(epoch, {f"recall_at_{judge.k}": recall})


def _towers(workspace: Workspace, recipe: Recipe, folder: Path, keep: Report) -> None:
    from shopsight.training.artifacts.snapshots import snapshot_sha256
    from shopsight.training.recommend.embedding import trainer
    from shopsight.training.recommend.embedding.fitting import fit
    from shopsight.training.recommend.embedding.measuring import shop_of

    config = recipe.embedding
    trainer.prepare(workspace, config, folder, lambda _: None)
    task = trainer.task(folder, "chosen", config, snapshot_sha256(workspace.tables))
    if not task.is_judged:
        cut = shop_of(workspace, config).windows
        raise NobodyToJudge(_NOBODY.format(cut.validation, cut.test))
    fit(task, config.two_tower.loop, folder / "chosen", on_epoch=lambda one: keep(one.epoch, one.metrics))


_FITS: dict[str, Callable[[Workspace, Recipe, Path, Report], None]] = {
    "recommend": _factorization,
    "embedding": _towers,
}
SEARCHED = tuple(_FITS)
