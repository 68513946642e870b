"""On a filesystem without locks nothing is changed, and what is said names the remedy."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving.locking import NO_LOCKS, LocksMissingError
from shopsight.serving.pseudonym import create_key, key_path, rotate_key
from shopsight.serving.repository import publish, rollback
from shopsight.serving.server_process import only_one_starts
from shopsight.training.artifacts.locks import exclusive, take_shared
from tests.serving.tiny_models import TinyShop


def _started(folder: Path) -> None:
    with only_one_starts(folder):
        raise AssertionError("without a lock")


def _alone(folder: Path, *, wait: bool) -> None:
    with exclusive(folder / ".lock", "train", wait=wait):
        raise AssertionError("without a lock")


WORK: dict[str, Callable[[Path], Any]] = {
    "publish": lambda folder: publish(folder / "models", folder / "repository"),
    "rollback": lambda folder: rollback(folder / "repository"),
    "serve": _started,
    "train": lambda folder: _alone(folder, wait=False),
    "export": lambda folder: _alone(folder, wait=True),
    "key rotate": lambda _: rotate_key(),
}


@pytest.mark.parametrize("code", sorted(NO_LOCKS), ids=lambda code: errno.errorcode[code])
@pytest.mark.parametrize("work", WORK)
def test_work_that_needs_a_lock_is_refused_with_the_remedy(
    work: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSIGHT_KEY_FILE", str(tmp_path / "key.json"))
    create_key()
    TinyShop(seed=1).write(tmp_path / "models", ("mf_retrieval",))
    key = key_path().read_bytes()

    def without(*_: object) -> None:
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(LocksMissingError, match=r"cannot be locked \(No locks available\).*local disk"):
        WORK[work](tmp_path)
    assert key_path().read_bytes() == key
    assert not list((tmp_path / "repository").glob("*release*"))


def test_readers_go_on_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    os.close(take_shared(tmp_path))
