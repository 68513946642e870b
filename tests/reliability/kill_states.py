"""Kills what writes tables, trained states and models before each change to the disk, and looks at the rest.

Run as a process of its own, which forks: the victim dies without a chance to tidy up. Nothing is computed in
the parent, so that no thread is lost in a fork.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.training.artifacts import folders
from shopsight.training.artifacts.model_folders import model_folder, models_replaced
from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.artifacts.trained_state import (
    NotTrained,
    erase,
    opened,
    rewrite,
    training,
    write_metrics,
)
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import SCHEMAS, rewrite_tables, scan_table, write_tables
from tests.reliability.dying import KILLED, die_before

FAMILY, VERSION = "value", 1
_CHANGES = ("rename", "replace", "link", "mkdir", "unlink", "rmdir", "open", "fsync")


@dataclass(frozen=True)
class Verb:
    """What is killed, and what must hold afterwards; `check` raises AssertionError."""

    work: Callable[[Workspace], Any]
    check: Callable[[Workspace], Any]


def prepare(workspace: Workspace) -> None:
    """Leave tables, a measured trained state and two models, all of them called "old"."""
    ingest(workspace, "old")
    train(workspace, "old")
    evaluate(workspace)
    export(workspace, "old")


def ingest(workspace: Workspace, name: str) -> None:
    table = pl.DataFrame({column: [name, "kept"] for column in SCHEMAS["answers"]}, schema=SCHEMAS["answers"])
    write_tables(workspace.tables, {"answers": table}, note={"name": name})


def train(workspace: Workspace, name: str) -> None:
    with training(workspace, FAMILY) as run:
        run.under_way.mkdir(parents=True, exist_ok=True)
        (run.under_way / "epoch").write_text(name)
        with run.saved(VERSION, {"name": name}, {"name": name}, {}) as folder:
            (folder / "part" / "of the whole").mkdir(parents=True)
            (folder / "part" / "of the whole" / "weights").write_text(name)


def evaluate(workspace: Workspace) -> None:
    with opened(workspace, FAMILY, VERSION) as state:
        write_metrics(
            workspace, state, {"of": (state.folder / "part" / "of the whole" / "weights").read_text()}
        )


def export(workspace: Workspace, name: str) -> None:
    with models_replaced(workspace) as staged:
        for model in ("member", "router"):
            with model_folder(staged, model) as folder:
                (folder / "file").write_text(name)


def _check_tables(workspace: Workspace) -> None:
    ids = scan_table(workspace.tables, "answers").collect()["answer_id"].to_list()
    assert ids == [read_snapshot(workspace.tables)["note"]["name"], "kept"]
    assert ids[0] in ("old", "new")
    ingest(workspace, "last")
    assert scan_table(workspace.tables, "answers").collect()["answer_id"].to_list() == ["last", "kept"]


def _check_state(workspace: Workspace) -> None:
    with opened(workspace, FAMILY, VERSION) as state:
        name = (state.folder / "part" / "of the whole" / "weights").read_text()
        assert name == state.facts["name"] == state.config["name"]
        assert name in ("old", "new")
        assert state.metrics in ({}, {"of": name}), state.metrics
    evaluate(workspace)
    train(workspace, "last")
    with opened(workspace, FAMILY, VERSION) as state:
        assert state.metrics == {}
        left = sorted(path.name for path in state.folder.parent.iterdir())
        assert left == ["state.json", state.folder.name], left


def _check_models(workspace: Workspace) -> None:
    names = {path.parent.name: path.read_text() for path in workspace.models.glob("[!.]*/file")}
    assert names.keys() == {"member", "router"} and len(set(names.values())) == 1, names
    export(workspace, "last")
    _assert_nowhere(workspace, "old")


def _check_erased(workspace: Workspace) -> None:
    erase(workspace, FAMILY)
    try:
        with opened(workspace, FAMILY, VERSION):
            raise AssertionError("still trained")
    except NotTrained:
        pass
    _assert_nowhere(workspace, "old", "checkpoints/**/weights")
    train(workspace, "last")


def _replace(folder: Path) -> None:
    (folder / "part" / "of the whole" / "weights").unlink()
    (folder / "part" / "of the whole" / "weights").write_text("new")


def _check_rewritten(workspace: Workspace) -> None:
    with opened(workspace, FAMILY, VERSION) as state:
        assert state.metrics == {"of": "old"}
    rewrite(workspace, FAMILY, _replace)
    _assert_nowhere(workspace, "old", "checkpoints/**/weights")
    with opened(workspace, FAMILY, VERSION):
        pass


def _erase_rows(workspace: Workspace) -> None:
    rewrite_tables(workspace.tables, {"answers": pl.col("answer_id") != "old"})


def _check_rows(workspace: Workspace) -> None:
    ids = scan_table(workspace.tables, "answers").collect()["answer_id"].to_list()
    assert ids in (["old", "kept"], ["kept"])
    _erase_rows(workspace)
    parts = list(workspace.tables.glob("*/part-*"))
    assert [pl.read_parquet(path)["answer_id"].to_list() for path in parts] == [["kept"]]


def _assert_nowhere(workspace: Workspace, text: str, pattern: str = "**/file") -> None:
    found = [path for path in workspace.root.glob(pattern) if path.read_text() == text]
    found += [path for path in workspace.root.iterdir() if path.name.startswith(".models-")]
    assert not found, found


VERBS = {
    "ingest": Verb(lambda where: ingest(where, "new"), _check_tables),
    "erase rows": Verb(_erase_rows, _check_rows),
    "train": Verb(lambda where: train(where, "new"), _check_state),
    "evaluate": Verb(evaluate, _check_state),
    "erase": Verb(lambda where: erase(where, FAMILY), _check_erased),
    "rewrite": Verb(lambda where: rewrite(where, FAMILY, _replace), _check_rewritten),
    "export": Verb(lambda where: export(where, "new"), _check_models),
}


def kill_at_every_step(base: Path, verb: Verb) -> list[dict[str, Any]]:
    """Return for each step: whether the process was killed there, and what is wrong afterwards."""
    assert not _in_child(lambda: prepare(Workspace(base / "shop")), base / "told")
    results = []
    for step in itertools.count():
        workspace = Workspace(base / f"killed-{step}")
        shutil.copytree(base / "shop", workspace.root)
        killed = _in_child(lambda where=workspace, at=step: _die_at(at, where, verb), base / "told")
        wrong = _in_child(lambda where=workspace: verb.check(where), base / "told")
        results.append({"step": step, "killed": killed == "killed", "problem": wrong})
        shutil.rmtree(workspace.root)
        if not killed:
            return results
    raise AssertionError


def _die_at(step: int, workspace: Workspace, verb: Verb) -> None:
    watched = die_before(step, _CHANGES)
    folders._exchange = watched(folders._exchange)
    verb.work(workspace)


def _in_child(work: Callable[[], Any], told: Path) -> str:
    """Run `work` in a process of its own; returns "killed", what it raised, or nothing."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            told.write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "", KILLED: "killed", 1: told.read_text() if told.is_file() else ""}[code]


if __name__ == "__main__":
    os.fsync = lambda _: None  # a kill is not a power cut: the kernel keeps what was written
    json.dump(kill_at_every_step(Path(sys.argv[1]), VERBS[sys.argv[2]]), sys.stdout)
