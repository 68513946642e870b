"""A publisher killed at any moment leaves the last good release, and the next publish works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shopsight.serving.repository import publish
from tests.serving.tiny_models import TinyShop
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("mf_retrieval", "recommend")


@pytest.mark.parametrize(("verb", "stride"), [("publish", 1), ("rollback", 4)])
def test_a_publisher_killed_before_any_of_its_steps_leaves_one_whole_release(
    tmp_path: Path, verb: str, stride: int
) -> None:
    for seed in (1, 2, 3):
        TinyShop(seed=seed).write(tmp_path / "models", only=MODELS)
        if seed < 3:
            publish(tmp_path / "models", tmp_path / "repository")
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.kill_at_every_step", str(tmp_path), verb, str(stride)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    steps = json.loads(done.stdout)
    assert [step for step in steps if step["problems"]] == []
    assert len(steps) * stride > 60
    assert not steps[-1]["killed"]
    currents = [step["current"] for step in steps]
    assert currents == sorted(currents), "once the pointer has moved, the new release stays"
    assert set(currents) == {2, 3}
