"""Kills a publisher before each of its changes to the disk in turn, and says what recovery made of it.

Run as a process of its own, which forks: the publisher dies without a chance to tidy up.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from shopsight.serving.contract import sha256_of
from shopsight.serving.release import current_release
from shopsight.serving.repository import publish, recover, rollback
from shopsight.serving.verify import verify_served
from tests.reliability.dying import die_before, is_killed_in_child

_CHANGES = ("rename", "replace", "link", "mkdir", "unlink", "rmdir", "open")


def kill_publishers(folder: Path, verb: str, stride: int) -> list[dict[str, Any]]:
    """Return for each step: whether the publisher was killed, the release then current, and what is wrong."""
    results = []
    for step in itertools.count(step=stride):
        repository = folder / f"killed-{step}"
        shutil.copytree(folder / "repository", repository)
        killed = is_killed_in_child(
            lambda where=repository, at=step: _publish_and_die(folder, where, verb, at)
        )
        recover(repository)
        current = current_release(repository)
        assert current is not None
        problems = _problems(repository, current.number)
        if step % (5 * stride) == 0 or not killed:
            again = publish(folder / "models", repository)
            problems += [f"again: {problem}" for problem in _problems(repository, again.number)]
        results.append({"step": step, "killed": killed, "current": current.number, "problems": problems})
        shutil.rmtree(repository)
        if not killed:
            return results
    raise AssertionError


def _publish_and_die(folder: Path, repository: Path, verb: str, step: int) -> None:
    die_before(step, _CHANGES)
    if verb == "publish":
        publish(folder / "models", repository)
    else:
        rollback(repository)


def _problems(repository: Path, number: int) -> list[str]:
    release = current_release(repository)
    assert release is not None
    verify_served(repository, release)
    problems = [] if release.number == number else [f"release {release.number} is current"]
    for name in release.models:
        versions = {int(p.name) for p in (repository / name).iterdir() if p.name.isdecimal()}
        if versions != {n for n in (release.number, release.previous) if n is not None}:
            problems.append(f"{name} has versions {versions}")
        shown, own = repository / name / "config.pbtxt", repository / name / str(number) / "config.pbtxt"
        if sha256_of(shown) != sha256_of(own):
            problems.append(f"{name}: config.pbtxt is that of another release")
    names = {p.name for p in repository.rglob("*")}
    problems += [f"{name} was left" for name in names if name.endswith(".new") or name == ".staging"]
    return problems


if __name__ == "__main__":
    os.fsync = lambda _: None  # a kill is not a power cut: the kernel keeps what was written
    json.dump(kill_publishers(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])), sys.stdout)
