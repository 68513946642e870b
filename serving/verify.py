"""Verifies that a repository holds what was published: each file by SHA-256, and no other file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from shopsight.serving.confined import inside, is_regular_file
from shopsight.serving.contract import FileEntry, sha256_of
from shopsight.serving.release import STAGING_FOLDER, Release, ReleaseError, numbers, read_release
from shopsight.serving.triton_config import CONFIG_FILE, WARMUP_FOLDER


def verify_release(repository: Path, release: Release) -> None:
    """Compare every file of a release, including code and configurations, with its manifest.

    Raises ReleaseError or PathRefusedError naming the first file that is missing, differs, is a link, or was
    added.
    """
    for name in release.models:
        _verify_version(repository, release, name)


def verify_served(repository: Path, release: Release) -> None:
    """Verify everything that a server loads with a release, including versions of the previous one.

    Beside the versions, a model's folder holds the configuration and the warm-up data that Triton reads; they
    must be those of the release. Raises as `verify_release`.
    """
    for name in release.models:
        verify_model(repository, release, name)


def verify_model(repository: Path, release: Release, name: str) -> None:
    """Verify what a server loads of one model with a release; raises as `verify_release`."""
    for number in {release.number, *release.models[name].versions}:
        found = release if number == release.number else read_release(repository, number)
        _verify_version(repository, found, name)
    _verify_shown(repository, release, name)


def _verify_version(repository: Path, release: Release, name: str) -> None:
    _verify_folder(release.folder(repository, name), release.models[name].files, release.number)


def _verify_shown(repository: Path, release: Release, name: str) -> None:
    """Verify the files beside a model's versions: Triton reads them, and would run a stub placed there."""
    shown = [entry for entry in release.models[name].files if _is_shown(entry.path)]
    versions = {str(number) for number in numbers(repository)}
    _verify_folder(inside(repository, name), shown, release.number, ignored=versions | {STAGING_FOLDER})


def _is_shown(path: str) -> bool:
    return path == CONFIG_FILE or path.startswith(f"{WARMUP_FOLDER}/")


def _verify_folder(
    folder: Path, entries: Sequence[FileEntry], number: int, ignored: set[str] | frozenset[str] = frozenset()
) -> None:
    expected = {entry.path: entry for entry in entries}
    found = set(_files(folder, expected, ignored))
    for path, entry in expected.items():
        where = folder / path
        if path not in found:
            raise ReleaseError(f"{where}: missing from release {number}; publish the models again")
        if where.stat().st_size != entry.size_bytes or sha256_of(where) != entry.sha256:
            raise ReleaseError(f"{where}: not what release {number} published; publish the models again")


def _files(
    folder: Path, expected: Mapping[str, FileEntry], ignored: set[str] | frozenset[str]
) -> Iterator[str]:
    """Yield the relative paths of the regular files below a folder; raises for links and other entries."""
    if not folder.is_dir():
        return
    for parent, folders, files in os.walk(folder):
        inner = Path(parent).relative_to(folder)
        if inner == Path():
            folders[:] = [name for name in folders if name not in ignored]
        for name in [*folders, *files]:
            path = (inner / name).as_posix()
            inside(folder, *path.split("/"))
            is_file = is_regular_file(folder / path)
            if (
                path not in expected
                if is_file
                else not any(known.startswith(f"{path}/") for known in expected)
            ):
                raise ReleaseError(
                    f"{folder / path}: was not published, and nothing else may lie in a release; remove it"
                )
            if is_file:
                yield path
