"""The script for a machine with a GPU: its parts, their limits, and that a failed step holds up no other."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "on_gpu" / "run_all.sh"
STUB = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *xdist*) exit 1 ;; *"$FAILING"*) echo broken; exit 3 ;; esac
echo fine
"""
STEPS = {
    "parity": ["-m pytest"],
    "sanitize": ["on_gpu.tour", "memcheck", "racecheck", "runner sgd", "runner bpr"],
    "als": ["runner als", "runner topk"],
}


def run(folder: Path, *parts: str, failing: str = "nothing") -> tuple[int, str, list[str]]:
    """Run the script with stand-ins; returns its status, its errors and what was called."""
    for name in ("python", "compute-sanitizer", "nvidia-smi"):
        (folder / name).write_text(STUB, encoding="utf-8")
        (folder / name).chmod(0o755)
    calls = folder / "calls"
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": str(folder / "python"), "CALLS": str(calls),
        "FAILING": failing, "RESULTS": str(folder / "results"), "OUT": str(folder),
    }  # fmt: skip
    done = subprocess.run([SCRIPT, *parts], env={**os.environ, **environment}, capture_output=True, text=True)
    called = [line for line in calls.read_text().splitlines() if "xdist" not in line and "query" not in line]
    return done.returncode, done.stderr, called


def test_all_parts_run_in_order_and_their_results_are_one_file(tmp_path: Path) -> None:
    status, errors, called = run(tmp_path)
    wanted = [step for part in STEPS.values() for step in part]
    assert (status, errors) == (0, "") and len(called) == len(wanted)
    assert all(step in line for step, line in zip(wanted, called, strict=True))
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        assert {"./parity.log", "./als.log", "./topk.log"} <= set(archive.getnames())


@pytest.mark.parametrize(("failing", "name"), [("-m pytest", "parity"), ("memcheck", "memcheck")])
def test_a_step_that_fails_is_named_and_the_others_run(tmp_path: Path, failing: str, name: str) -> None:
    status, errors, called = run(tmp_path, failing=failing)
    assert status == 1 and f"{name}(3)" in errors and "runner topk" in called[-1]
    assert (tmp_path / "results.tar.gz").is_file()


def test_a_part_that_is_not_there_is_refused(tmp_path: Path) -> None:
    status, errors, _ = run(tmp_path, "members")
    assert status == 2 and "no part 'members': parity, sanitize, als" in errors


def test_each_part_stays_below_400_seconds() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    for part in STEPS:
        body = re.search(rf"\n{part}\(\) \{{\n(.*?)\n\}}", text, re.DOTALL)
        assert body
        limits = [int(n) for n in re.findall(r"(?:step|bench) \$?\w+ (\d+)", body[1])]
        repeated = 2 if "for tool in memcheck racecheck" in body[1] else 1
        assert sum(limits) + (repeated - 1) * 80 < 400, part
