"""Rehearsal: a private server replays the goldens of a release before callers can reach it.

Triton answers requests without a version from the highest loaded version. A release must therefore pass its
goldens before the serving server loads any part of it.
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
    """Yield a temporary repository, beside the real one, that holds only the staged release."""
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
    """Remove temporary repositories that killed publishers left beside this one."""
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
