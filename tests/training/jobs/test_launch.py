"""Workers that die, errors that are told, and groups that change size, on a real cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.multiprocessing import spawn

from tests.training.jobs import group_work
from tests.training.jobs.cluster_process import RayCluster, free_ports
from training.jobs.cluster import Resources, connected, require_room
from training.jobs.errors import JobError
from training.jobs.launch import on_all_workers, on_one_worker


@pytest.fixture(scope="module")
def ray(cluster: RayCluster) -> Iterator[Any]:
    """Ray, connected to the tests' cluster."""
    os.environ.update(cluster.environment)
    with connected(cluster.address) as module:
        yield module
    for name in ("RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        del os.environ[name]


def _fit(ray: Any, folder: Path, num_workers: int, fault: str = "") -> tuple[dict[str, float], list[str]]:
    folder.mkdir(exist_ok=True)
    said: list[str] = []
    storage = folder.parent / "jobs" / folder.name
    figures = on_all_workers(
        ray, Resources(num_workers), group_work.fit, str(folder), fault, progress=said.append, storage=storage
    )
    assert not storage.exists()
    return figures, said


def _without_ray(folder: Path, num_workers: int) -> dict[str, float]:
    folder.mkdir()
    (port,) = free_ports(1)
    spawn(group_work.without_ray, (num_workers, port, str(folder)), nprocs=num_workers)
    return dict(json.loads((folder / "figures.json").read_text()))


def test_a_killed_worker_costs_no_more_than_its_epoch_and_changes_no_figure(ray: Any, tmp_path: Path) -> None:
    killed, said = _fit(ray, tmp_path / "killed", 2, "kill")
    assert said[0] == "from epoch 0 on 2 workers"
    assert "restart 1 of 3" in said[1]
    assert said[2] == "from epoch 3 on 2 workers"
    assert killed == {**_without_ray(tmp_path / "plain", 2), "first": 3}


def test_a_full_disk_is_named_at_once_and_the_checkpoint_stays(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"the disk is full at .*state\.json.* last good checkpoint is intact"):
        _fit(ray, tmp_path / "group", 2, "disk")
    assert len(list((tmp_path / "group").glob("met-*"))) == 1
    assert json.loads((tmp_path / "group" / "state.json").read_text())["epoch"] == 3


def test_a_single_worker_that_is_killed_is_started_again(ray: Any, tmp_path: Path) -> None:
    said: list[str] = []
    mark = tmp_path / "mark"
    answer = on_one_worker(ray, Resources(), _dies_once, str(mark), progress=said.append)
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


def _dies_once(mark: str, say: Any) -> dict[str, str]:
    import signal
    import time

    say("begun")
    if not Path(mark).exists():
        Path(mark).touch()
        time.sleep(0.5)  # until the line is heard
        os.kill(os.getpid(), signal.SIGKILL)
    return {"threads": os.environ["OMP_NUM_THREADS"], "backend": os.environ["SHOPSIGHT_BACKEND"]}
