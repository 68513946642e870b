"""Renews stored pseudonyms to the current key after a rotation; customer ids do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from shopsight.serving.contract import CONTRACT_FILE, ModelContract, file_entry
from shopsight.serving.forgotten import FORGOTTEN_FILE, Forgotten
from shopsight.serving.progress import Progress
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.serving.release import releases
from shopsight.serving.repository import republish
from shopsight.serving.routing.arrays import load_safetensors
from shopsight.serving.routing.people import IDENTITIES_FILE
from shopsight.serving.safetensors_layout import read_metadata
from shopsight.serving.undo import ModelServer
from shopsight.training.artifacts.snapshots import SNAPSHOT_FILE, writing
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.identity.resolve import renew
from shopsight.training.data.people_files import id_matrix
from shopsight.training.data.tables import read_table, write_tables

_KEY_ID = "key_id"
_SORTED_BY = {  # as ingest writes them
    "identities": ["source", "source_id", "valid_from", "customer_id"],
    "facts": ["customer_id", "field"],
}


def renew_workspace(workspace: Workspace, key: PseudonymKey) -> dict[str, int]:
    """Renew the pseudonyms of tables, tombstones and exported models; returns how many, by place.

    Each place records its key, so that a call after a kill finishes the work, and a further call does
    nothing. Raises IngestError or PseudonymKeyError if a place has a key that `key` was not rotated from.
    """
    done = {"tables": _renew_tables(workspace, key), "tombstones": _renew_tombstones(workspace.root, key)}
    for path in sorted(workspace.models.glob(f"*/{CONTRACT_FILE}")):
        done[f"models/{path.parent.name}"] = renew_model(path.parent, key)
    return {place: num for place, num in done.items() if num}


def renew_repository(
    repository: Path, key: PseudonymKey, server: ModelServer | None, progress: Progress
) -> Sequence[int]:
    """Publish the kept releases again with renewed pseudonyms; returns the new releases' numbers.

    Nothing is published if every kept release has the current key.
    """
    _renew_tombstones(repository, key)
    folders = [r.folder(repository, name) for r in releases(repository) for name in r.models]
    if all(_made_with(folder) in (None, key.key_id) for folder in folders):
        return ()

    def rewrite(_: str, folder: Path) -> None:
        renew_model(folder, key)

    return [r.number for r in republish(repository, rewrite, server=server, progress=progress)]


def renew_model(folder: Path, key: PseudonymKey) -> int:
    """Renew the pseudonyms in a router's data file and update its contract; returns how many."""
    path, made_with = folder / IDENTITIES_FILE, _made_with(folder)
    if made_with in (None, key.key_id):
        return 0
    arrays = load_safetensors(path)
    num, width = arrays["pseudonym"].shape
    # After a kill between the two files, the pseudonyms are renewed but the contract still has the old key.
    if _noted_key(path) != key.key_id:
        old = [bytes(row).decode() for row in arrays["pseudonym"].view(f"S{width}").reshape(-1)]
        matrix = id_matrix(key.renewed(old, made_with))
        order = np.argsort(matrix.view(f"S{matrix.shape[1]}").reshape(-1))
        arrays = {"pseudonym": matrix[order], "customer_row": arrays["customer_row"][order]}
        staged = path.with_name(f".{path.name}.new")
        save_file(arrays, staged, metadata={_KEY_ID: key.key_id})
        staged.replace(path)
    contract = ModelContract.read(folder)
    files = tuple(file_entry(folder, entry.path) for entry in contract.files)
    staged_folder = folder / ".renewed"
    staged_folder.mkdir(exist_ok=True)
    preprocessing = contract.preprocessing | {_KEY_ID: key.key_id}
    replace(contract, files=files, preprocessing=preprocessing).write(staged_folder)
    (staged_folder / CONTRACT_FILE).replace(folder / CONTRACT_FILE)
    staged_folder.rmdir()
    return int(num)


def _made_with(folder: Path) -> str | None:
    """The key of a model's pseudonyms as its contract says; None where it has none."""
    if not (folder / IDENTITIES_FILE).is_file():
        return None
    return ModelContract.read(folder).preprocessing.get(_KEY_ID) or None


def _noted_key(path: Path) -> str | None:
    return read_metadata(path).get(_KEY_ID)


def _renew_tables(workspace: Workspace, key: PseudonymKey) -> int:
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return 0
    renewed, num = {}, 0
    with writing(workspace.tables, "renew pseudonyms"):
        for name, order in _SORTED_BY.items():
            old = read_table(workspace.tables, name)
            stale = int((old[_KEY_ID] != key.key_id).sum())
            if stale:
                renewed[name], num = renew(old, key).sort(order), num + stale
        if renewed:
            write_tables(workspace.tables, renewed, erase_old=True)
    return num


def _renew_tombstones(folder: Path, key: PseudonymKey) -> int:
    if not (folder / FORGOTTEN_FILE).is_file():
        return 0
    forgotten = Forgotten.read(folder)
    stale = sum(stone.key_id != key.key_id for stone in forgotten.tombstones)
    if stale:
        forgotten.renewed(key).write(folder)
    return stale
