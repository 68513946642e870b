"""Cases of trainings that meet changed tables, another training, or the window they are judged on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT.parent / "shared" / "cases" / "models"
SHOPSIGHT = Path(sys.executable).with_name("shopsight")
pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not beside the checkout"),
    pytest.mark.skipif(not SHOPSIGHT.is_file(), reason="the command is not installed beside the interpreter"),
]


@pytest.mark.parametrize(
    "case", ["10-leak-report-cannot-fail", "11-cut-then-new-data", "12-two-trainings-at-once"]
)
def test_a_case_of_state_ends_with_the_right_value(tmp_path: Path, case: str) -> None:
    for path in CASES.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)  # where the cases look for the command
    (tmp_path / ".venv" / "bin" / "shopsight").symlink_to(SHOPSIGHT)
    done = subprocess.run(
        [sys.executable, f"{case}.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
