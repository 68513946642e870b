"""A release: one number for every model in it, its files with SHA-256, and which release is current.

Layout of a repository. Triton takes every folder at the top for a model, even a hidden one, so that only
files are added there:

    release-<n>.json          the manifest of release n
    current-release.json      which one is current, the last number given out, the manifests' SHA-256
    <model>/<n>/              the model's files of release n
    <model>/.staging/         those of a release that is not yet visible
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from shopsight.serving.confined import inside, is_regular_file
from shopsight.serving.contract import CONTRACT_FILE, FileEntry, ModelKind
from shopsight.serving.durable import flush_folder, write_text
from shopsight.serving.names import NameRefusedError, model_name
from shopsight.serving.typed_json import ShapeError, build, read_object

FORMAT_VERSION = 3  # routers of format 2 import `serving`, which servers no longer have
STAGING_FOLDER = ".staging"
CURRENT_FILE = "current-release.json"
_MANIFEST_NAME = re.compile(r"release-([1-9][0-9]{0,8})\.json")


class ReleaseError(RuntimeError):
    """A release cannot be made, is missing, or was altered; the message names the remedy."""


@dataclass(frozen=True)
class ReleasedModel:
    """One model of a release; `versions` are the releases whose versions are loaded while this is current."""

    kind: ModelKind
    calls: tuple[str, ...]
    versions: tuple[int, ...]
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Release:
    """A published set of models; `pins` is the release that a rollback published again."""

    number: int
    created_at: str
    previous: int | None
    models: Mapping[str, ReleasedModel]
    pins: int | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in self.models:
            model_name(name)

    def levels(self) -> list[list[str]]:
        """Return the model names in loading order: each group calls only models of earlier groups."""
        calls = {name: set(model.calls) for name, model in self.models.items()}
        return in_levels(calls)

    def folder(self, repository: Path, model: str) -> Path:
        """Return the folder of a model's files in this release; raises PathRefusedError for a link."""
        return inside(repository, model, str(self.number))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(replace(self, models=dict(self.models)))


@dataclass(frozen=True)
class Pointer:
    """The current release and the last assigned number; numbers are never reused.

    `manifests` maps the number of each kept release to the SHA-256 of its manifest. `rehearsed`: whether a
    private server has answered the golden requests of the current release. The file contains the SHA-256 of
    its own content, so that damage is detected.
    """

    current: int | None = None
    last_number: int = 0
    manifests: Mapping[str, str] = field(default_factory=dict)
    rehearsed: bool = False
    format_version: int = FORMAT_VERSION

    @staticmethod
    def read(repository: Path) -> Pointer:
        """Read the pointer; without one, nothing is published. Raises ReleaseError for a damaged one."""
        path = inside(repository, CURRENT_FILE)
        if not path.exists():
            if left := numbers(repository):
                raise ReleaseError(
                    f"{path}: missing, though {repository} holds release {left[-1]}; {_RESTORE}"
                )
            return Pointer()
        raw = _object(path, _RESTORE)
        digest = raw.pop("sha256", None)
        try:
            if digest != _sha256(_json(raw)):
                raise ShapeError("its content is not what was written")
            pointer = build(Pointer, raw)
            pointer._check()
        except ShapeError as error:
            raise ReleaseError(f"{path}: damaged ({error}); {_RESTORE}") from error
        return pointer

    def _check(self) -> None:
        current = self.current or 0
        if not 0 <= current <= self.last_number:
            raise ShapeError(f"release {current} is current, but the last number is {self.last_number}")
        if self.current is not None and str(self.current) not in self.manifests:
            raise ShapeError(f"it lacks the SHA-256 of release {self.current}")

    def write(self, repository: Path) -> None:
        """Replace the pointer in one step."""
        content = asdict(replace(self, manifests=dict(self.manifests)))
        write_text(repository / CURRENT_FILE, _json(content | {"sha256": _sha256(_json(content))}))


_RESTORE = "restore the file from a backup, or move the repository away and publish again into an empty one"
_REPUBLISH = "publish the models again"


def read_release(repository: Path, number: int) -> Release:
    """Read the manifest of a kept release; raises ReleaseError if it is missing or was altered."""
    pointer = Pointer.read(repository)
    expected = pointer.manifests.get(str(number))
    path = _manifest(repository, number)
    if expected is None:
        kept = ", ".join(sorted(pointer.manifests, key=int)) or "none"
        raise ReleaseError(f"{repository} holds no release {number}; it holds: {kept}")
    if not is_regular_file(path) or _sha256(path.read_bytes()) != expected:
        raise ReleaseError(f"{path}: missing, or not what was published; {_RESTORE}")
    return _parsed(path, number)


def read_unfinished(repository: Path, number: int) -> Release:
    """Read a manifest that the pointer does not list, of a release that is to be removed."""
    return _parsed(_manifest(repository, number), number)


def write_release(repository: Path, release: Release) -> str:
    """Write a manifest in one step and return its SHA-256."""
    text = _json(release.as_dict())
    write_text(_manifest(repository, release.number), text)
    return _sha256(text)


def current_release(repository: Path) -> Release | None:
    """Return the current release, None if nothing is published."""
    number = Pointer.read(repository).current
    return None if number is None else read_release(repository, number)


def releases(repository: Path) -> list[Release]:
    """Return the current release and the one before it, newest first."""
    current = current_release(repository)
    if current is None:
        return []
    return [current] if current.previous is None else [current, read_release(repository, current.previous)]


def numbers(repository: Path) -> list[int]:
    """Return the numbers of all manifests on disk, ascending."""
    found = (_MANIFEST_NAME.fullmatch(path.name) for path in repository.glob("release-*.json"))
    return sorted(int(match[1]) for match in found if match)


def remove_release(repository: Path, number: int) -> None:
    """Remove a release's files, then its manifest; after a kill in between, a second call finishes."""
    release = read_unfinished(repository, number)
    for name in release.models:
        folder = inside(repository, name)
        shutil.rmtree(release.folder(repository, name), ignore_errors=True)
        if folder.is_dir() and not any(child.name.isdecimal() for child in folder.iterdir()):
            shutil.rmtree(folder)
    _manifest(repository, number).unlink(missing_ok=True)
    flush_folder(repository)


def in_levels(calls: Mapping[str, set[str]]) -> list[list[str]]:
    """Sort names so that each group calls only names of earlier groups; raises ReleaseError for a cycle."""
    levels: list[list[str]] = []
    placed: set[str] = set()
    while len(placed) < len(calls):
        level = sorted(name for name in calls.keys() - placed if calls[name] & calls.keys() <= placed)
        if not level:
            raise ReleaseError(
                f"models call each other in a circle: {', '.join(sorted(calls.keys() - placed))}"
            )
        levels.append(level)
        placed.update(level)
    return levels


def model_folders(models_dir: Path) -> dict[str, Path]:
    """Return the exported model folders by name; raises ReleaseError if there are none."""
    found = {path.parent.name: path.parent for path in models_dir.glob(f"*/{CONTRACT_FILE}")}
    found = {name: folder for name, folder in sorted(found.items()) if not name.startswith(".")}
    if not found:
        raise ReleaseError(
            f"{models_dir} holds no exported model; run 'shopsight train' and 'shopsight export'"
        )
    for name, folder in found.items():
        try:
            model_name(name)
        except NameRefusedError as error:
            raise ReleaseError(f"{folder}: {error}; rename or remove the folder") from error
    return found


def staged_folder(repository: Path, model: str) -> Path:
    """Return the staging folder of a model; raises PathRefusedError for a link."""
    return inside(repository, model, STAGING_FOLDER)


def _manifest(repository: Path, number: int) -> Path:
    return inside(repository, f"release-{number}.json")


def _parsed(path: Path, number: int) -> Release:
    try:
        release = build(Release, _object(path, _REPUBLISH))
        if release.number != number:
            raise ShapeError(f"it is that of release {release.number}")
        return release
    except ShapeError as error:
        raise ReleaseError(f"{path}: not a manifest ({error}); remove it and {_REPUBLISH}") from error


def _object(path: Path, remedy: str) -> dict[str, Any]:
    try:
        raw = read_object(path)
    except (ShapeError, OSError) as error:
        raise ReleaseError(f"{path}: cannot be read ({error}); {remedy}") from error
    if raw.get("format_version") != FORMAT_VERSION:
        raise ReleaseError(
            f"{path}: format_version is {raw.get('format_version')}, this reads {FORMAT_VERSION}; "
            "move the repository away and publish again into an empty one"
        )
    return raw


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
