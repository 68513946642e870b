"""A release: one number for every model in it, its files with SHA-256, and which release is current.

In a repository, beside what Triton reads (it takes every folder at the top for a model, even a hidden one,
so that only files may lie there):

    release-<n>.json          the manifest of release n
    current-release.json      which one is current, and the last number given out
    <model>/<n>/              the model's files of release n
    <model>/.staging/         those of a release that is not yet visible
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from serving.contract import CONTRACT_FILE, ContractError, FileEntry, ModelKind, read_json, sha256_of
from serving.durable import flush_folder, write_text

FORMAT_VERSION = 1
STAGING_FOLDER = ".staging"
_CURRENT_FILE = "current-release.json"


class ReleaseError(RuntimeError):
    """A release cannot be made, found or trusted; the message names the remedy."""


@dataclass(frozen=True)
class ReleasedModel:
    """One model of a release: `versions` are the releases at which it is served while this one is current."""

    kind: ModelKind
    calls: tuple[str, ...]
    versions: tuple[int, ...]
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Release:
    """A published set of models; `pins` is the release whose files a rollback published again."""

    number: int
    created_at: str
    previous: int | None
    models: Mapping[str, ReleasedModel]
    pins: int | None = None
    format_version: int = FORMAT_VERSION

    def levels(self) -> list[list[str]]:
        """Return the model names in loading order: each group calls models of earlier groups alone."""
        calls = {name: set(model.calls) for name, model in self.models.items()}
        return in_levels(calls)

    def folder(self, repository: Path, model: str) -> Path:
        """Return where a model's files of this release lie."""
        return repository / model / str(self.number)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(replace(self, models=dict(self.models)))

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Release:
        """Read what `as_dict` gave; raises KeyError or TypeError for anything else."""
        models = {
            name: ReleasedModel(
                kind=model["kind"],
                calls=tuple(model["calls"]),
                versions=tuple(model["versions"]),
                files=tuple(FileEntry(**entry) for entry in model["files"]),
            )
            for name, model in raw["models"].items()
        }
        return Release(**{**raw, "models": models})


@dataclass(frozen=True)
class Pointer:
    """Which release is current, and the last number given out: numbers are never used twice."""

    current: int | None = None
    last_number: int = 0
    format_version: int = FORMAT_VERSION

    @staticmethod
    def read(repository: Path) -> Pointer:
        """Read the pointer; a repository without one has published nothing."""
        path = repository / _CURRENT_FILE
        return Pointer(**_checked(path)) if path.exists() else Pointer()

    def write(self, repository: Path) -> None:
        """Replace the pointer in one step."""
        write_text(repository / _CURRENT_FILE, _json(asdict(self)))


def read_release(repository: Path, number: int) -> Release:
    """Read a manifest; raises ReleaseError when there is none or it is not one."""
    path = _manifest(repository, number)
    if not path.exists():
        kept = ", ".join(str(n) for n in numbers(repository)) or "none"
        raise ReleaseError(f"{repository} holds no release {number}; it holds: {kept}")
    try:
        return Release.from_dict(_checked(path))
    except (KeyError, TypeError) as error:
        raise ReleaseError(f"{path}: not a manifest ({error}); publish again") from error


def write_release(repository: Path, release: Release) -> None:
    """Write a manifest in one step."""
    write_text(_manifest(repository, release.number), _json(release.as_dict()))


def current_release(repository: Path) -> Release | None:
    """Return the current release, None when nothing was published."""
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
    found = (path.stem.removeprefix("release-") for path in repository.glob("release-*.json"))
    return sorted(int(number) for number in found if number.isdecimal())


def remove_release(repository: Path, number: int) -> None:
    """Remove a release's files, then its manifest; a kill in between leaves what a second call removes."""
    for name in read_release(repository, number).models:
        folder = repository / name
        shutil.rmtree(folder / str(number), ignore_errors=True)
        if folder.is_dir() and not any(child.name.isdecimal() for child in folder.iterdir()):
            shutil.rmtree(folder)
    _manifest(repository, number).unlink(missing_ok=True)
    flush_folder(repository)


def verify_release(repository: Path, release: Release) -> None:
    """Compare every file of a release, code and configs too, with its manifest.

    Raises ReleaseError naming the first file that is missing or differs.
    """
    for name, model in release.models.items():
        for entry in model.files:
            path = release.folder(repository, name) / entry.path
            if not path.is_file() or sha256_of(path) != entry.sha256:
                raise ReleaseError(
                    f"{path}: not what release {release.number} published; publish the models again"
                )


def in_levels(calls: Mapping[str, set[str]]) -> list[list[str]]:
    """Sort names so that each group calls names of earlier groups alone; raises ReleaseError for a circle."""
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
    """Return the exported model folders by name; raises ReleaseError when there are none."""
    found = {path.parent.name: path.parent for path in models_dir.glob(f"*/{CONTRACT_FILE}")}
    found = {name: folder for name, folder in sorted(found.items()) if not name.startswith(".")}
    if not found:
        raise ReleaseError(
            f"{models_dir} holds no exported model; run 'shopsight train' and 'shopsight export'"
        )
    return found


def staged_folder(repository: Path, model: str) -> Path:
    """Return where a model lies until its release becomes visible."""
    return repository / model / STAGING_FOLDER


def _manifest(repository: Path, number: int) -> Path:
    return repository / f"release-{number}.json"


def _checked(path: Path) -> dict[str, Any]:
    try:
        raw = read_json(path)
    except ContractError as error:
        raise ReleaseError(str(error).replace("export the model", "publish")) from error
    if raw.get("format_version") != FORMAT_VERSION:
        raise ReleaseError(
            f"{path}: format_version is {raw.get('format_version')}, this reads {FORMAT_VERSION}"
        )
    return raw


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
