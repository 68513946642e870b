"""Undoes an unfinished publish: the previous release serves again."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from shopsight.serving.confined import inside
from shopsight.serving.durable import flush_folder, remove_temporaries, replace_by_link
from shopsight.serving.progress import Progress
from shopsight.serving.release import (
    Pointer,
    Release,
    ReleaseError,
    current_release,
    numbers,
    read_unfinished,
    remove_release,
)
from shopsight.serving.server_errors import ServerError
from shopsight.serving.staging import unstage
from shopsight.serving.triton_config import CONFIG_FILE, WARMUP_FOLDER


class ModelServer(Protocol):
    """Interface of a running server for publishing (serving/server.py)."""

    def load(self, model: str) -> None: ...

    def unload(self, model: str) -> None: ...

    def replay(self, repository: Path, release: Release) -> int: ...

    def twin(self, repository: Path) -> AbstractContextManager[ModelServer]: ...


def activate(repository: Path, release: Release, name: str) -> None:
    """Replace the config that Triton reads, and its warm-up data, by those of a release."""
    model, version = inside(repository, name), release.folder(repository, name)
    shown = inside(model, WARMUP_FOLDER)
    wanted = sorted((version / WARMUP_FOLDER).glob("*"))
    for source in wanted:
        shown.mkdir(exist_ok=True)
        replace_by_link(source, shown / source.name)
    replace_by_link(version / CONFIG_FILE, model / CONFIG_FILE)
    for stale in set(shown.glob("*")) - {shown / source.name for source in wanted}:
        stale.unlink()
    if shown.is_dir() and not wanted:
        shown.rmdir()
    flush_folder(model)


def undo(
    repository: Path, number: int, previous: Release | None, server: ModelServer | None, progress: Progress
) -> None:
    """Remove release `number`; the previous one serves again, its routers first."""
    unstage(repository)
    if number not in numbers(repository):
        return
    failed = read_unfinished(repository, number)
    if previous is not None:
        progress(f"taking release {number} back; release {previous.number} serves again")
        for name in previous.models:
            activate(repository, previous, name)
    if server is not None:
        try:
            _reload(failed, previous, server)
        except ServerError as error:  # the files must be right even if the server fails
            progress(f"the server did not go back ({error}); restart it with 'shopsight serve'")
    remove_release(repository, number)


def _reload(failed: Release, previous: Release | None, server: ModelServer) -> None:
    kept = {} if previous is None else previous.models
    # The routers of the failed release are unloaded first: the others then answer with their own members.
    for level in reversed(failed.levels()):
        for name in level:
            if name in kept:
                server.load(name)
            else:
                server.unload(name)


def undo_leftovers(repository: Path, server: ModelServer | None, progress: Progress) -> None:
    """Undo what a killed publisher left, and remove releases older than the kept ones."""
    unstage(repository)
    remove_temporaries(repository)
    pointer, current = Pointer.read(repository), current_release(repository)
    keep = set() if current is None else {current.number, current.previous}
    for number in reversed(numbers(repository)):
        if number in keep:
            continue
        if number > pointer.last_number:
            raise ReleaseError(
                f"{repository}/release-{number}.json: no publisher wrote it, for the last number given out "
                f"is {pointer.last_number}; remove it"
            )
        if current is None or number > current.number:
            progress(f"release {number} was left unfinished")
            undo(repository, number, current, server, progress)
        else:
            remove_release(repository, number)
