"""A release asked its goldens by a private server before any caller can reach it.

Clients that name no version are answered by the highest version that is loaded. A release must therefore have
passed its goldens before the serving server loads any part of it.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import text_format

from shopsight.serving.durable import link_file
from shopsight.serving.forgotten import FORGOTTEN_FILE
from shopsight.serving.release import Release, staged_folder
from shopsight.serving.triton_config import CONFIG_FILE, WARMUP_FOLDER, read_config

_PREFIX = ".rehearsal-"


@contextmanager
def rehearsal_repository(repository: Path, release: Release) -> Iterator[Path]:
    """Give a repository of its own, beside the real one, in which the staged release is alone."""
    folder = Path(tempfile.mkdtemp(dir=repository.parent, prefix=f"{_PREFIX}{repository.name}-"))
    try:
        for name in release.models:
            _link_model(staged_folder(repository, name), folder / name, release.number)
        if (repository / FORGOTTEN_FILE).is_file():
            link_file(repository / FORGOTTEN_FILE, folder / FORGOTTEN_FILE)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_rehearsals(repository: Path) -> None:
    """Remove what killed publishers of this repository left beside it."""
    for folder in repository.parent.glob(f"{_PREFIX}{glob.escape(repository.name)}-*"):
        if not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _link_model(staged: Path, model: Path, number: int) -> None:
    for path in sorted(staged.rglob("*")):
        if path.is_file():
            link_file(path, model / str(number) / path.relative_to(staged))
    for path in sorted((staged / WARMUP_FOLDER).glob("*")):
        link_file(path, model / WARMUP_FOLDER / path.name)
    config = read_config(staged / CONFIG_FILE)
    config.version_policy.specific.versions[:] = [number]
    (model / CONFIG_FILE).write_text(text_format.MessageToString(config), encoding="utf-8")
