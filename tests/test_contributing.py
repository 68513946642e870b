"""The steps of CONTRIBUTING.md, followed in a copy of the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.small_shop import event, write_shop
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what is imported, without the code blocks of the guide."""
    for folder in ("kernels", "serving", "training", "model_repository"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder, ignore=ignored)
    shutil.copytree(ROOT / "shopsight", tmp_path / "copy" / "shopsight", symlinks=True)
    return tmp_path / "copy"


def _follow(copy: Path, section: str) -> None:
    """Write the code blocks of a section where their first lines say."""
    text = GUIDE.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```python\n# (\S+)( \(at the end\))?\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for path, at_the_end, code in blocks:
        target = copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.read_text(encoding="utf-8") if at_the_end else ""
        target.write_text(before + code, encoding="utf-8")


def _run(copy: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_family_is_its_folder_and_one_line(copy: Path, tmp_path: Path) -> None:
    _follow(copy, "Add a family of models")
    families = copy / "training" / "pipeline" / "families.py"
    text = families.read_text(encoding="utf-8")
    text = text.replace("EMBEDDING)", "EMBEDDING, WEEKDAYS)").replace(
        "from shopsight.training.value.family import FAMILY as VALUE\n",
        "from shopsight.training.value.family import FAMILY as VALUE\n"
        "from shopsight.training.weekdays.family import FAMILY as WEEKDAYS\n",
    )
    families.write_text(text, encoding="utf-8")
    events = [event("c1", "i1", "view", day) for day in (4.0, 11.0, 12.0)]  # 2026-01-05 is a Monday
    write_shop(tmp_path / "shop", events, [{"item_id": "i1"}])
    workspace = ("--workspace", str(tmp_path / "shop"), "--json", "--set", "weekdays.event=view")
    trained = _run(copy, "-m", "shopsight", "train", "weekdays", *workspace)
    assert '"events": 3' in trained and '"busiest_weekday": 1' in trained
    assert '"busiest_weekday": 1' in _run(copy, "-m", "shopsight", "evaluate", "weekdays", *workspace)


def test_a_new_operation_is_found_by_its_name(copy: Path) -> None:
    _follow(copy, "Add an operation to the kernels")
    code = """
import numpy as np
from shopsight.kernels.reference.row_norms import row_norms as truth
from shopsight.kernels.row_norms import row_norms
factors = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
np.testing.assert_allclose(row_norms(factors, backend="cpu"), truth(factors), rtol=1e-6)
print("equal")
"""
    assert _run(copy, "-c", code).strip() == "equal"


def test_a_new_endpoint_is_rendered_and_answers(copy: Path, tmp_path: Path) -> None:
    _follow(copy, "Add an endpoint")
    (copy / "model_repository" / "echo").mkdir()
    _run(copy, "-m", "shopsight.serving.router_configs")
    config = (copy / "model_repository" / "echo" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'input { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] allow_ragged_batch: true }' in config
    code = """
import sys
from pathlib import Path
import numpy as np
from shopsight.serving.readers import open_router
from shopsight.serving.routing.echo import EchoRouter
from shopsight.serving.routing.rows import Row
assert open_router(Path(sys.argv[1]), "echo") == []
(answer,) = EchoRouter(Path(sys.argv[1]), "7").answer([Row({"TEXT": np.array([b"hello"], object)})], None)
print(answer["ECHO"][0].decode(), answer["RELEASE"][0].decode())
"""
    assert _run(copy, "-c", code, str(tmp_path)).strip() == "hello 7"
