"""Releases on disk: whole or not at all, verified, reversible; no server is needed for that."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving import repository
from shopsight.serving.contract import ModelContract, sha256_of
from shopsight.serving.gate import Gate, GateError, Threshold
from shopsight.serving.release import Pointer, ReleaseError, read_release
from shopsight.serving.repository import PublishError, current_release, publish, recover, releases, rollback
from shopsight.serving.server_errors import ModelLoadError, ServerError
from shopsight.serving.triton_config import read_config
from shopsight.serving.verify import verify_release
from tests.serving.tiny_models import TinyShop

MEMBERS = ("mf_retrieval", "segment", "intent_encoder")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return TinyShop(seed=1).write(tmp_path / "models")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def republish(seed: int, models: Path, repo: Path, **options: Any) -> int:
    TinyShop(seed=seed).write(models)
    return publish(models, repo, **options).number


def state(repo: Path) -> dict[str, str]:
    """Everything that a reader of the repository can see, except the count of numbers given out."""
    seen = {str(p.relative_to(repo)): sha256_of(p) for p in sorted(repo.rglob("*")) if p.is_file()}
    for hidden in (".publish.lock", "current-release.json"):
        seen.pop(hidden, None)
    current = current_release(repo)
    return {**seen, "current": str(current.number if current else None)}


def served_versions(repo: Path, model: str) -> list[int]:
    return list(read_config(repo / model / "config.pbtxt").version_policy.specific.versions)


def test_every_model_of_a_release_carries_its_number(models: Path, repo: Path) -> None:
    release = publish(models, repo)
    assert release.number == 1
    for name in release.models:
        assert [p.name for p in (repo / name).iterdir() if p.name.isdecimal()] == ["1"]
        assert served_versions(repo, name) == [1]
    assert (repo / "recommend" / "1" / "model.py").is_file()
    verify_release(repo, current_release(repo) or release)


def test_triton_sees_no_folder_but_models(models: Path, repo: Path) -> None:
    release = publish(models, repo)
    assert {p.name for p in repo.iterdir() if p.is_dir()} == set(release.models)


def test_the_last_two_releases_stay_and_are_both_served(models: Path, repo: Path) -> None:
    publish(models, repo)
    for seed in (2, 3):
        republish(seed, models, repo)
    assert [release.number for release in releases(repo)] == [3, 2]
    for name in releases(repo)[0].models:
        assert sorted(p.name for p in (repo / name).iterdir() if p.name.isdecimal()) == ["2", "3"]
        assert served_versions(repo, name) == [2, 3]
    assert not (repo / "release-1.json").exists()


def test_an_unchanged_model_is_linked_to_the_earlier_release(models: Path, repo: Path) -> None:
    publish(models, repo)
    TinyShop(seed=2).write(models, only=("segment",))
    publish(models, repo)
    first, second = (repo / "mf_retrieval" / str(n) / "model.onnx" for n in (1, 2))
    assert first.samefile(second)
    changed = [repo / "segment" / str(n) / "model.onnx" for n in (1, 2)]
    assert not changed[0].samefile(changed[1])


def test_training_over_an_exported_model_does_not_touch_what_is_published(models: Path, repo: Path) -> None:
    release = publish(models, repo)
    for path in models.rglob("model.onnx"):
        path.write_bytes(b"training writes here again")
    verify_release(repo, release)


def test_without_hard_links_files_are_copied(
    models: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    publish(models, repo)
    verify_release(repo, publish(models, repo))
    assert served_versions(repo, "segment") == [1, 2]


def test_a_changed_tensor_ends_the_earlier_release_of_that_model_and_of_its_routers(
    models: Path, repo: Path
) -> None:
    publish(models, repo)
    TinyShop(seed=1, num_segments=5).write(models)
    publish(models, repo)
    assert served_versions(repo, "segment") == [2]
    assert served_versions(repo, "profile") == [2]
    assert served_versions(repo, "insight") == [2]
    for untouched in ("mf_retrieval", "recommend", "intent_encoder", "understand"):
        assert served_versions(repo, untouched) == [1, 2]
    publish(models, repo)
    assert served_versions(repo, "segment") == [2, 3]


def test_a_shop_without_language_publishes_what_it_has(tmp_path: Path, repo: Path) -> None:
    models = TinyShop(seed=1).write(tmp_path / "models", only=("mf_retrieval", "recommend"))
    assert set(publish(models, repo).models) == {"mf_retrieval", "recommend"}
    models = TinyShop(seed=1).write(tmp_path / "models")
    assert publish(models, repo).number == 2
    assert served_versions(repo, "recommend") == [1, 2]
    assert served_versions(repo, "profile") == [2]


def test_a_model_that_is_left_out_goes_with_its_last_release(models: Path, repo: Path) -> None:
    publish(models, repo)
    for name in ("insight", "understand", "intent_encoder"):
        shutil.rmtree(models / name)
    publish(models, repo)
    assert (repo / "insight" / "1").is_dir()
    publish(models, repo)
    assert not (repo / "insight").exists()


def test_rollback_publishes_the_earlier_files_as_a_new_release(models: Path, repo: Path) -> None:
    publish(models, repo)
    republish(2, models, repo)
    back = rollback(repo)
    assert (back.number, back.pins, back.previous) == (3, 1, 2)
    assert [release.number for release in releases(repo)] == [3, 2]
    second = read_release(repo, 2)
    for name in MEMBERS:
        assert (repo / name / "3" / "model.onnx").read_bytes() == _export(1, name, models)
        assert served_versions(repo, name) == [2, 3]
    verify_release(repo, second)
    assert rollback(repo).pins == 2


def _export(seed: int, name: str, models: Path) -> bytes:
    folder = TinyShop(seed=seed).write(models.parent / f"again-{seed}", only=(name,))
    return (folder / name / "model.onnx").read_bytes()


def test_rollback_needs_a_release_to_go_back_to(models: Path, repo: Path) -> None:
    with pytest.raises(ReleaseError, match="no earlier release"):
        rollback(repo)
    publish(models, repo)
    with pytest.raises(ReleaseError, match="no earlier release"):
        rollback(repo)
    publish(models, repo)
    with pytest.raises(ReleaseError, match="holds no release 7; it holds: 1, 2"):
        rollback(repo, 7)
    with pytest.raises(ReleaseError, match="is the current one"):
        rollback(repo, 2)


def test_a_refused_release_leaves_everything_as_it_was(models: Path, repo: Path) -> None:
    publish(models, repo)
    before = state(repo)
    shutil.rmtree(models / "segment")
    with pytest.raises(GateError, match="profile calls segment, which is not in the release"):
        publish(models, repo)
    assert state(repo) == before
    TinyShop(seed=1).write(models)
    assert publish(models, repo).number == 3, "a number is never used twice"


def test_a_figure_below_its_threshold_is_refused(models: Path, repo: Path) -> None:
    enough = Gate((Threshold("mf_retrieval", "quality", 0.4),))
    too_much = Gate((Threshold("mf_retrieval", "quality", 0.45),))  # its interval begins at 0.4
    assert publish(models, repo, gate=enough).number == 1
    with pytest.raises(GateError, match=r"mf_retrieval.quality is 0.4, required is 0.45"):
        publish(models, repo, gate=too_much)
    with pytest.raises(GateError, match="segment has no such figure"):
        publish(models, repo, gate=Gate((Threshold("segment", "recall", 0.1),)))


def test_one_publisher_at_a_time(models: Path, repo: Path) -> None:
    publish(models, repo)
    with (
        repository.only_publisher(repo),
        pytest.raises(PublishError, match="another publish of"),
    ):
        publish(models, repo)


def test_a_folder_that_somebody_else_put_there_is_not_touched(models: Path, repo: Path) -> None:
    (repo / "segment").mkdir(parents=True)
    (repo / "segment" / "config.pbtxt").write_text("theirs")
    with pytest.raises(ReleaseError, match="was not published by shopsight"):
        publish(models, repo)
    assert (repo / "segment" / "config.pbtxt").read_text() == "theirs"
    assert sorted(p.name for p in repo.iterdir() if p.is_dir()) == ["segment"]


def test_no_models_no_release(tmp_path: Path, repo: Path) -> None:
    with pytest.raises(ReleaseError, match="holds no exported model"):
        publish(tmp_path / "nothing", repo)


def test_a_repository_that_cannot_be_written_is_named(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match="cannot be written"):
        publish(models, tmp_path / "file" / "repository")


@pytest.mark.parametrize("fails_at", range(0, 40, 5))
def test_a_full_disk_leaves_the_last_good_state(
    models: Path, repo: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    publish(models, repo)
    before = state(repo)
    TinyShop(seed=2).write(models)
    left, real = iter(range(fails_at)), os.open

    def open_or_fail(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_EXCL and next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", open_or_fail)
    with pytest.raises(OSError, match="No space left") as failure:
        try:
            publish(models, repo)
        except PublishError as error:
            assert "release 1 serves as before" in str(error)
            raise error.__cause__ from None  # type: ignore[misc]
    assert failure.value.errno == errno.ENOSPC
    monkeypatch.undo()
    recover(repo)
    assert state(repo) == before
    assert publish(models, repo).previous == 1


class FailingServer:
    """A server that refuses one model of the new release."""

    def __init__(self, repo: Path, refused: str) -> None:
        self.repo, self.refused = repo, refused
        self.calls: list[tuple[str, str, list[int]]] = []
        self.refusing = True

    def load(self, model: str) -> None:
        self.calls.append(("load", model, served_versions(self.repo, model)))
        if self.refusing and model == self.refused:
            self.refusing = False
            raise ModelLoadError(model, "no")

    def unload(self, model: str) -> None:
        self.calls.append(("unload", model, []))

    def replay(self, *_: Any) -> int:
        return 0

    def twin(self, repository: Path) -> Any:
        (number,) = served_versions(repository, self.refused)
        assert not (self.repo / self.refused / str(number)).exists(), "it is rehearsed before it is shown"
        return contextlib.nullcontext(RehearsalServer())


class RehearsalServer(FailingServer):
    """A private server that accepts everything."""

    def __init__(self) -> None:
        pass

    def load(self, model: str) -> None:
        pass


def test_a_model_that_the_server_refuses_brings_the_earlier_release_back(models: Path, repo: Path) -> None:
    publish(models, repo)
    before = state(repo)
    TinyShop(seed=2).write(models)
    server = FailingServer(repo, "recommend")
    with pytest.raises(PublishError, match=r"release 2 was not published.*recommend.*release 1 serves"):
        publish(models, repo, server=server)
    assert state(repo) == before
    brought_back = [call for call in server.calls if call[2] == [1]]
    assert brought_back[0][1] == "insight", "routers of the failed release go first"
    assert {name for _, name, _ in brought_back} == set(read_release(repo, 1).models)


def test_the_first_release_that_fails_leaves_an_empty_repository(models: Path, repo: Path) -> None:
    with pytest.raises(PublishError, match="nothing was published"):
        publish(models, repo, server=FailingServer(repo, "segment"))
    assert [p for p in repo.iterdir() if p.is_dir()] == []
    assert releases(repo) == []


class StubbornServer(FailingServer):
    """A server that loads everything and unloads nothing."""

    def __init__(self, repo: Path) -> None:
        super().__init__(repo, refused="segment")
        self.refusing = False

    def unload(self, model: str) -> None:
        raise ServerError(f"{model} is busy")


def test_a_release_is_published_although_an_old_model_does_not_unload(models: Path, repo: Path) -> None:
    publish(models, repo)
    TinyShop(seed=2).write(models)
    shutil.rmtree(models / "insight")
    said: list[str] = []
    release = publish(models, repo, server=StubbornServer(repo), progress=said.append)
    assert current_release(repo) == release and release.number == 2
    assert "insight, which release 2 does not have, is still loaded: insight is busy" in said
    assert said[-1] == "release 2 is current"


def test_a_release_is_published_although_an_old_one_cannot_be_removed(
    models: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(models, repo)
    republish(2, models, repo)

    def denied(*_: Any) -> None:
        raise PermissionError("denied")

    monkeypatch.setattr(repository, "remove_release", denied)
    said: list[str] = []
    assert republish(3, models, repo, progress=said.append) == 3
    assert "release 1 is not removed: denied; the next publish tries again" in said
    monkeypatch.undo()
    assert republish(4, models, repo) == 4
    assert [one.number for one in releases(repo)] == [4, 3]


def test_recover_of_a_healthy_repository_changes_nothing(models: Path, repo: Path) -> None:
    publish(models, repo)
    republish(2, models, repo)
    before = state(repo)
    recover(repo)
    assert state(repo) == before


def test_a_damaged_file_is_found(models: Path, repo: Path) -> None:
    release = publish(models, repo)
    (repo / "segment" / "1" / "model.onnx").write_bytes(b"rot")
    with pytest.raises(ReleaseError, match=r"model\.onnx: not what release 1 published"):
        verify_release(repo, release)


def test_damaged_pins_are_not_published_again(models: Path, repo: Path) -> None:
    publish(models, repo)
    republish(2, models, repo)
    (repo / "segment" / "1" / "model.onnx").write_bytes(b"rot")
    with pytest.raises(ReleaseError, match=r"model\.onnx: not what release 1 published"):
        rollback(repo)
    assert current_release(repo) == read_release(repo, 2)


def test_the_contract_in_the_repository_is_that_of_the_export(models: Path, repo: Path) -> None:
    publish(models, repo)
    assert ModelContract.read(repo / "recommend" / "1") == ModelContract.read(models / "recommend")


def test_a_manifest_of_another_format_is_refused(models: Path, repo: Path) -> None:
    publish(models, repo)
    replace(Pointer.read(repo), format_version=2).write(repo)
    with pytest.raises(ReleaseError, match="format_version is 2, this reads 3; move the repository away"):
        current_release(repo)


def _hold_lock(repo: Path, started: Any) -> None:
    with repository.only_publisher(repo):
        started.set()
        os.kill(os.getpid(), 9)


def test_the_lock_of_a_killed_publisher_is_free(models: Path, repo: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    holder = context.Process(target=_hold_lock, args=(repo, started))
    holder.start()
    holder.join()
    assert started.is_set()
    assert publish(models, repo).number == 1


def test_a_file_that_decayed_on_disk_is_not_handed_on_by_the_next_publish(models: Path, repo: Path) -> None:
    """A model of two releases is one file on disk: what rots in one rots in both."""
    publish(models, repo)
    publish(models, repo)
    rotten = repo / "mf_retrieval" / "2" / "model.onnx"
    content = bytearray(rotten.read_bytes())
    content[len(content) // 2] ^= 1
    with rotten.open("r+b") as stream:
        stream.write(content)
    with pytest.raises(ReleaseError, match="publish the models again"):
        rollback(repo)
    healed = publish(models, repo)
    verify_release(repo, healed)
    publish(models, repo)
    verify_release(repo, rollback(repo))


def test_a_file_that_was_lost_on_disk_is_copied_by_the_next_publish(models: Path, repo: Path) -> None:
    publish(models, repo)
    (repo / "recommend" / "1" / "items.safetensors").unlink()
    verify_release(repo, publish(models, repo))


@pytest.mark.parametrize("last_number", [0, 1, 2])
def test_a_pointer_that_counts_behind_the_releases_costs_none_of_them(
    models: Path, repo: Path, last_number: int
) -> None:
    for _ in range(3):
        publish(models, repo)
    pointer = Pointer.read(repo)
    replace(pointer, last_number=last_number).write(repo)
    with pytest.raises(ReleaseError, match=r"current-release\.json: damaged .*restore the file"):
        publish(models, repo)
    pointer.write(repo)
    assert [kept.number for kept in releases(repo)] == [3, 2]
    for kept in releases(repo):
        verify_release(repo, kept)


def test_warm_up_data_is_flushed_before_the_release_shows(
    models: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    fsync = os.fsync

    def remember(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    release = publish(models, repo)
    for name, model in release.models.items():
        for entry in model.files:
            path = release.folder(repo, name) / entry.path
            assert path.stat().st_ino in flushed, path
