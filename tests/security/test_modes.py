"""What a verb writes is for who runs it alone, whatever the shell's umask says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE
from tests.training.privacy.raw_shop import write_raw


def test_a_workspace_is_its_owner_s_alone(tmp_path: Path) -> None:
    sources, workspace = write_raw(tmp_path / "raw", 12), tmp_path / "workspace"
    environment = os.environ | {KEY_FILE_VARIABLE: str(tmp_path / "key.json")}
    verbs = [
        ["key", "create"],
        ["ingest", str(sources), "--workspace", str(workspace)],
        ["train", "profiles", "--workspace", str(workspace)],
        ["report", "--workspace", str(workspace)],
    ]
    for verb in verbs:
        subprocess.run(
            [sys.executable, "-m", "shopsight", *verb],
            env=environment,
            umask=0o022,
            check=True,
            capture_output=True,
        )
    made = [workspace, *workspace.rglob("*")]
    assert len(made) > 20 and {"tables", "checkpoints", "reports"} <= {path.name for path in made}
    for path in made:
        assert path.stat().st_mode & 0o077 == 0, path
