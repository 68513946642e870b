"""Immutable snapshots of tables, and one pointer to the current one.

    snapshot.json                   the pointer: number and SHA-256 of the present snapshot's manifest
    snapshots/00000012.json         a manifest: every part of every table with its SHA-256
    events/part-<hash>.parquet      parts, named after their content and never changed

A commit writes new parts and a new manifest and then renames the pointer, so that a kill at any moment leaves
the last snapshot. A process that reads a snapshot holds a shared lock on its manifest until it ends. A commit
removes manifests without readers, and parts that no manifest names. One process writes at a time: the lock
file `.tables.lock` beside the folder names it, and other writers wait.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar

from shopsight.serving.durable import flush_folder, write_text
from shopsight.serving.progress import Progress, silent
from shopsight.training.artifacts.locks import exclusive, remove_unread, take_shared
from shopsight.training.artifacts.workspace import Workspace

FORMAT_VERSION = 2
SNAPSHOT_FILE = "snapshot.json"
_MANIFESTS = "snapshots"
_TRIES = 100  # attempts to read the pointer during commits

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
Manifest = dict[str, Any]


class TablesError(RuntimeError):
    """The workspace's tables are missing or do not match their manifest."""


_NOTHING: Mapping[str, Manifest] = MappingProxyType({})
_pinned: ContextVar[Mapping[str, Manifest]] = ContextVar("pinned", default=_NOTHING)
_leases: dict[Path, int] = {}  # manifest to the descriptor that keeps it until this process ends


def read_snapshot(tables: Path) -> Manifest:
    """Return the manifest of the current snapshot, or of the one that `one_snapshot` holds.

    Raises TablesError if there is none.
    """
    pinned = _pinned.get().get(os.path.realpath(tables))
    return copy.deepcopy(pinned) if pinned is not None else present(tables)[0]


@contextmanager
def one_snapshot(tables: Path) -> Iterator[str]:
    """Let the block read one snapshot only, even if others are committed; yields its hash.

    Raises TablesError if there is none.
    """
    manifest = opened(tables)
    token = _pinned.set({**_pinned.get(), os.path.realpath(tables): manifest})
    try:
        yield content_sha256(manifest)
    finally:
        _pinned.reset(token)


def on_one_snapshot(
    work: Callable[Concatenate[Workspace, Arguments], Answer],
) -> Callable[Concatenate[Workspace, Arguments], Answer]:
    """Decorate a function of a workspace so that it reads one snapshot of the tables only."""

    @wraps(work)
    def run(workspace: Workspace, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with one_snapshot(workspace.tables):
            return work(workspace, *args, **kwargs)

    return run


def snapshot_sha256(tables: Path) -> str:
    """Return the hash of the snapshot's content: equal tables give equal hashes."""
    return content_sha256(read_snapshot(tables))


@contextmanager
def writing(tables: Path, work: str, say: Progress = silent) -> Iterator[None]:
    """Hold the writer's lock on these tables for the block; reports another writer to `say` and waits."""
    with exclusive(tables.with_name(f".{tables.name}.lock"), work, wait=True, say=say):
        yield


def opened(tables: Path) -> Manifest:
    """Return the current manifest, protected with its parts until this process ends."""
    pinned = _pinned.get().get(os.path.realpath(tables))
    if pinned is not None:
        return pinned
    for _ in range(_TRIES):
        manifest, path = present(tables)
        if path is None or _keep(path):
            return manifest
    raise TablesError(f"{tables}: replaced faster than it can be read; stop the ingest that runs in a loop")


def _keep(path: Path) -> bool:
    """Protect a manifest until this process ends; returns False if a commit has removed it."""
    try:
        if path in _leases:
            if os.path.samestat(os.fstat(_leases[path]), path.stat()):
                return True
            os.close(_leases.pop(path))  # these tables were deleted as a whole and made anew
        _leases[path] = take_shared(path)
    except FileNotFoundError:
        return False
    return True


def present(tables: Path) -> tuple[Manifest, Path | None]:
    """Return the manifest that the pointer names, and its path; the path is None for an old format."""
    path = tables / SNAPSHOT_FILE
    for _ in range(_TRIES):
        if not path.is_file():
            raise TablesError(f"no tables under {tables}; run 'shopsight ingest SOURCES.toml' first")
        pointer = json.loads(path.read_text(encoding="utf-8"))
        if pointer.get("format_version") == 1:
            return pointer, None
        if pointer.get("format_version") != FORMAT_VERSION:
            raise TablesError(
                f"{path}: format_version {pointer.get('format_version')} is not {FORMAT_VERSION}"
            )
        manifest = Path(os.path.realpath(tables)) / _MANIFESTS / f"{pointer['snapshot']:08d}.json"
        try:
            content = manifest.read_bytes()
        except FileNotFoundError:  # a commit has replaced it since
            continue
        if hashlib.sha256(content).hexdigest() != pointer["sha256"]:
            raise TablesError(f"{manifest}: content differs from what {path} names; run 'shopsight ingest'")
        found: Manifest = json.loads(content)
        return found, manifest
    raise TablesError(f"{path}: names a manifest that is missing; run 'shopsight ingest SOURCES.toml'")


def content_sha256(manifest: Manifest) -> str:
    content = {n: [f["sha256"] for f in t["files"]] for n, t in manifest["tables"].items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def commit(tables: Path, manifest: Manifest) -> None:
    """Write a manifest under the next number and move the pointer to it."""
    pointer, number = tables / SNAPSHOT_FILE, 1
    if pointer.is_file():
        number += json.loads(pointer.read_text(encoding="utf-8")).get("snapshot", 0)
    for name in manifest["tables"]:
        if (tables / name).is_dir():
            flush_folder(tables / name)
    content = json.dumps(manifest | {"format_version": FORMAT_VERSION}, indent=1, sort_keys=True)
    (tables / _MANIFESTS).mkdir(exist_ok=True)
    write_text(tables / _MANIFESTS / f"{number:08d}.json", content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    named = {"format_version": FORMAT_VERSION, "snapshot": number, "sha256": digest}
    write_text(pointer, json.dumps(named, indent=1, sort_keys=True) + "\n")


def collect(tables: Path, *, even_if_read: bool) -> None:
    """Remove manifests that are neither current nor being read, unnamed parts, and unfinished files."""
    manifest, current = present(tables)
    kept = [manifest]
    for path in sorted((tables / _MANIFESTS).glob("*.json")):
        if current is not None and path.name == current.name:
            continue
        if even_if_read:
            path.unlink()
        elif not remove_unread(path, Path.unlink):
            kept.append(json.loads(path.read_text(encoding="utf-8")))
    named = {f["path"] for manifest in kept for t in manifest["tables"].values() for f in t["files"]}
    for path in tables.glob("*/part-*.parquet"):
        if str(path.relative_to(tables)) not in named:
            path.unlink()
    for path in (*tables.glob("*/.part.*"), *tables.glob(f"{_MANIFESTS}/.*.new"), *tables.glob(".*.new")):
        path.unlink()
