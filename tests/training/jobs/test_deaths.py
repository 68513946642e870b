"""The command's own process or the node under it is killed; the same command, run again, goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shopsight.training.recommend.embedding.checkpoint import last_good, weights
from tests.training.jobs.cluster_process import ROOT, command_environment
from tests.training.jobs.group_work import without_ray
from tests.training.recommend.embedding.small import in_workers, tastes
from tests.waiting import HANG_SECONDS, wait_until

COMMAND = [sys.executable, "-m", "tests.training.jobs.drive"]


@pytest.mark.slow
def test_after_the_death_of_driver_and_raylet_the_same_command_goes_on(tmp_path: Path) -> None:
    tastes(tmp_path / "data")
    done = [0, _run_until_killed(tmp_path, 3, lambda driver: driver)]
    done.append(_run_until_killed(tmp_path, done[-1] + 3, _raylet_of))
    assert done == sorted(set(done)), "each run began where the one before it had come to"
    last = subprocess.run(
        [*COMMAND, str(tmp_path)], cwd=ROOT, env=command_environment(), capture_output=True, text=True,
        timeout=HANG_SECONDS, check=True,
    )  # fmt: skip
    lines = last.stdout.splitlines()
    (first,) = (int(line.split()[-1]) for line in lines if "goes on after step" in line)
    assert first >= done[-1]
    in_workers(2, without_ray, tmp_path)
    reports = last_good(tmp_path / "plain", None, print)[1]["position"]["reports"]
    assert json.loads(lines[-1]) == [report["metrics"]["ndcg_at_5"] for report in reports]
    plain, driven = weights(tmp_path / "plain"), weights(tmp_path / "driven")
    assert all(bool((plain[name] == driven[name]).all()) for name in plain)


def _run_until_killed(root: Path, steps: int, victim: Callable[[int], int]) -> int:
    """Kill what `victim` names while the fit holds at its checkpoint of `steps` steps; returns those kept."""
    log = (root / "driver.log").open("wb")
    process = subprocess.Popen(
        [*COMMAND, str(root), str(steps)], cwd=ROOT, env=command_environment(), stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: _steps(root) >= steps or process.poll() is not None, "the checkpoint is there")
        assert process.poll() is None, (root / "driver.log").read_text()
        os.kill(victim(process.pid), signal.SIGKILL)
        assert process.wait(timeout=HANG_SECONDS) != 0
    finally:
        # Whatever of this session is left; a cluster of a command's own ends with the command.
        for ending in _session(process.pid):
            os.kill(ending, signal.SIGKILL)
        log.close()
    return _steps(root)


def _steps(root: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in (root / "driven").glob("step-*")), default=0)


def _raylet_of(driver: int) -> int:
    return next(pid for pid in _session(driver) if "raylet/raylet" in _command(pid))


def _session(leader: int) -> list[int]:
    """Living processes of the session that `leader` began."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
