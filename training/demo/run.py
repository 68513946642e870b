"""Runs the demo: makes a synthetic shop, trains, serves with Triton, and scores against the truth."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from shopsight.serving.progress import counted
from shopsight.serving.pseudonym import PseudonymKey, create_key, key_path, load_key
from shopsight.serving.terminal_progress import TerminalProgress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.demo.scores import planted_against_found
from shopsight.training.demo.stages import Stages
from shopsight.training.evaluation.planted import Row, as_records, table
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.recipes import Recipe, recipe

FORMAT_VERSION = 1
_MARKER = ".made-by-shopsight-demo"
# Shares of the time of a demo of 20,000 people on two cores; the time that is left is estimated from them.
_TRAINING_PERCENT = {"language": 42, "profiles": 12, "value": 7, "recommend": 7}


class DemoError(RuntimeError):
    """The demo cannot run in the given folder."""


@dataclass(frozen=True)
class DemoOutcome:
    """The results of the demo, the cost of each stage, and the path of the page."""

    rows: tuple[Row, ...]
    release: str
    report: Path
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every row that is judged reached its requirement."""
        return all(row.passed or not row.judged for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `demo.json`."""
        return {
            "format_version": FORMAT_VERSION,
            "passed": self.passed,
            "release": self.release,
            "report": self.report.name,
            "rows": as_records(self.rows),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "peak_bytes": self.peak_bytes,
        }


def run_demo(
    folder: Path, *, num_customers: int, seed: int, serve: bool, console: Console, quick: bool = False
) -> DemoOutcome:
    """Run all stages under `folder` and return the results; writes `workspace/demo.json`.

    `folder` gets raw/ (the files of the shop), truth/ (read only by the scoring) and workspace/. With `serve`
    a supervised server keeps running. With `quick` the recipe of that name is trained, and what needs a
    larger shop is not judged. Raises DemoError for a folder with other content, and the stages' errors.
    """
    from shopsight.serving.supervisor import start_detached

    progress, workspace = TerminalProgress(console), Workspace(folder / "workspace")
    _fresh(folder)
    with counted(progress, "demo", 100) as whole:
        stages = Stages(progress, whole)
        outcome = _all_stages(folder, workspace, num_customers, seed, stages, quick=quick)
    console.print(stages.table())
    console.print(table(outcome.rows))
    console.print(f"report page: {outcome.report}")
    if serve:
        start_detached(workspace.repository, (0, 0, 0), progress)
        _what_to_try(console, folder, workspace)
    return outcome


def _all_stages(
    folder: Path, workspace: Workspace, num_customers: int, seed: int, stages: Stages, *, quick: bool
) -> DemoOutcome:
    from shopsight.serving.repository import publish
    from shopsight.serving.server import TritonServer

    key = _demo_key(stages)
    _learn(folder, workspace, recipe("quick" if quick else "default"), key, num_customers, seed, stages)
    with stages.stage("start Triton", 0):
        workspace.repository.mkdir(parents=True, exist_ok=True)
        server = TritonServer.start(workspace.repository, key_file=key_path())
    try:
        with stages.stage("publish", 4):
            release = publish(workspace.models, workspace.repository, server=server, progress=stages.progress)
        with stages.stage("ask Triton, compare with what was planted", 5):
            rows = planted_against_found(folder / "truth", workspace, key, server, stages.progress)
            rows = [replace(row, judged=not (quick and row.needs_size)) for row in rows]
        return _write_outcome(workspace, rows, str(release.number), stages)
    finally:
        server.stop()


def _learn(
    folder: Path,
    workspace: Workspace,
    chosen: Recipe,
    key: PseudonymKey,
    num_customers: int,
    seed: int,
    stages: Stages,
) -> None:
    from shopsight.training.data.ingest import ingest
    from shopsight.training.data.shop import ShopSpec, make_shop

    with stages.stage("make a shop with planted truth", 3):
        spec = ShopSpec(num_customers=num_customers, seed=seed)
        made = make_shop(spec, folder / "raw", folder / "truth", stages.progress)
        stages.progress(f"{made.num_events:,} events, {made.raw_bytes / 1e6:.0f} MB")
    with stages.stage("ingest: clean, quarantine bad rows, join customers across channels", 12):
        ingest(folder / "raw" / "sources.toml", workspace, key, progress=stages.progress)
    names = steps.chosen(workspace, "all", stages.progress)
    for name in names:
        with stages.stage(f"train {name}", _TRAINING_PERCENT.get(name, 0)):
            steps.train(workspace, chosen, name, stages.progress)
    with stages.stage("export to ONNX with contracts and golden requests", 6):
        for path in steps.export(workspace, chosen, names, stages.progress):
            stages.progress(f"exported {path.name}")


def _fresh(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).exists():
        raise DemoError(f"{folder} holds something that the demo did not make; name another with --folder")
    for part in ("raw", "truth", "workspace"):
        shutil.rmtree(folder / part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).touch()


def _demo_key(stages: Stages) -> PseudonymKey:
    if not key_path().exists():
        stages.progress(f"made a pseudonymisation key at {create_key()}")
    return load_key()


def _write_outcome(workspace: Workspace, rows: list[Row], release: str, stages: Stages) -> DemoOutcome:
    from shopsight.training.report.page import write_report

    with stages.stage("write the report page", 2):
        report = write_report(workspace, title="A shop and its customers", planted=rows)
    outcome = DemoOutcome(tuple(rows), release, report, stages.seconds, stages.peak_bytes)
    staged = workspace.root / f".demo.json.{os.getpid()}"
    staged.write_text(json.dumps(outcome.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    staged.replace(workspace.root / "demo.json")
    return outcome


def _what_to_try(console: Console, folder: Path, workspace: Workspace) -> None:
    from shopsight.training.demo.scores import a_customer

    ask = f"shopsight ask --repository {workspace.repository}"
    customer = a_customer(folder / "truth", workspace, load_key())
    console.print("Triton keeps running. Three commands to try:", style="bold")
    console.print(f"  {ask} --customer {customer}", soft_wrap=True)
    console.print(f"  {ask} --customer {customer} --message 'where is my parcel?'", soft_wrap=True)
    console.print(f"  shopsight status --repository {workspace.repository}", soft_wrap=True)
