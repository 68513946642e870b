"""How many threads work takes, and that idle ones sleep: in every library of a process that imports ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopsight.kernels import threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of sixteen idle cores without cgroups, all of which the process may use."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "STATISTICS", tmp_path / "stat")
    monkeypatch.setattr(threads, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(threads, "_busy", threads._busy.__wrapped__)
    (tmp_path / "stat").write_text("cpu 1 2\nprocs_running 1\n")
    return tmp_path


def test_an_idle_machine_gives_every_core_and_a_busy_one_what_is_left(machine: Path) -> None:
    assert threads.num_threads() == 16
    (machine / "stat").write_text("procs_running 13\n")
    assert threads.num_threads() == 4
    (machine / "stat").write_text("procs_running 90\n")
    assert threads.num_threads() == 1


def test_affinity_and_what_is_asked_for_are_never_exceeded(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "stat").write_text("procs_running 15\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # said by someone who knows, whatever the load
    assert threads.num_threads() == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert threads.num_threads() == 3


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({"cpu.max": "max 100000"}, "", 16),
        ({"cpu.max": "250000 100000"}, "", 3),
        ({"cpu.max": "50000 100000"}, "", 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 16),
        ({"cpu.max": "max 100000", "a/cpu.max": "600000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 6),
        ({"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/a", 2),
    ],
)
def test_a_container_is_held_to_its_quota(machine: Path, files: dict[str, str], own: str, cores: int) -> None:
    for name, content in files.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(content)
    (machine / "own").write_text(own + "\n" if own else "")
    assert threads.num_threads() == cores


def told(code: str, **variables: str) -> str:
    """What a process says that inherits none of our settings."""
    ours = set(threads.environment(1))
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", code], env=inherited | variables, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_openmp_of_torch_and_of_scikit_learn_waits_asleep() -> None:
    for library in ("torch", "sklearn.cluster"):
        said = told(f"import shopsight.training, {library}", OMP_DISPLAY_ENV="VERBOSE")
        assert "OMP_WAIT_POLICY = 'PASSIVE'" in said and "GOMP_SPINCOUNT = '0'" in said, library
    chosen = told("import shopsight.training, torch", OMP_DISPLAY_ENV="VERBOSE", OMP_WAIT_POLICY="active")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in chosen  # who says otherwise is heard


def test_the_command_holds_every_library_to_what_is_free() -> None:
    code = (
        "from shopsight.kernels import threads; threads.limit_threads();"
        "import os, torch, polars, threadpoolctl, numpy;"
        "pools = {pool['num_threads'] for pool in threadpoolctl.threadpool_info()};"
        "print(threads.num_threads(), torch.get_num_threads(), polars.thread_pool_size(), *pools)"
    )
    assert set(told(code, OMP_NUM_THREADS="1").split()) == {"1"}


def test_the_command_line_decides_before_it_loads_a_library() -> None:
    code = (
        "import sys; sys.argv = ['shopsight', 'data', 'list']\n"
        "from shopsight.training.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import os; print('told', os.environ['OMP_NUM_THREADS'], os.environ['POLARS_MAX_THREADS'])"
    )
    assert "told" in told(code)
