"""What is published is one export, and a private server rehearses it before callers can ask it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving import staging
from shopsight.serving.contract import GOLDEN_FILE, ModelContract
from shopsight.serving.golden import GoldenError
from shopsight.serving.release import Pointer, Release, current_release
from shopsight.serving.repository import PublishError, publish, rollback
from shopsight.serving.supervisor import Supervisor
from tests.serving.tiny_models import TinyShop

MODELS = ("mf_retrieval", "recommend", "segment", "profile")
READS = ("file_entry", "copy_file", "is_regular_file")  # of the models, by whoever stages them


def export(seed: int, folder: Path) -> dict[str, str]:
    """Replace a folder of models as an export does; returns the SHA-256 of each data file."""
    new = TinyShop(seed=seed).write(folder.with_name("new"), MODELS)
    found = {
        f"{model}/{entry.path}": entry.sha256
        for model in MODELS
        for entry in ModelContract.read(new / model).files
    }
    if folder.exists():
        folder.rename(folder.with_name("old"))
    new.rename(folder)
    shutil.rmtree(folder.with_name("old"), ignore_errors=True)
    return found


def published(release: Release, wanted: dict[str, str]) -> dict[str, str]:
    files = {f"{n}/{e.path}": e.sha256 for n, m in release.models.items() for e in m.files}
    return {name: files.get(name, "missing") for name in wanted}


def publish_with_export(
    models: Path, repository: Path, step: int, act: Callable[[], Any]
) -> tuple[Release, int]:
    """Publish and let `act` happen before read `step`; returns the release and the number of reads."""
    reads = itertools.count()

    def watched(read: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if next(reads) == step:
                act()
            return read(*arguments, **options)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in READS:
            patch.setattr(staging, name, watched(getattr(staging, name)))
        return publish(models, repository), next(reads)


def test_an_export_that_ends_at_any_step_of_a_publish_is_published_whole_or_not(tmp_path: Path) -> None:
    models, repository = tmp_path / "models", tmp_path / "repository"
    mixed, seen, step = [], set(), 0
    while True:
        old, new = export(1, models), dict[str, str]()
        release, num_reads = publish_with_export(
            models, repository, step, lambda new=new: new.update(export(2, models))
        )
        if num_reads <= step:
            break
        given = published(release, old)
        seen.add("old" if given == old else "new")
        if given not in (old, new):
            mixed.append(step)
        shutil.rmtree(models)
        shutil.rmtree(repository)
        step += 3
    assert step > 20
    assert mixed == []
    assert "new" in seen


def test_models_that_are_exported_without_end_are_not_published(tmp_path: Path) -> None:
    models = tmp_path / "models"
    export(1, models)
    listed = Path.glob

    def replaced(folder: Path, *arguments: Any, **options: Any) -> Iterator[Path]:
        found = list(listed(folder, *arguments, **options))
        if folder == models:
            export(2, models)
        return iter(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "glob", replaced)
        with pytest.raises(PublishError, match="is exported again and again"):
            publish(models, tmp_path / "repository")
    assert current_release(tmp_path / "repository") is None
    assert publish(models, tmp_path / "repository").number >= 1


class Private:
    """Stands in for a private server that answers goldens, or does not."""

    def __init__(self, *, answers: bool) -> None:
        self.answers, self.loaded = answers, list[str]()

    @contextmanager
    def __call__(self, repository: Path) -> Iterator[Private]:
        assert (repository / "recommend").is_dir()
        yield self

    def load(self, model: str) -> None:
        self.loaded.append(model)

    def unload(self, model: str) -> None:
        raise AssertionError(model)

    def twin(self, repository: Path) -> Any:
        raise AssertionError(repository)

    def replay(self, repository: Path, release: Release) -> int:
        assert (repository / "recommend" / str(release.number)).is_dir()
        if not self.answers:
            raise GoldenError(f"recommend of release {release.number} answers wrongly")
        return len(release.models)


def test_a_release_is_rehearsed_where_no_server_runs(tmp_path: Path) -> None:
    models, repository = tmp_path / "models", tmp_path / "repository"
    export(1, models)
    with pytest.raises(PublishError, match="answers wrongly; nothing was published"):
        publish(models, repository, private=Private(answers=False))
    assert current_release(repository) is None
    private = Private(answers=True)
    publish(models, repository, private=private)
    assert sorted(private.loaded) == sorted(MODELS)
    assert Pointer.read(repository).rehearsed
    publish(models, repository)
    assert not Pointer.read(repository).rehearsed
    with pytest.raises(PublishError, match="serves as before"):
        rollback(repository, private=Private(answers=False))
    rollback(repository, private=private)
    assert Pointer.read(repository).rehearsed


@pytest.mark.triton
def test_serve_rehearses_what_was_published_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, repository = tmp_path / "models", tmp_path / "repository"
    TinyShop(seed=1).write(models, ("mf_retrieval", "recommend"))
    goldens = models / "recommend" / GOLDEN_FILE
    goldens.write_text(
        goldens.read_text(encoding="utf-8").replace("personal", "popular", 1), encoding="utf-8"
    )
    publish(models, repository)
    opened: list[int] = []
    supervisor = Supervisor(repository, (0, 0, 0), lambda _: None)
    start = supervisor._rehearse
    monkeypatch.setattr(supervisor, "_rehearse", lambda: (start(), opened.append(1)))
    with pytest.raises(GoldenError, match="REASON_CODE"):
        supervisor.start()
    assert opened == []
    assert not (repository / ".server.json").exists()
