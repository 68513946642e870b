"""Scripts from the field that assert what a model must answer, or their assertion by our interface."""

from __future__ import annotations

import json
import os
import re
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
CASES = ROOT.parent / "shared" / "cases" / "models"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases from the field are not at {CASES}"),
]
IN_PROCESS = (
    "01-bpr-small-catalogue",
    "04-validation-overlaps-train",
    "06-numpy-settings-cannot-be-saved",
    "09-duplicates-in-a-list",
    "13-user-without-interactions",
    "14-similar-to-an-item-nobody-touched",
    "15-new-items-incrementally",
    "17-k-beyond-what-is-left",
    "18-strided-and-readonly-arrays",
    "20-scaled-weights-against-float64",
    "21-cg-tolerance-is-absolute",
    "22-float16-overflow",
    "24-pickle-fork-versions",
    "32-beyond-2-to-the-31",
)
BY_COMMANDS = (
    "03-one-event-dated-2099",
    "25-ray-address-that-leads-nowhere",
    "30-tune-over-the-measure",
    "31-plan-with-odd-numbers",
    "33-ids-of-every-form",
)
_RUN_ALL = """
import json, runpy, sys
found = {}
for name in sys.argv[1:]:
    try:
        runpy.run_path(f"{name}.py")
    except SystemExit as ended:
        found[name] = str(ended.code or "")
    except BaseException as error:
        found[name] = f"{type(error).__name__}: {error}"
    else:
        found[name] = ""
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scripts run: they write beside themselves and call `.venv/bin/shopsight`."""
    made = tmp_path_factory.mktemp("models")
    for path in CASES.iterdir():
        # Their limits of time are those of a quiet machine.
        text = re.sub(r"timeout=\d+", f"timeout={HANG_SECONDS:.0f}", path.read_text(encoding="utf-8"))
        (made / path.name).write_text(text, encoding="utf-8")
    (made / ".venv").symlink_to(sys.prefix)
    (made / "work").mkdir()
    return made


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "OMP_NUM_THREADS": "1",
        "RAY_TMPDIR": str(folder),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, str]:
    """What each script that needs no command of ours came to: nothing where all its assertions hold."""
    done = _run(folder, "-c", _RUN_ALL, *IN_PROCESS)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    assert line is not None, done.stderr[-2000:]
    return dict(json.loads(line.removeprefix("FOUND ")))


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_script_of_the_library_holds(found: dict[str, str], name: str) -> None:
    assert found[name] == ""


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """The workspace that several scripts share."""
    made = "import shop; from pathlib import Path; shop.make(Path('work/plain'), shop.events())"
    done = _run(folder, "-c", made)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "work" / "plain" / "W"


@pytest.mark.parametrize("name", BY_COMMANDS)
def test_a_script_of_the_commands_holds(folder: Path, plain: Path, name: str) -> None:
    assert plain.is_dir()
    done = _run(folder, f"{name}.py")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["35-ranker-of-five-departments"])
def test_a_ranker_is_measured_as_it_was_trained(folder: Path, name: str) -> None:
    done = _run(folder, f"{name}.py")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_a_window_longer_than_the_data_is_refused(folder: Path, plain: Path) -> None:
    """34-nobody-to-judge: an error, not a recall of 0."""
    settings = ["--set", "recommend.test_days=1000", "--set", "recommend.factors=8"]
    done = _run(
        folder, "-m", "shopsight", "train", "recommend", "--workspace", str(plain), "--json", *settings
    )
    assert done.returncode == 1 and not done.stdout
    assert "test_days=1000: the events span" in done.stderr and "Traceback" not in done.stderr


def test_the_rating_that_a_new_user_would_give() -> None:
    """23-explicit-ratings-of-somebody-new, by `predict_new`: fold_in returns the factors alone."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 300, 6000), rng.integers(0, 40, 6000)
    user_bias, item_bias = rng.normal(0, 0.8, 300), rng.normal(0, 0.5, 40)
    ratings = sparse.csr_matrix((np.ones(6000, np.float32), (users, items)), shape=(300, 40))
    rated = ratings.tocoo()
    ratings.data[:] = np.clip(3 + user_bias[rated.row] + item_bias[rated.col], 1, 5)
    train, new = ratings[:250], ratings[250:]
    config = MFConfig(num_factors=4, objective="explicit", regularization=0.02, num_epochs=10)
    model = MatrixFactorization(config).fit(train)
    row = np.repeat(np.arange(50), np.diff(new.indptr))
    folded = model.predict_new(new)[row, new.indices]
    model.partial_fit(new, np.arange(250, 300))
    best = model.predict(np.arange(250, 300))[row, new.indices]
    error, least = (np.sqrt(np.mean((one - new.data) ** 2)) for one in (folded, best))
    assert error < 1.2 * least
