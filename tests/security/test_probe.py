"""The checks of a production server, run against the one at hand: known weaknesses alone are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shopsight.serving.probe import Probe
from shopsight.serving.repository import publish
from shopsight.serving.server_state import ServerState
from shopsight.serving.triton_environment import find_triton
from tests.serving.tiny_models import TinyShop

ROOT = Path(__file__).resolve().parents[2]
# What SECURITY.md says of the server that pip installs.
KNOWN = {
    "absurd shapes of numbers are refused",
    "classification of texts is refused",
    "nested arrays are refused",
    "large forms are refused",
}


@pytest.mark.triton
def test_the_bundled_server_fails_what_is_known_alone_and_is_brought_back(tmp_path: Path) -> None:
    publish(TinyShop(seed=1).write(tmp_path / "models", ("mf_retrieval", "recommend")), tmp_path / "repo")
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "shopsight.serving.supervisor", str(tmp_path / "repo"), "0", "0", "0"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert supervisor.stdout is not None
        with supervisor.stdout as lines:
            assert any(line == "ready\n" for line in lines)
        before = ServerState.read(tmp_path / "repo")
        assert before is not None
        probe = Probe(f"http://127.0.0.1:{before.http_port}", "recommend", "ITEM_ID", "HISTORY_TIME")
        findings = probe.run()
        failed = {finding.check for finding in findings if finding.problem}
        assert failed <= (set() if find_triton().is_native else KNOWN)
        probe.wait_until_ready()  # on the same port
        assert len(findings) > 12
    finally:
        supervisor.terminate()
        supervisor.wait(120)
