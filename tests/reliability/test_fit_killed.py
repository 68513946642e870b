"""A fit killed at any moment goes on from its checkpoint and ends at the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DISK = {"memory_limit_gib": 0.00005}  # less than all at once would take, so that blocks go through files


@pytest.mark.parametrize(
    "settings", [{}, {"objective": "explicit"}, DISK], ids=["implicit", "explicit", "disk"]
)
def test_a_fit_killed_before_any_of_its_changes_ends_like_one_that_was_not(tmp_path, settings):
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.kill_fits", str(tmp_path), json.dumps(settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    steps = json.loads(done.stdout)
    assert [step for step in steps if not step["same"] or step["left"]] == []
    assert len(steps) > 12 and not steps[-1]["killed"]
    resumed = [step["resumed"] for step in steps]
    assert {f"resuming after epoch {n}" for n in (1, 2, 3)} <= set(resumed)
    assert resumed == sorted(resumed), "what was once written stays"


_FIT = """
import sys, threading
from pathlib import Path
from tests.reliability.test_fit_killed import CONFIG, data
from shopsight.training.recommend.mf.model import MatrixFactorization

def say(line):
    print(line, flush=True)
    if line.startswith("epoch 4"):
        threading.Event().wait()  # until it is killed

MatrixFactorization(CONFIG).fit(data(), checkpoint=Path(sys.argv[1]), progress=say)
"""
CONFIG = MFConfig(num_factors=16, num_epochs=8, backend="cpu")


def data():
    return sparse.random(400, 200, 0.05, format="csr", dtype=np.float32, random_state=0)


def test_a_fit_stopped_by_sigkill_goes_on_to_the_same_bits(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", _FIT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for line in child.stdout:
        if line.startswith("epoch 4"):
            break
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    lines: list[str] = []
    resumed = MatrixFactorization(CONFIG).fit(data(), checkpoint=tmp_path, progress=lines.append)
    assert any(line.startswith("resuming after epoch") for line in lines)
    whole = MatrixFactorization(CONFIG).fit(data(), checkpoint=tmp_path / "other")
    np.testing.assert_array_equal(resumed.user_factors, whole.user_factors)
    np.testing.assert_array_equal(resumed.item_factors, whole.item_factors)
