"""Weights, the tables they were learned from, and their metrics are one thing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.serving.forgotten import Forgotten, Tombstone
from shopsight.training.artifacts import folders, locks
from shopsight.training.artifacts.folders import replaced_folder
from shopsight.training.artifacts.locks import Busy
from shopsight.training.artifacts.snapshots import snapshot_sha256
from shopsight.training.artifacts.trained_state import (
    NotTrained,
    StateDamaged,
    Training,
    is_trained,
    opened,
    rewrite,
    saved_config,
    saved_metrics,
    training,
    write_metrics,
)
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import SCHEMAS, scan_table, write_tables

FAMILY = "profiles"


def _answers(name: str) -> dict[str, pl.DataFrame]:
    return {"answers": pl.DataFrame({c: [name] for c in SCHEMAS["answers"]}, schema=SCHEMAS["answers"])}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    write_tables(made.tables, _answers("first"))
    return made


def _save(run: Training, content: str, metrics: dict[str, Any] | None = None) -> None:
    with run.saved(1, {"seed": 1}, {"content": content}, metrics or {}) as folder:
        (folder / "weights").write_text(content)


def _train(workspace: Workspace, content: str, metrics: dict[str, Any] | None = None) -> None:
    with training(workspace, FAMILY) as run:
        _save(run, content, metrics)


def test_what_was_saved_is_read_with_the_tables_of_the_start(workspace: Workspace) -> None:
    before = snapshot_sha256(workspace.tables)
    with training(workspace, FAMILY) as run:
        write_tables(workspace.tables, _answers("while it trains"))
        assert scan_table(workspace.tables, "answers").collect()["answer_id"].to_list() == ["first"]
        _save(run, "weights")
    with opened(workspace, FAMILY, 1) as state:
        assert state.data_sha256 == before != snapshot_sha256(workspace.tables)
        assert (state.config, state.facts) == ({"seed": 1}, {"content": "weights"})
        with pytest.raises(NotTrained, match="changed since profiles was trained; run 'shopsight train"):
            state.require_present_tables(workspace)


def test_new_weights_have_no_metrics_until_they_are_measured(workspace: Workspace) -> None:
    _train(workspace, "old", {"recall": 0.9})
    assert saved_metrics(workspace, FAMILY) == {"recall": 0.9}
    _train(workspace, "new")
    assert saved_metrics(workspace, FAMILY) == {}


def test_figures_of_weights_that_were_replaced_meanwhile_are_refused(workspace: Workspace) -> None:
    _train(workspace, "old")
    with opened(workspace, FAMILY, 1) as measured:
        _train(workspace, "new")
        with pytest.raises(NotTrained, match="trained again while it was measured"):
            write_metrics(workspace, measured, {"recall": 0.9})
    assert saved_metrics(workspace, FAMILY) == {}


def test_a_reader_keeps_the_weights_that_it_opened(workspace: Workspace) -> None:
    _train(workspace, "old")
    with opened(workspace, FAMILY, 1) as state:
        _train(workspace, "new")
        assert (state.folder / "weights").read_text() == "old"
    _train(workspace, "last")
    assert len(list((workspace.checkpoints / FAMILY).glob("weights-*"))) == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
def test_a_damaged_file_is_named_with_the_remedy(
    workspace: Workspace, damage: Callable[[Path], None]
) -> None:
    _train(workspace, "weights")
    (path,) = (workspace.checkpoints / FAMILY).glob("*/weights")
    damage(path)
    with pytest.raises(StateDamaged, match=r"/weights: missing, cut off or changed.*train profiles"):
        opened(workspace, FAMILY, 1).__enter__()
    _train(workspace, "again")
    with opened(workspace, FAMILY, 1):
        pass


def test_a_lost_folder_is_damage_and_another_version_is_not_trained(workspace: Workspace) -> None:
    with pytest.raises(NotTrained, match="no trained profiles model; run 'shopsight train profiles' first"):
        opened(workspace, FAMILY, 1).__enter__()
    _train(workspace, "weights")
    with pytest.raises(NotTrained, match=r"format 1\.1 is not 1\.2; run 'shopsight train profiles' again"):
        opened(workspace, FAMILY, 2).__enter__()
    (path,) = (workspace.checkpoints / FAMILY).glob("weights-*")
    path.rename(workspace.root / "elsewhere")
    with pytest.raises(StateDamaged, match="missing; run 'shopsight train profiles' again"):
        opened(workspace, FAMILY, 1).__enter__()


def test_a_second_training_of_a_family_is_told_of_the_first(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "GRACE_SECONDS", 0.0)
    told: list[str] = []

    def second() -> None:
        try:
            _train(workspace, "second")
        except Busy as error:
            told.append(str(error))

    with training(workspace, FAMILY) as run:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        with training(workspace, "value"):  # another family may train
            _save(run, "first")
    assert "'train profiles' is under way (process" in told[0]
    with opened(workspace, FAMILY, 1) as state:
        assert state.facts == {"content": "first"}


def test_a_training_that_failed_leaves_the_state_and_what_is_under_way(workspace: Workspace) -> None:
    _train(workspace, "old")
    with suppress(ZeroDivisionError), training(workspace, FAMILY) as run:
        run.under_way.mkdir()
        (run.under_way / "epoch").touch()
        with run.saved(1, {}, {}, {}) as folder:
            (folder / "weights").write_text("half")
            raise ZeroDivisionError
    with opened(workspace, FAMILY, 1) as state:
        assert (state.folder / "weights").read_text() == "old"
    left = {path.name for path in (workspace.checkpoints / FAMILY).iterdir()}
    assert left == {"state.json", state.folder.name, "under_way"}


def test_what_a_killed_first_training_left_is_no_trained_state(workspace: Workspace) -> None:
    with training(workspace, FAMILY) as run:
        run.under_way.mkdir(parents=True)
    assert not is_trained(workspace, FAMILY)
    assert saved_config(workspace, FAMILY) is None


def test_nothing_is_saved_of_a_training_during_which_somebody_was_forgotten(workspace: Workspace) -> None:
    _train(workspace, "old")
    with training(workspace, FAMILY) as run:
        Forgotten([Tombstone(("c1",), (), "k", "2026-01-01")]).write(workspace.root)
        with pytest.raises(NotTrained, match="somebody was forgotten while profiles was trained"):
            _save(run, "with c1")
    assert not [p for p in workspace.checkpoints.rglob("weights") if p.read_text() == "with c1"]


def test_rewritten_weights_keep_settings_and_metrics_and_leave_nothing_of_the_old(
    workspace: Workspace,
) -> None:
    _train(workspace, "with c1", {"recall": 0.9})

    def without(folder: Path) -> None:
        (folder / "weights").unlink()
        (folder / "weights").write_text("without")

    with opened(workspace, FAMILY, 1):  # a reader does not keep them
        rewrite(workspace, FAMILY, without)
    with opened(workspace, FAMILY, 1) as state:
        assert (state.config, state.metrics) == ({"seed": 1}, {"recall": 0.9})
    assert [path.read_text() for path in workspace.checkpoints.rglob("weights")] == ["without"]


def test_a_folder_is_replaced_without_a_moment_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, seen = tmp_path / "models", []
    exchange = folders._exchange

    def watched(one: Path, other: Path) -> bool:
        seen.append(final.is_dir())
        done = exchange(one, other)
        seen.append(final.is_dir())
        return done

    monkeypatch.setattr(folders, "_exchange", watched)
    for content in ("old", "new"):
        with replaced_folder(final) as staging:
            (staging / "file").write_text(content)
    assert seen == [True, True]
    assert (final / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_where_folders_cannot_change_places_a_kill_between_the_renames_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    final = tmp_path / "models"
    with replaced_folder(final) as staging:
        (staging / "file").write_text("old")
    final.rename(folders._earlier(final))  # as a kill after the first of two renames leaves it
    with suppress(ZeroDivisionError), replaced_folder(final):
        raise ZeroDivisionError
    assert (final / "file").read_text() == "old"
    with replaced_folder(final) as staging:
        (staging / "file").write_text("new")
    assert (final / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
