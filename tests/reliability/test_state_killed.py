"""A kill at any moment leaves tables, trained states and models whole, and the same work again succeeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.kill_states import VERBS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("verb", VERBS)
def test_a_process_killed_before_any_of_its_steps_leaves_the_last_good_state(
    tmp_path: Path, verb: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.kill_states", str(tmp_path), verb],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    steps = json.loads(done.stdout)
    assert [step for step in steps if step["problem"]] == []
    assert len(steps) > 5
    assert not steps[-1]["killed"]
