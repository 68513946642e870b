"""One trial of a search: a training that reports and records its metrics after every epoch."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from shopsight.serving.contract import read_json
from shopsight.serving.durable import write_text
from shopsight.training.artifacts.family import Keep
from shopsight.training.artifacts.trained_state import search_folder
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.jobs.space import searched
from shopsight.training.pipeline.recipes import Recipe


def run_trial(
    workspace: Workspace, recipe: Recipe, family: str, name: str, record: Path, report: Keep
) -> None:
    """Train with the settings of `recipe`; every epoch is reported and appended to `record` (JSON).

    Epochs in the record of an interrupted search are reported again without training.
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
    search, config = searched(family), recipe.of(family)
    if last < search.num_epochs(config):
        search.fit(workspace, config, folder, keep)
    shutil.rmtree(folder, ignore_errors=True)
