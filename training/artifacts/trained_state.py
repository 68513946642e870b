"""The trained state of a family of models: weights, settings, hash of the training data, and metrics.

    checkpoints/<family>/state.json        the pointer: folder and SHA-256 of every file of the weights, the
                                           settings, the hash of the tables that were read, facts, metrics
    checkpoints/<family>/weights-<any>/    the files; they never change
    checkpoints/<family>/under_way/        what a training that is under way goes on from after a kill
    checkpoints/.<family>.lock             which process trains

A training writes a new folder and then renames `state.json`, so that a kill at any moment leaves the last
state intact. Metrics are in the same file as the names of the weights, so that they always belong together.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shopsight.serving.contract import read_json, sha256_of
from shopsight.serving.durable import flush_folder, write_text
from shopsight.serving.forgotten import Forgotten
from shopsight.training.artifacts.folders import flush_files, link_tree
from shopsight.training.artifacts.locks import exclusive, reading, remove_unread, take_shared
from shopsight.training.artifacts.snapshots import one_snapshot, snapshot_sha256
from shopsight.training.artifacts.workspace import Workspace

FORMAT_VERSION = 1
STATE_FILE = "state.json"
_UNDER_WAY = "under_way"
_WEIGHTS = "weights-"
_TRIES = 100  # attempts to read the pointer while trainings end


class NotTrained(ValueError):  # noqa: N818 - reads as what happened
    """A family has no trained model, or one of another format version or other tables."""


class StateDamaged(ValueError):  # noqa: N818 - reads as what happened
    """A file of a trained model is missing or was changed."""


@dataclass(frozen=True)
class StateFile:
    """One file of the weights: its path below their folder, its hash and its size."""

    path: str
    sha256: str
    size_bytes: int

    @staticmethod
    def of(folder: Path, path: str) -> StateFile:
        """Describe a file as it is now."""
        return StateFile(path, sha256_of(folder / path), (folder / path).stat().st_size)


@dataclass(frozen=True)
class TrainedState:
    """A trained model on disk.

    folder: its files, read-only. config: the settings of the training. data_sha256: hash of the snapshot of
    tables. facts: further data of the family, JSON. metrics: metrics of these weights, empty until they are
    measured. version: version of the family's format.
    """

    family: str
    folder: Path
    version: int
    config: dict[str, Any]
    data_sha256: str
    facts: dict[str, Any]
    metrics: dict[str, Any]
    files: tuple[StateFile, ...]

    @property
    def weights_sha256(self) -> str:
        """The hash over all files; equal weights have equal hashes."""
        content = sorted((entry.path, entry.sha256) for entry in self.files)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def require_present_tables(self, workspace: Workspace) -> None:
        """Raise NotTrained if the tables changed since the model was trained."""
        if self.data_sha256 != snapshot_sha256(workspace.tables):
            raise NotTrained(
                f"{workspace.tables} changed since {self.family} was trained; "
                f"run 'shopsight train {self.family}'"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `state.json`."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "files"}
        plain |= {"folder": self.folder.name, "files": [asdict(entry) for entry in self.files]}
        return plain | {"format_version": FORMAT_VERSION, "weights_sha256": self.weights_sha256}


def folder_of(workspace: Workspace, family: str) -> Path:
    """Return the folder of a family's trained state and of its unfinished training."""
    return workspace.checkpoints / family


def search_folder(workspace: Workspace) -> Path:
    """Return the folder of the trials of running searches; a search removes its trials at the end."""
    return workspace.checkpoints / "search"


def is_trained(workspace: Workspace, family: str, on: str = "") -> bool:
    """Return whether a training of the family was finished and its weights are not erased.

    on: the SHA-256 of a snapshot of the tables; a training on other tables does not count then.
    """
    kept = _pointer(workspace, family)
    return bool(kept.get("folder")) and on in ("", kept["data_sha256"])


def saved_config(workspace: Workspace, family: str) -> dict[str, Any] | None:
    """Return the settings of the last finished training, even if its weights were erased."""
    return _pointer(workspace, family).get("config")


def saved_metrics(workspace: Workspace, family: str) -> dict[str, Any]:
    """Return the metrics of the trained weights, empty if there are none."""
    return dict(_pointer(workspace, family).get("metrics", {}))


@contextmanager
def opened(workspace: Workspace, family: str, version: int) -> Iterator[TrainedState]:
    """Verify the trained state of a family and protect its files for the block.

    Raises NotTrained with the remedy if there is none of this version, StateDamaged naming a changed file.
    """
    state, descriptor = _held(workspace, family, version)
    try:
        _verify(state)
        yield state
    finally:
        os.close(descriptor)


def write_metrics(workspace: Workspace, measured: TrainedState, metrics: dict[str, Any]) -> None:
    """Save the metrics of a state; raises NotTrained if other weights have replaced it."""
    folder = folder_of(workspace, measured.family)
    with _changing(workspace):
        raw = _pointer(workspace, measured.family)
        if not raw.get("folder") or _state(folder, raw).weights_sha256 != measured.weights_sha256:
            raise NotTrained(
                f"{folder}: was trained again while it was measured; "
                f"run 'shopsight evaluate {measured.family}' again"
            )
        _write(folder, replace(_state(folder, raw), metrics=metrics))


@contextmanager
def training(workspace: Workspace, family: str, work: str = "train") -> Iterator[Training]:
    """Hold the training lock of a family for the block, and read one snapshot of the tables.

    Raises Busy naming the other process, TablesError without tables.
    """
    lock = workspace.checkpoints / f".{family}.lock"
    with exclusive(lock, f"{work} {family}"), one_snapshot(workspace.tables) as data_sha256:
        yield Training(workspace, family, data_sha256, Forgotten.read(workspace.root).customer_ids)


@dataclass(frozen=True)
class Training:
    """A running training; data_sha256 is the hash of the tables that it reads."""

    workspace: Workspace
    family: str
    data_sha256: str
    forgotten: frozenset[str]

    @property
    def under_way(self) -> Path:
        """The folder of the data to resume from after a kill; it is removed when the state is saved."""
        return folder_of(self.workspace, self.family) / _UNDER_WAY

    @contextmanager
    def saved(
        self, version: int, config: dict[str, Any], facts: dict[str, Any], metrics: dict[str, Any]
    ) -> Iterator[Path]:
        """Yield a folder for the files of the weights; the state is replaced when the block ends.

        Raises NotTrained if a customer was erased since the training began.
        """
        folder = folder_of(self.workspace, self.family)
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=_WEIGHTS, dir=folder))
        try:
            with reading(staging):
                yield staging
                with _changing(self.workspace):
                    self._refuse_forgotten()
                    files = _described(staging)
                    given = (version, config, self.data_sha256, facts, metrics, files)
                    _write(folder, TrainedState(self.family, staging, *given))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            self._refuse_forgotten()
            raise
        with _changing(self.workspace):
            _collect(folder, even_if_read=False)

    def _refuse_forgotten(self) -> None:
        if Forgotten.read(self.workspace.root).customer_ids != self.forgotten:
            raise NotTrained(
                f"{self.workspace.root}: somebody was forgotten while {self.family} was trained, and what "
                f"was learned with them is not kept; run 'shopsight train {self.family}' again"
            )


def rewrite(workspace: Workspace, family: str, change: Callable[[Path], None]) -> None:
    """Let `change` replace files in a copy of the weights, and replace the weights by the copy.

    All other folders of the family are removed at once, even while a process reads them. Settings, facts and
    metrics stay. Without a state nothing happens.
    """
    folder = folder_of(workspace, family)
    with _changing(workspace):
        raw = _pointer(workspace, family)
        if raw.get("folder"):
            state = _state(folder, raw)
            staging = Path(tempfile.mkdtemp(prefix=_WEIGHTS, dir=folder))
            link_tree(state.folder, staging)
            change(staging)
            _write(folder, replace(state, folder=staging, files=_described(staging)))
        _collect(folder, even_if_read=True)


def erase(workspace: Workspace, family: str) -> None:
    """Remove the weights and the unfinished training of a family at once; its settings stay."""
    folder = folder_of(workspace, family)
    with _changing(workspace):
        raw = _pointer(workspace, family)
        if raw:
            nothing: dict[str, Any] = {"folder": None, "files": [], "weights_sha256": ""}
            write_text(folder / STATE_FILE, _text(raw | nothing | {"facts": {}, "metrics": {}}))
        _collect(folder, even_if_read=True)


@contextmanager
def _changing(workspace: Workspace) -> Iterator[None]:
    with exclusive(workspace.checkpoints / ".change.lock", "change of a trained state", wait=True):
        yield


def _pointer(workspace: Workspace, family: str) -> dict[str, Any]:
    path = folder_of(workspace, family) / STATE_FILE
    return read_json(path) if path.is_file() else {}


def _held(workspace: Workspace, family: str, version: int) -> tuple[TrainedState, int]:
    """Return the current state, and the descriptor that protects its folder until it is closed."""
    folder = folder_of(workspace, family)
    for _ in range(_TRIES):
        raw = _pointer(workspace, family)
        if not raw.get("folder"):
            raise NotTrained(f"{folder}: no trained {family} model; run 'shopsight train {family}' first")
        if (raw["format_version"], raw["version"]) != (FORMAT_VERSION, version):
            raise NotTrained(
                f"{folder / STATE_FILE}: format {raw['format_version']}.{raw['version']} is not "
                f"{FORMAT_VERSION}.{version}; run 'shopsight train {family}' again"
            )
        state = _state(folder, raw)
        try:
            return state, take_shared(state.folder)
        except FileNotFoundError:  # a training has ended since, or the folder is lost
            continue
    raise StateDamaged(f"{state.folder}: missing; run 'shopsight train {family}' again")


def _state(folder: Path, raw: dict[str, Any]) -> TrainedState:
    kept = {name: raw[name] for name in TrainedState.__dataclass_fields__}
    files = tuple(StateFile(**entry) for entry in raw["files"])
    return TrainedState(**(kept | {"folder": folder / raw["folder"], "files": files}))


def _verify(state: TrainedState) -> None:
    for entry in state.files:
        path = state.folder / entry.path
        if not path.is_file() or StateFile.of(state.folder, entry.path) != entry:
            raise StateDamaged(
                f"{path}: missing, cut off or changed since it was trained; "
                f"restore it, or run 'shopsight train {state.family}' again"
            )


def _described(folder: Path) -> tuple[StateFile, ...]:
    """Flush all files to disk and return their descriptions."""
    flush_files(folder)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return tuple(StateFile.of(folder, name) for name in names)


def _write(folder: Path, state: TrainedState) -> None:
    flush_folder(folder)
    write_text(folder / STATE_FILE, _text(state.as_dict()))


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _collect(folder: Path, *, even_if_read: bool) -> None:
    """Remove all but the current state; folders that a process reads stay unless `even_if_read`."""
    if not folder.is_dir():
        return
    pointer = folder / STATE_FILE
    present = read_json(pointer).get("folder") if pointer.is_file() else None
    for path in folder.iterdir():
        if path.name in (STATE_FILE, present):
            continue
        if not path.is_dir():
            path.unlink()
        elif even_if_read:
            shutil.rmtree(path)
        else:
            remove_unread(path, shutil.rmtree)
