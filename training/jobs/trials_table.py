"""The results of a search as a table, a figure and JSON, read from the trials' records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shopsight.serving.contract import read_json
from shopsight.serving.durable import write_text
from shopsight.training.jobs.space import Settings, name_of

TABLE, EPOCHS, PICTURE, JSON = "trials.parquet", "epochs.parquet", "trials.png", "trials.json"


@dataclass(frozen=True)
class Trial:
    """Settings with their epochs and best metric; `best` is None if no epoch was finished."""

    name: str
    settings: Settings
    status: str  # finished, stopped early, failed
    epochs: int
    metric: str
    best: float | None
    best_epoch: int
    seconds: float
    curve: tuple[float, ...]
    error: str = ""


def read_trials(
    out: Path, drawn: Sequence[Settings], max_epochs: int, errors: Mapping[str, str]
) -> list[Trial]:
    """Return the trials from their records, best first."""
    trials = [_read(out, settings, max_epochs, errors.get(name_of(settings), "")) for settings in drawn]
    return sorted(trials, key=lambda trial: -1.0 if trial.best is None else trial.best, reverse=True)


def write_trials(out: Path, trials: Sequence[Trial]) -> None:
    """Write the table (Parquet with a column per setting, and JSON), the epochs and the figure."""
    import polars as pl

    rows = [
        {name: value for name, value in asdict(trial).items() if name not in ("settings", "curve")}
        | {key: _cell(value) for key, value in trial.settings.items()}
        for trial in trials
    ]
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(out / TABLE)
    pl.DataFrame(
        [
            {"name": trial.name, "epoch": epoch, "score": score}
            for trial in trials
            for epoch, score in enumerate(trial.curve, 1)
        ]
    ).write_parquet(out / EPOCHS)
    write_text(out / JSON, json.dumps([asdict(trial) for trial in trials], indent=1))
    _draw(out / PICTURE, trials)


def _read(out: Path, settings: Settings, max_epochs: int, error: str) -> Trial:
    name = name_of(settings)
    record = out / "trials" / f"{name}.json"
    epochs: list[dict[str, Any]] = read_json(record)["epochs"] if record.is_file() else []
    curve = tuple(float(next(iter(row["figures"].values()))) for row in epochs)
    best = max(curve, default=None)
    early = "finished" if epochs and epochs[-1]["epoch"] >= max_epochs else "stopped early"
    return Trial(
        name=name,
        settings=settings,
        status="failed" if error else early,
        epochs=epochs[-1]["epoch"] if epochs else 0,
        metric=next(iter(epochs[0]["figures"])) if epochs else "",
        best=best,
        best_epoch=0 if best is None else curve.index(best) + 1,
        seconds=epochs[-1]["seconds"] if epochs else 0.0,
        curve=curve,
        error=error,
    )


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _draw(path: Path, trials: Sequence[Trial]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for rank, trial in reversed(list(enumerate(trials))):
        colour, width = ("tab:blue", 2.0) if rank == 0 else ("0.6", 0.8)
        axes.plot(range(1, len(trial.curve) + 1), trial.curve, color=colour, linewidth=width, marker=".")
    axes.set_xlabel("epoch")
    axes.set_ylabel(trials[0].metric)
    axes.set_title(f"{len(trials)} trials; the best: {trials[0].name}")
    figure.savefig(path, dpi=120)
