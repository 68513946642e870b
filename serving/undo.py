"""Taking back what a publisher began: the release that served before serves again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from serving.durable import remove_temporaries, replace_by_link
from serving.release import Release, current_release, numbers, read_release, remove_release
from serving.server_errors import ServerError
from serving.staging import unstage
from serving.triton_config import CONFIG_FILE, WARMUP_FOLDER

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Show no progress."""


class ModelServer(Protocol):
    """What publishing asks of a running server (serving/server.py)."""

    @property
    def grpc_url(self) -> str: ...

    def load(self, model: str) -> None: ...

    def unload(self, model: str) -> None: ...


def activate(repository: Path, release: Release, name: str) -> None:
    """Let the config that Triton reads, and its warm-up data, be those of a release."""
    model, version = repository / name, release.folder(repository, name)
    for source in sorted((version / WARMUP_FOLDER).glob("*")):
        (model / WARMUP_FOLDER).mkdir(exist_ok=True)
        replace_by_link(source, model / WARMUP_FOLDER / source.name)
    replace_by_link(version / CONFIG_FILE, model / CONFIG_FILE)


def undo(
    repository: Path, number: int, previous: Release | None, server: ModelServer | None, progress: Progress
) -> None:
    """Take release `number` away; the previous one serves again, its routers first."""
    unstage(repository)
    if number not in numbers(repository):
        return
    failed = read_release(repository, number)
    if previous is not None:
        progress(f"taking release {number} back; release {previous.number} serves again")
        for name in previous.models:
            activate(repository, previous, name)
    if server is not None:
        try:
            _reload(failed, previous, server)
        except ServerError as error:  # what lies on disk must be right whatever becomes of the server
            progress(f"the server did not go back ({error}); restart it with 'shopsight serve'")
    remove_release(repository, number)


def _reload(failed: Release, previous: Release | None, server: ModelServer) -> None:
    kept = {} if previous is None else previous.models
    # The routers of the failed release go first: the others then answer with members that they know.
    for level in reversed(failed.levels()):
        for name in level:
            if name in kept:
                server.load(name)
            else:
                server.unload(name)


def undo_leftovers(repository: Path, server: ModelServer | None, progress: Progress) -> None:
    """Undo what a killed publisher left, and remove what lies before the kept releases."""
    unstage(repository)
    remove_temporaries(repository)
    current = current_release(repository)
    keep = set() if current is None else {current.number, current.previous}
    for number in reversed(numbers(repository)):
        if number in keep:
            continue
        if current is None or number > current.number:
            progress(f"release {number} was left unfinished")
            undo(repository, number, current, server, progress)
        else:
            remove_release(repository, number)
    if current is not None:
        for name in current.models:
            activate(repository, current, name)
