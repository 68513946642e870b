"""Publishing: a release becomes visible completely or not at all, and can be rolled back.

Steps of a publish: claim a number; stage; run the gate; write the manifest; rename members, then routers;
replace their config.pbtxt; load members, then routers; replay the goldens; move the pointer; remove the
release before the previous one. Until the pointer moves, every step can be undone; `recover` does so after a
publisher was killed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from shopsight.serving.confined import PathRefusedError, repository_root
from shopsight.serving.contract import ContractError
from shopsight.serving.durable import flush_folder, link_file
from shopsight.serving.gate import Gate
from shopsight.serving.golden import GoldenError
from shopsight.serving.locking import lock
from shopsight.serving.one_export import ExportReplacedError, OneExport, one_export
from shopsight.serving.progress import Progress, counted, silent
from shopsight.serving.rehearsal import rehearsal_repository, remove_rehearsals
from shopsight.serving.release import (
    Pointer,
    Release,
    ReleaseError,
    current_release,
    model_folders,
    numbers,
    read_release,
    releases,
    remove_release,
    staged_folder,
    write_release,
)
from shopsight.serving.server_errors import ServerError
from shopsight.serving.staging import stage
from shopsight.serving.undo import ModelServer, activate, undo, undo_leftovers
from shopsight.serving.verify import verify_release, verify_served

__all__ = [
    "Gate",
    "PublishError",
    "Release",
    "current_release",
    "load_release",
    "publish",
    "recover",
    "releases",
    "republish",
    "rollback",
]

Rewrite = Callable[[str, Path], None]
PrivateServer = Callable[[Path], AbstractContextManager[ModelServer]]
_LOCK_FILE = ".publish.lock"
_PARALLEL_LOADS = 4
_TRIES = 5  # attempts to read the models if exports replace them


class PublishError(RuntimeError):
    """A release was not published; the message says why, and what serves instead."""


def publish(
    models_dir: Path,
    repository: Path,
    *,
    server: ModelServer | None = None,
    private: PrivateServer | None = None,
    gate: Gate | None = None,
    progress: Progress = silent,
) -> Release:
    """Publish the exported models of `models_dir` as the next release of `repository` and return it.

    All models are from one export. With a `server`, the release is loaded into it, and its goldens are
    replayed, before it becomes current. Without a running server, `private` starts one to replay the goldens;
    without `private`, the next server to start replays them. Raises PublishError, GateError or ReleaseError
    with the reason; the earlier release then continues to serve.
    """
    with only_publisher(repository):
        _undo_leftovers(repository, server, progress)
        for _ in range(_TRIES):
            with one_export(models_dir) as export:
                try:
                    with export.read():
                        sources = model_folders(models_dir)
                    return _make_current(
                        repository, sources, server, gate or Gate(), progress, private=private, export=export
                    )
                except ExportReplacedError as error:
                    progress(f"{error}; reading the models again")
        raise PublishError(f"{models_dir} is exported again and again; publish when the exports have ended")


def rollback(
    repository: Path,
    release: int | None = None,
    *,
    server: ModelServer | None = None,
    private: PrivateServer | None = None,
    progress: Progress = silent,
) -> Release:
    """Publish the files of an earlier release, by default the previous one, as a new release; return it.

    Raises ReleaseError if that release is no longer kept, otherwise as `publish`.
    """
    with only_publisher(repository):
        _undo_leftovers(repository, server, progress)
        current = current_release(repository)
        number = release if release is not None else current.previous if current else None
        if current is None or number is None:
            raise ReleaseError(f"{repository} has no earlier release to go back to")
        if number == current.number:
            raise ReleaseError(f"release {number} is the current one; name an earlier one")
        pins = read_release(repository, number)
        verify_release(repository, pins)
        folders = {name: pins.folder(repository, name) for name in pins.models}
        return _make_current(repository, folders, server, Gate(), progress, private=private, pins=number)


def republish(
    repository: Path,
    rewrite: Rewrite,
    *,
    server: ModelServer | None = None,
    progress: Progress = silent,
) -> list[Release]:
    """Publish the kept releases again with rewritten files, oldest first, and delete the old files.

    `rewrite(model, folder)` changes a copy of a model's released files; it must replace files, never write
    into them, and update the contract. A rollback stays possible: a single release is published twice. A
    running server loads only the last one. Returns the new releases, empty if nothing was published. Raises
    as `publish`; it can then be called again.
    """
    with only_publisher(repository):
        _undo_leftovers(repository, server, progress)
        kept = releases(repository)
        made = []
        for source, told in ((kept[-1], None), (kept[0], server)) if kept else ():
            with tempfile.TemporaryDirectory(dir=repository.parent, prefix=".rewritten-") as scratch:
                folders = _copies(repository, source, Path(scratch))
                for name, folder in folders.items():
                    rewrite(name, folder)
                made.append(_make_current(repository, folders, told, Gate(), progress, pins=source.number))
        return made


def _copies(repository: Path, release: Release, scratch: Path) -> dict[str, Path]:
    for name, model in release.models.items():
        for entry in model.files:
            link_file(release.folder(repository, name) / entry.path, scratch / name / entry.path)
    return {name: scratch / name for name in release.models}


def recover(repository: Path, server: ModelServer | None = None, progress: Progress = silent) -> None:
    """Undo what a killed publisher left; with a server, also load the current release into it again."""
    with only_publisher(repository):
        _undo_leftovers(repository, server, progress)


def _undo_leftovers(repository: Path, server: ModelServer | None, progress: Progress) -> None:
    remove_rehearsals(repository)
    undo_leftovers(repository, server, progress)


def load_release(repository: Path, release: Release, server: ModelServer, progress: Progress = silent) -> int:
    """Verify a release, load it into a server, members first, and replay its goldens.

    Returns the number of goldens. Raises ReleaseError, ServerError or GoldenError.
    """
    verify_served(repository, release)
    return _load(repository, release, server, progress)


def _load(repository: Path, release: Release, server: ModelServer, progress: Progress) -> int:
    with counted(progress, "loading models", len(release.models)) as done:
        for level in release.levels():
            progress(f"loading {', '.join(level)}")
            with ThreadPoolExecutor(_PARALLEL_LOADS) as pool:
                for _ in pool.map(server.load, level):
                    done(1)
    asked = server.replay(repository, release)
    progress(f"replayed {asked} golden requests")
    return asked


def _make_current(
    repository: Path,
    sources: Mapping[str, Path],
    server: ModelServer | None,
    gate: Gate,
    progress: Progress,
    private: PrivateServer | None = None,
    export: OneExport | None = None,
    pins: int | None = None,
) -> Release:
    twin = private if server is None else server.twin
    pointer = Pointer.read(repository)
    previous = current_release(repository)
    number = pointer.last_number + 1
    loaded = False
    try:
        _refuse_foreign(repository, sources, previous)
        replace(pointer, last_number=number).write(repository)
        progress(f"staging release {number}: {', '.join(sources)}")
        lasting = _undamaged(repository, previous, progress)
        with nullcontext() if export is None else export.read():
            release = stage(repository, number, sources, previous, lasting, pins)
        gate.check(repository, release)
        if twin is not None:
            _rehearse(repository, release, twin, progress)
        manifests = {str(number): write_release(repository, release)}
        if previous is not None:
            manifests[str(previous.number)] = pointer.manifests[str(previous.number)]
        _show(repository, release)
        verify_served(repository, release)
        if server is not None:
            loaded = True
            _load(repository, release, server, progress)
        made = Pointer(number, number, manifests, rehearsed=twin is not None)
        made.write(repository)
    except BaseException as error:
        undo(repository, number, previous, server if loaded else None, progress)
        if isinstance(error, GoldenError | ServerError | OSError):
            kept = f"release {previous.number} serves as before" if previous else "nothing was published"
            raise PublishError(f"release {number} was not published: {error}; {kept}") from error
        raise
    _remove_older(repository, release, previous, server, progress)
    progress(f"release {number} is current")
    return release


def _rehearse(repository: Path, release: Release, twin: PrivateServer, progress: Progress) -> None:
    """Load the staged release into a private server and replay its goldens there."""
    progress(f"rehearsing release {release.number} in a private server")
    with rehearsal_repository(repository, release) as folder, twin(folder) as private:
        _load(folder, release, private, progress)


def _undamaged(repository: Path, previous: Release | None, progress: Progress) -> Release | None:
    """Return the previous release if its files are intact; otherwise it is neither linked to nor loaded."""
    if previous is None:
        return None
    try:
        verify_release(repository, previous)
        return previous
    except (ReleaseError, PathRefusedError, ContractError) as error:
        progress(f"release {previous.number} is damaged and is not served beside the new one: {error}")
        return None


def _show(repository: Path, release: Release) -> None:
    """Rename the staged models into place, members first, then replace their configs."""
    order = [name for level in release.levels() for name in level]
    for name in order:
        target = release.folder(repository, name)
        staged_folder(repository, name).rename(target)
        flush_folder(target.parent)
    flush_folder(repository)
    for name in order:
        activate(repository, release, name)


def _remove_older(
    repository: Path,
    release: Release,
    previous: Release | None,
    server: ModelServer | None,
    progress: Progress,
) -> None:
    """Unload and remove what is no longer served; the release stays current even if this fails."""
    if server is not None and previous is not None:
        for name in sorted(previous.models.keys() - release.models.keys()):
            try:
                server.unload(name)
            except (ServerError, OSError) as error:
                progress(f"{name}, which release {release.number} does not have, is still loaded: {error}")
    for number in numbers(repository):
        if number not in (release.number, release.previous):
            try:
                remove_release(repository, number)
            except (ReleaseError, OSError) as error:
                progress(f"release {number} is not removed: {error}; the next publish tries again")


def _refuse_foreign(repository: Path, sources: Mapping[str, Path], previous: Release | None) -> None:
    ours = set(previous.models) if previous else set()
    for name in sources.keys() - ours:
        if (repository / name).exists() and not _is_ours(repository, name):
            raise ReleaseError(
                f"{repository / name} was not published by shopsight; move it away or use another repository"
            )


def _is_ours(repository: Path, name: str) -> bool:
    return any(name in release.models for release in releases(repository))


@contextmanager
def only_publisher(repository: Path) -> Iterator[None]:
    """Hold the repository's lock; the kernel releases it when the process ends for any reason."""
    try:
        repository_root(repository).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(repository / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise PublishError(
            f"{repository} cannot be written ({error.strerror}); name a repository that you may write"
        ) from error
    try:
        try:
            lock(descriptor, repository, wait=False)
        except BlockingIOError as error:
            raise PublishError(
                f"another publish of {repository} is running; wait until it has finished"
            ) from error
        yield
    finally:
        os.close(descriptor)
