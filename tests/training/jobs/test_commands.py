"""Commands against a real cluster, as an operator gives them, and what they say where it is none."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from shopsight.training.artifacts.snapshots import snapshot_sha256
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.jobs.cluster import connected
from shopsight.training.jobs.errors import JobError
from shopsight.training.jobs.trainings import reachable
from tests.training.jobs.cluster_process import BIN, ROOT, RayCluster, command_environment
from tests.training.small_shop import tastes_shop
from tests.waiting import HANG_SECONDS, wait_until

TRAIN = ("-m", "shopsight", "train", "profiles", "--num-workers", "1")


def _run(
    command: list[str], environment: dict[str, str], folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANG_SECONDS
    )


def _submit(
    cluster: RayCluster, environment: dict[str, str], *entrypoint: str
) -> subprocess.CompletedProcess[str]:
    address = ["--address", cluster.dashboard, "--working-dir", "."]
    return _run([str(BIN / "ray"), "job", "submit", *address, "--", *entrypoint], environment)


def test_a_submitted_job_trains_and_takes_no_environment_along(cluster: RayCluster, tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path / "shop")
    train = [*TRAIN, "--workspace", str(workspace.root), "--json"]
    done = _submit(cluster, cluster.environment, "python", *train)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"profiles"'))
    state = json.loads((workspace.checkpoints / "profiles" / "state.json").read_text())
    assert state["data_sha256"] == snapshot_sha256(workspace.tables)
    assert len(figures["profiles"]["segments"]) >= 3
    (package,) = cluster.folder.glob("session_latest/runtime_resources/working_dir_files/_ray_pkg_*/")
    assert (package / "shopsight" / "training" / "jobs").is_dir()
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert size < 20 * 2**20  # of 500 MiB that Ray takes
    assert not {".venv", ".venv-triton", ".git", "tests"} & {path.name for path in package.iterdir()}


def test_a_workspace_in_the_jobs_copy_is_refused_as_it_would_be_deleted(tmp_path: Path) -> None:
    copy = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    with pytest.raises(JobError, match="lies in the job's own copy of the working directory"):
        reachable(Workspace(copy / "shop"))
    assert reachable(Workspace(tmp_path / "shop")) == str(tmp_path / "shop")


def test_the_cluster_takes_nothing_without_its_token(cluster: RayCluster, tmp_path: Path) -> None:
    stranger = cluster.environment | {"RAY_AUTH_TOKEN": "x" * 40, "HOME": str(tmp_path)}
    done = _submit(cluster, stranger, "python", "-c", "print('ran')")
    assert done.returncode != 0
    assert "ran" not in done.stdout.splitlines()
    shop = tastes_shop(tmp_path / "shop", num_customers=9)
    refused = _run([sys.executable, *TRAIN, "--workspace", str(shop.root)], stranger)
    assert refused.returncode == 1
    assert "refused the token: set RAY_AUTH_TOKEN" in refused.stderr


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("http://127.0.0.1:8265", "is not host:port of a cluster's head"),
    ],
)
def test_an_address_without_a_cluster_is_named_before_ray_tries_it(
    address: str, words: str, tmp_path: Path
) -> None:
    shop = tastes_shop(tmp_path / "shop", num_customers=9)
    done = _run(
        [sys.executable, *TRAIN, "--workspace", str(shop.root), "--address", address], command_environment()
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("left_behind", [None, "127.0.0.1:1"])
@pytest.mark.parametrize("source", ["--address", "RAY_ADDRESS"])
def test_auto_without_a_cluster_is_told_as_such_and_blames_no_token(
    left_behind: str | None, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    if source == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", "auto")
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if left_behind:  # by a cluster that was killed
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(left_behind)
    words = "no Ray cluster (runs on this machine|answers at 127)"
    with (
        pytest.raises(JobError, match=words) as refused,
        connected("auto" if source == "--address" else None),
    ):
        pass
    assert "token" not in str(refused.value) and source in str(refused.value)


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_training_that_is_stopped_says_so_and_leaves_nothing_running(
    number: signal.Signals, words: str, tmp_path: Path
) -> None:
    shop = tastes_shop(tmp_path / "shop", num_customers=40)
    endless = [
        "--set",
        "embedding.two_tower.loop.epochs=100000",
        "--set",
        "embedding.two_tower.loop.patience=0",
    ]
    command = [sys.executable, "-m", "shopsight", "train", "embedding", "--num-workers", "1", *endless]
    ray_folder = tempfile.mkdtemp(prefix="ray-")  # the path of a socket must be short
    process = subprocess.Popen(
        [*command, "--workspace", str(shop.root)],
        cwd=ROOT, env=command_environment() | {"RAY_TMPDIR": ray_folder}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "chosen epoch 2" in line:
                break
        process.send_signal(number)
        rest, _ = process.communicate(timeout=HANG_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(ray_folder, ignore_errors=True)
    assert process.returncode == 128 + number, "".join(said) + rest
    assert f"{words}: what was complete before stays" in rest.replace("\n", " ")
    assert "logging.cc" not in rest and "Traceback" not in rest
    assert list((shop.checkpoints / "embedding" / "under_way" / "chosen").glob("step-*"))
    wait_until(lambda: not _alive_in_session(process.pid), "the cluster's processes ended")


def _alive_in_session(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            if int(after_name[3]) == session and after_name[0] != "Z":
                found.append(stat.parent.name)
    return found


def test_a_missing_token_is_named(cluster: RayCluster, tmp_path: Path) -> None:
    shop = tastes_shop(tmp_path / "shop", num_customers=9)
    environment = command_environment() | {"HOME": str(tmp_path)}
    done = _run(
        [sys.executable, *TRAIN, "--workspace", str(shop.root), "--address", cluster.address], environment
    )
    assert done.returncode == 1
    assert "no token for the cluster" in done.stderr and "RAY_AUTH_TOKEN" in done.stderr
