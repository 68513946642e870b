"""How failures of jobs are told, without a cluster."""

from __future__ import annotations

import errno
import importlib.util
from typing import Any

import pytest
import ray.exceptions
from ray.train import WorkerGroupError

from shopsight.training.jobs.cluster import Resources, connected
from shopsight.training.jobs.errors import JobError, explained, is_death, root_cause
from shopsight.training.language.corpus import LanguageError

RESET = RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:5: Connection reset by peer")
DEAD = ray.exceptions.ActorDiedError()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ray.exceptions.ObjectStoreFullError("full"), "object store is full.*--object-store-memory"),
        (ray.exceptions.OutOfDiskError("full"), "disk under Ray's --temp-dir is full.*make room"),
        (ray.exceptions.OutOfMemoryError("killed"), "ran out of memory: take more workers"),
        (ray.exceptions.LocalRayletDiedError("gone"), "raylet on this node died: start the node again"),
        (OSError(errno.ENOSPC, "No space left", "shop/a"), "the disk is full at shop/a: make room"),
        (OSError(errno.EDQUOT, "Quota"), "the disk is full: make room"),
        (LanguageError("label at least ten messages"), "^label at least ten messages$"),
        (ZeroDivisionError("x"), "ZeroDivisionError: x; the last good checkpoint is intact"),
    ],
)
def test_failures_are_told_with_their_remedy(error: Exception, words: str) -> None:
    with pytest.raises(JobError, match=words):
        raise explained(error)


def test_a_cause_behind_another_error_is_found() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left", "shop/a")
        except OSError as full:
            raise RuntimeError("could not write the checkpoint") from full
    except RuntimeError as error:
        assert "the disk is full at shop/a" in str(explained(error))


@pytest.mark.parametrize(
    ("failures", "death"),
    [
        ({0: RESET, 1: DEAD}, True),
        ({0: RESET}, True),  # the survivor may be heard before the death is seen
        ({0: ValueError("row 7"), 1: RESET}, False),
        ({0: RESET, 1: OSError(errno.ENOSPC, "No space left")}, False),
        ({0: ray.exceptions.OutOfMemoryError("killed")}, False),
        ({0: ray.exceptions.ObjectStoreFullError("full"), 1: RESET}, False),
    ],
)
def test_only_deaths_are_worth_another_attempt(failures: dict[int, Any], death: bool) -> None:
    error = WorkerGroupError("workers failed", failures)
    assert is_death(error) is death
    assert root_cause(error) is next((e for e in failures.values() if e is not RESET), RESET)


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with (
        pytest.raises(
            JobError, match=r"ray is not installed; remedy: pip install 'shopsight\[distributed\]'"
        ),
        connected(),
    ):
        pass


def test_resources_must_be_counted() -> None:
    with pytest.raises(JobError, match="both must be 1 or above"):
        Resources(num_workers=0)
