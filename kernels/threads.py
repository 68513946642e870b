"""The number of threads that this process may use, and passive waiting for the idle ones.

An idle thread that spins takes a core from a thread that has work. On a busy machine two spinning threads
cost several times the CPU time of one.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from math import ceil
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
STATISTICS = Path("/proc/stat")
OWN_CGROUP = Path("/proc/self/cgroup")

# GNU's and LLVM's OpenMP, MKL and OpenBLAS read these when they are loaded.
_PASSIVE = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OPENBLAS_THREAD_TIMEOUT": "4",  # 2 to the 4th clock cycles
}
_COUNTED = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")
_SAMPLES, _SECONDS = 5, 0.005


def num_threads() -> int:
    """Return the number of threads to use: OMP_NUM_THREADS if it is set, else the number of free cores.

    It never exceeds the CPU affinity of the process or the quota of its cgroups. Cores that other processes
    keep busy are not free; they are counted once per process, so that the number stays the same.
    """
    allowed = min(_affinity(), _quota() or _affinity())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return max(1, min(allowed, int(asked)))
    return max(1, min(allowed, (os.cpu_count() or 1) - _busy()))


def environment(count: int) -> dict[str, str]:
    """Return the variables that limit each library of a process to `count` passively waiting threads."""
    counts = {f"{library}_NUM_THREADS": str(count) for library in _COUNTED}
    return counts | {"POLARS_MAX_THREADS": str(count)} | _PASSIVE


def set_passive_waiting() -> None:
    """Set passive waiting for libraries loaded from now on; variables already set keep their value."""
    for name, value in _PASSIVE.items():
        os.environ.setdefault(name, value)


def limit_threads() -> None:
    """Limit libraries loaded from now on to `num_threads`; variables already set keep their value."""
    for name, value in environment(num_threads()).items():
        os.environ.setdefault(name, value)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> int | None:
    """Return the cores that the cgroups (version 2 or 1) of the process allow; None without a limit."""
    found = []
    for folder in _cgroups():
        try:
            share, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            try:
                share = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            except OSError:
                continue
        if share.strip().isdigit() and int(period):
            found.append(max(1, ceil(int(share) / int(period))))
    return min(found, default=None)


def _cgroups() -> list[Path]:
    """Return the folders of the process's cgroups and of their ancestors."""
    folders = [CGROUPS, CGROUPS / "cpu"]
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = CGROUPS if not controllers else CGROUPS / "cpu"
        if not controllers or "cpu" in controllers.split(","):
            own = root / path.lstrip("/")
            folders += [own, *(above for above in own.parents if above.is_relative_to(root))]
    return folders


@lru_cache(maxsize=1)
def _busy() -> int:
    """Return the cores that others keep busy: the median of runnable tasks over 20 ms, minus this one."""
    seen = []
    for sample in range(_SAMPLES):
        if sample:
            time.sleep(_SECONDS)
        seen.append(_running())
    return max(0, sorted(seen)[_SAMPLES // 2] - 1)


def _running() -> int:
    try:
        for line in STATISTICS.read_text().splitlines():
            if line.startswith("procs_running"):
                return int(line.split()[1])
    except OSError:
        pass
    return 1
