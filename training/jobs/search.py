"""Hyperparameter search on a cluster: Ray Tune runs the trials and stops weak ones early."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopsight.serving.durable import write_text
from shopsight.serving.progress import Progress
from shopsight.training.artifacts.locks import exclusive
from shopsight.training.artifacts.plain_settings import take_plain_values
from shopsight.training.artifacts.snapshots import snapshot_sha256
from shopsight.training.artifacts.trained_state import search_folder
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.jobs.cluster import Resources, require_room
from shopsight.training.jobs.errors import JobError, explained
from shopsight.training.jobs.launch import environment
from shopsight.training.jobs.lines import Done, heard
from shopsight.training.jobs.space import (
    Settings,
    Space,
    applied,
    as_toml,
    check_space,
    draw,
    name_of,
    searched,
)
from shopsight.training.jobs.trials import run_trial
from shopsight.training.jobs.trials_table import Trial, read_trials, write_trials
from shopsight.training.pipeline.overrides import as_dict
from shopsight.training.pipeline.recipes import Recipe

BEST = "best.toml"


@dataclass(frozen=True)
class SearchConfig:
    """Number of trials and settings of early stopping (ASHA, Li et al. 2020).

    reduction: at each rung, one in `reduction` trials continues. grace_epochs: no trial stops before.
    """

    num_trials: int = 20
    reduction: int = 3
    grace_epochs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)


def search(
    ray: Any,
    resources: Resources,
    workspace: Workspace,
    recipe: Recipe,
    family: str,
    space: Space,
    config: SearchConfig,
    progress: Progress,
) -> list[Trial]:
    """Compare settings on the validation window; returns the trials, best first.

    It writes the trials as Parquet, JSON and a figure to `searches/<family>`, and the best settings as TOML
    for `--config`. An interrupted search resumes from its trials' records. `resources.num_workers` trials run
    concurrently. Raises JobError, ConfigError for an unknown setting, Busy if another search of the family is
    running.
    """
    check_space(space, family)
    drawn = draw(space, config.num_trials, config.seed, recipe)
    require_room(ray, Resources(1, resources.cpus_per_worker, resources.use_gpu))
    out = workspace.root.absolute() / "searches" / family
    with exclusive(out.with_name(f".{family}.lock"), f"tune {family}"):
        return _search(resources, workspace, recipe, family, drawn, config, out, progress)


def _search(
    resources: Resources,
    workspace: Workspace,
    recipe: Recipe,
    family: str,
    drawn: list[Settings],
    config: SearchConfig,
    out: Path,
    progress: Progress,
) -> list[Trial]:
    settings_of_all = as_dict(recipe.of(family))
    _same_or_empty(out, {"data_sha256": snapshot_sha256(workspace.tables), "config": settings_of_all})
    progress(f"{family}: {len(drawn)} settings, {resources.num_workers} at a time, in {out}")
    shared = {
        "root": str(workspace.root.absolute()),
        "recipe": recipe,
        "family": family,
        "out": str(out),
        "num_trials": len(drawn),
    }
    with heard(progress) as say:
        errors = _tune(resources, {**shared, "say": say, "env": environment(resources)}, drawn, config)
    shutil.rmtree(search_folder(workspace) / family, ignore_errors=True)
    trials = read_trials(out, drawn, searched(family).num_epochs(recipe.of(family)), errors)
    if not trials or trials[0].best is None:
        raise JobError(f"no trial finished an epoch; the first error: {next(iter(errors.values()), 'none')}")
    write_trials(out, trials)
    best = trials[0]
    words = f"{best.metric} {best.best:.4f} on validation, trial {best.name} of {len(trials)}"
    write_text(out / BEST, as_toml(best.settings, words))
    progress(f"best {words}; next: shopsight train {family} --config {out / BEST}")
    return trials


def _tune(
    resources: Resources, shared: dict[str, Any], drawn: list[Settings], config: SearchConfig
) -> dict[str, str]:
    """Run the trials; returns errors by trial. Ray Tune's own files are pickles, and none is kept."""
    tune: Any = importlib.import_module("ray.tune")
    schedulers: Any = importlib.import_module("ray.tune.schedulers")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    wanted = {"cpu": resources.cpus_per_worker, "gpu": int(resources.use_gpu)}
    storage = tempfile.mkdtemp(prefix="shopsight-search-")
    try:
        tuner = tune.Tuner(
            tune.with_resources(_trial, wanted),
            param_space={**shared, "settings": tune.grid_search(drawn)},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                max_concurrent_trials=resources.num_workers,
                scheduler=schedulers.ASHAScheduler(
                    time_attr="epoch",
                    max_t=max(
                        2, searched(shared["family"]).num_epochs(shared["recipe"].of(shared["family"]))
                    ),
                    grace_period=config.grace_epochs,
                    reduction_factor=config.reduction,
                ),
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=resources.max_restarts),
            ),
        )
        results = tuner.fit()
        return {
            name_of(result.config["settings"]): str(explained(result.error))
            for result in results
            if result.error is not None
        }
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _trial(config: dict[str, Any]) -> None:
    os.environ.update(config["env"])  # before the libraries that read it are imported
    tune: Any = importlib.import_module("ray.tune")
    name, say = name_of(config["settings"]), config["say"]
    recipe = applied(config["recipe"], config["settings"])

    def report(epoch: int, figures: dict[str, float]) -> None:
        metric, score = next(iter(figures.items()))
        say(f"trial {name} epoch {epoch}: {metric} {score:.4f}")
        tune.report({"epoch": epoch, "score": score})

    record = Path(config["out"]) / "trials" / f"{name}.json"
    run_trial(Workspace(Path(config["root"])), recipe, config["family"], name, record, report)
    say.send(Done("trials", config["num_trials"], 1))


def _same_or_empty(out: Path, about: dict[str, Any]) -> None:
    """Remove the trials of other tables or another recipe, as they cannot be compared."""
    file = out / "search.json"
    text = json.dumps(about, sort_keys=True)
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
