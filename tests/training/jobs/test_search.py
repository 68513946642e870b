"""What a search draws, stops early, leaves to read, and takes up again after it was cut."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.contract import read_json
from shopsight.training.artifacts.family import NobodyToEvaluate
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.jobs.space import applied, as_toml, check_space, draw
from shopsight.training.jobs.trials import run_trial
from shopsight.training.pipeline.families import FAMILIES
from shopsight.training.pipeline.overrides import ConfigError, overridden
from shopsight.training.pipeline.recipes import Recipe, recipe
from tests.training.jobs.cluster_process import ROOT, RayCluster
from tests.training.small_shop import event, tastes_shop, write_shop
from tests.waiting import HANG_SECONDS

DEFAULT = recipe("default")
SPACES = {family.name: family.search.space for family in FAMILIES if family.search}
SPACE = """
"recommend.factors" = [1, 16]
"recommend.unobserved_weights" = [[0.01], [0.1]]
"""
COMMAND = [
    sys.executable, "-m", "shopsight", "tune", "recommend", "--trials", "4", "--num-workers", "2", "--set",
    "recommend.iterations=4", "--json",
]  # fmt: skip


def test_equal_seeds_draw_equal_settings_and_more_of_them_add_to_them() -> None:
    for space in SPACES.values():
        few, many = draw(space, 3, 1, DEFAULT), draw(space, 8, 1, DEFAULT)
        assert many[:3] == few
        assert draw(space, 3, 2, DEFAULT) != few
        assert len({json.dumps(one) for one in many}) == 8


def test_ranges_are_kept_and_logarithmic_where_asked() -> None:
    key = "embedding.two_tower.loop.learning_rate"
    values = [one[key] for one in draw({key: {"low": 1e-4, "high": 1.0, "log": True}}, 400, 0, DEFAULT)]
    assert min(values) >= 1e-4 and max(values) <= 1.0
    assert 0.4 < sum(value < 1e-2 for value in values) / len(values) < 0.6  # half of the decades


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"recommend.factor": [1]}, "did you mean 'factors'"),
        ({"recommend.factors": []}, "expected \\[choices\\]"),
        ({"recommend.factors": {"low": 3, "high": 2}}, "low 3 must be below high 2"),
        ({"recommend.factors": [-1]}, "factors is -1"),
    ],
)
def test_a_space_that_cannot_be_is_refused_before_anything_runs(space: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        draw(space, 2, 0, DEFAULT)


@pytest.mark.parametrize(
    ("family", "space", "words"),
    [
        ("recommend", {"recommend.k": [1, 10]}, "changes the evaluation"),
        ("recommend", {"recommend.test_days": [7.0, 30.0]}, "changes the evaluation"),
        ("recommend", {"recommend.max_judged": [10, 1000]}, "changes the evaluation"),
        ("recommend", {"recommend.seed": [0, 1]}, "changes the evaluation"),
        ("embedding", {"embedding.k": [1, 10]}, "changes the evaluation"),
        ("embedding", {"embedding.two_tower.loop.seed": [0, 1]}, "changes the evaluation"),
        ("recommend", {"embedding.two_tower.dim": [16, 32]}, "a trial of recommend does not read it"),
        ("embedding", {"recommend.factors": [16, 32]}, "a trial of embedding does not read it"),
        ("embedding", {"embedding.ranker.dim": [16, 32]}, "a trial of embedding does not read it"),
        ("recommend", {"recommend.num_bootstraps": [16, 32]}, "a trial of recommend does not read it"),
        ("recommend", {"recommend.blend": [True, False]}, "a trial of recommend does not read it"),
        ("recommend", {"recommend.regularizations": [[0.1], [0.1, 0.2]]}, "a trial takes one value"),
        ("recommend", {}, "search space is empty"),
    ],
)
def test_a_space_whose_trials_cannot_be_compared_is_refused(
    family: str, space: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check_space(space, family)


@pytest.mark.parametrize("family", sorted(SPACES))
def test_our_own_spaces_hold_to_the_rules(family: str) -> None:
    check_space(SPACES[family], family)


@pytest.mark.parametrize("family", ["recommend", "embedding"])
def test_nobody_in_the_validation_window_is_said_before_anything_is_fitted(
    tmp_path: Path, family: str
) -> None:
    # Everybody bought on the first days and once on the last: nobody did in the window between.
    events = [event(f"c{n}", f"i{n % 3}", "purchase", day) for n in range(6) for day in (0.0, 1.0, 99.0)]
    workspace = write_shop(tmp_path, events, [{"item_id": f"i{n}"} for n in range(3)])
    with pytest.raises(NobodyToEvaluate, match="in the validation window"):
        run_trial(workspace, Recipe(), family, "t", tmp_path / "t.json", lambda *_: None)


def test_best_settings_are_a_file_that_a_training_takes(tmp_path: Path) -> None:
    for space in SPACES.values():
        (settings,) = draw(space, 1, 5, DEFAULT)
        (tmp_path / "best.toml").write_text(as_toml(settings, "why"))
        assert overridden(DEFAULT, toml_path=tmp_path / "best.toml") == applied(DEFAULT, settings)


@pytest.fixture(scope="module")
def searched(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A shop whose recommender was searched over, by the command."""
    workspace = tastes_shop(tmp_path_factory.mktemp("searched") / "shop")
    (workspace.root / "space.toml").write_text(SPACE)
    _tune(cluster, workspace)
    yield workspace


def _tune(cluster: RayCluster, workspace: Workspace) -> list[dict[str, object]]:
    command = [*COMMAND, "-w", str(workspace.root), "--space", str(workspace.root / "space.toml")]
    done = subprocess.run(
        command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_search_leaves_its_trials_readable_and_no_customer(searched: Workspace) -> None:
    out = searched.root / "searches" / "recommend"
    table = pl.read_parquet(out / "trials.parquet")
    assert table.height == 4
    assert table["best"].is_sorted(descending=True)
    assert set(table["status"]) <= {"finished", "stopped early"}
    assert "finished" in set(table["status"])
    epochs = pl.read_parquet(out / "epochs.parquet")
    assert epochs.group_by("name").len().sort("name")["len"].to_list() == (
        table.sort("name")["epochs"].to_list()
    )
    assert epochs.filter(pl.col("name") == table["name"][0])["score"].max() == table["best"][0]
    assert (out / "trials.png").stat().st_size > 1000
    best = overridden(DEFAULT, toml_path=out / "best.toml").recommend
    assert best.factors == table["recommend.factors"][0] == 16  # one factor cannot tell three tastes
    assert not (searched.checkpoints / "search" / "recommend").exists()


def test_a_cut_search_goes_on_from_what_its_trials_kept(cluster: RayCluster, searched: Workspace) -> None:
    out = searched.root / "searches" / "recommend"
    before = {path.name: read_json(path) for path in (out / "trials").glob("*.json")}
    names = sorted(before, key=lambda name: -len(before[name]["epochs"]))
    kept, lost = names[0], names[1:]
    marked = before[kept] | {"epochs": [row | {"seconds": 123.0} for row in before[kept]["epochs"]]}
    (out / "trials" / kept).write_text(json.dumps(marked))
    for name in lost:
        (out / "trials" / name).unlink()
    trials = {f"{trial['name']}.json": trial for trial in _tune(cluster, searched)}
    assert trials[kept]["seconds"] == 123.0  # told again, not fitted again
    assert len(trials) == 4 and all(trials[name]["epochs"] for name in lost)
