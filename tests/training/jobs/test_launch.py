"""Workers that die, errors that are told, and groups that change size, on a real cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shopsight.training.jobs.cluster import Resources, connected, require_room
from shopsight.training.jobs.errors import JobError
from shopsight.training.jobs.launch import on_all_workers, on_one_worker
from shopsight.training.recommend.embedding.checkpoint import last_good, weights
from tests.training.jobs.cluster_process import RayCluster
from tests.training.jobs.group_work import CUT_AFTER, two_towers, without_ray
from tests.training.recommend.embedding.small import in_workers, tastes
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def ray(cluster: RayCluster) -> Iterator[Any]:
    """Ray, connected to the tests' cluster."""
    os.environ.update(cluster.environment)
    with connected(cluster.address) as module:
        yield module
    for name in ("RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        del os.environ[name]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's columns in data/, and in plain/ a fit by two workers without Ray."""
    folder = tmp_path_factory.mktemp("towers")
    tastes(folder / "data")
    in_workers(2, without_ray, folder)
    return folder


def _fit(ray: Any, root: Path, name: str, num_workers: int, fault: str = "") -> tuple[list[float], list[str]]:
    said: list[str] = []
    work = (two_towers, str(root), name, fault)
    storage = root / "jobs" / name
    figures = on_all_workers(ray, Resources(num_workers), *work, progress=said.append, storage=storage)
    assert not storage.exists()
    return figures, said


def _truth(root: Path) -> list[float]:
    return [report["metrics"]["ndcg_at_5"] for report in _manifest(root / "plain")["position"]["reports"]]


def _manifest(folder: Path) -> dict[str, Any]:
    return last_good(folder, None, print)[1]


def _furthest(root: Path, name: str) -> float:
    mine, theirs = weights(root / name), weights(root / "plain")
    return max(float((mine[key] - theirs[key]).abs().max()) for key in theirs)


def test_a_killed_worker_costs_some_steps_and_changes_no_bit(ray: Any, root: Path) -> None:
    figures, said = _fit(ray, root, "killed", 2, "kill")
    assert (root / "killed" / "killed").exists()
    assert sum("restart 1 of 3" in line for line in said) == 1
    assert any("goes on after step" in line for line in said)
    assert figures == _truth(root)
    assert _furthest(root, "killed") == 0.0


def test_after_a_full_disk_three_workers_or_one_go_on_from_what_two_kept(ray: Any, root: Path) -> None:
    with pytest.raises(JobError, match=r"the disk is full at .*last good checkpoint is intact"):
        _fit(ray, root, "on-three", 2, "disk")
    assert len(list((root / "on-three").glob("met-*"))) == 1
    assert _manifest(root / "on-three")["position"]["total_steps"] >= CUT_AFTER - 1
    shutil.copytree(root / "on-three", root / "on-one")
    three, said = _fit(ray, root, "on-three", 3)
    said_here: list[str] = []
    one = two_towers(str(root), "on-one", "", said_here.append)  # here, without Ray or a group
    for name, figures, lines in (("on-three", three, said), ("on-one", one, said_here)):
        assert any("goes on after step" in line for line in lines)
        # The batch is the group's, so that only sums are added up in another order.
        assert figures == pytest.approx(_truth(root), abs=0.01)
        assert _furthest(root, name) < 2e-4


def test_a_single_worker_that_is_killed_is_started_again(ray: Any, tmp_path: Path) -> None:
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        (tmp_path / "heard").touch()

    answer = on_one_worker(ray, Resources(), _dies_once, str(tmp_path), progress=hear)
    assert answer == {"threads": "1", "backend": "cpu"}
    assert said == [
        "begun",
        "a worker died (WorkerCrashedError): restart 1 of 3, from the last checkpoint",
        "begun",
    ]


def test_more_workers_than_the_cluster_holds_are_refused_at_once(ray: Any) -> None:
    with pytest.raises(JobError, match=r"9 workers of 1 CPU do not fit: the cluster has 4 CPUs and 0 GPUs"):
        require_room(ray, Resources(num_workers=9))
    with pytest.raises(JobError, match=r"1 CPU and 1 GPU do not fit"):
        require_room(ray, Resources(num_workers=1, use_gpu=True))
    with pytest.raises(JobError, match=r"room for 1; remedy: --num-workers 1"):
        require_room(ray, Resources(num_workers=2, cpus_per_worker=3))


def _dies_once(folder: str, say: Any) -> dict[str, str]:
    import signal

    mark, heard = Path(folder) / "mark", Path(folder) / "heard"
    say("begun")
    if not mark.exists():
        mark.touch()
        wait_until(heard.exists, "the line is heard")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"threads": os.environ["OMP_NUM_THREADS"], "backend": os.environ["SHOPSIGHT_BACKEND"]}
