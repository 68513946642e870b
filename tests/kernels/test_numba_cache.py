"""Where compiled code is kept when a user has no home and the install cannot be written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shopsight.kernels import cpu

ROOT = Path(__file__).parents[2]
NOWHERE = "/proc/no-such-home"  # not even root can make a folder there
_COMPILE = """
import numba.core.caching as caching

def read_only(*_):
    raise OSError("the install is read-only")

for name in ("InTreeCacheLocator", "InTreeCacheLocatorFsAgnostic", "UserWideCacheLocator"):
    getattr(caching, name).ensure_cache_path = read_only
import numba, numpy as np
from shopsight.kernels import topk
found, _ = topk.topk(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 1, backend="cpu")
print(found.ravel().tolist(), numba.config.CACHE_DIR)
"""


def _compiled(**environment: str) -> tuple[str, str]:
    env = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "TMPDIR")
    }
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE], cwd=ROOT, env=env | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    numbers, _, folder = done.stdout.strip().partition("]")
    return numbers + "]", folder.strip()


def test_without_a_home_the_temporary_folder_keeps_compiled_code(tmp_path: Path) -> None:
    found, folder = _compiled(HOME=NOWHERE, TMPDIR=str(tmp_path))
    assert found == "[0, 1, 2]"
    own = tmp_path / f"shopsight-{os.getuid()}"
    assert Path(folder).is_relative_to(own) and list(Path(folder).rglob("*.nbi"))
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_where_nothing_can_be_written_each_process_compiles_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another user made the folder first, and may write there: it is not used.
    theirs = tmp_path / f"shopsight-{os.getuid()}"
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    assert _compiled(HOME=NOWHERE, TMPDIR=str(tmp_path)) == ("[0, 1, 2]", "")
    assert not list(theirs.iterdir())
    monkeypatch.setattr(cpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", NOWHERE)
    assert list(cpu._homes()) == [Path(NOWHERE)]
    theirs.rmdir()
    theirs.symlink_to(tmp_path)
    assert list(cpu._homes()) == [Path(NOWHERE)]
