"""Several workers end where one does, a cut fit ends where an uncut one does, and workers may come and go."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from shopsight.training.recommend.embedding.checkpoint import last_good, weights
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.fitting import fit
from tests.training.recommend.embedding.small import CONFIG, asked, in_workers, task, tastes, ways

pytest.importorskip("torchrec")
SETTINGS = {
    "row": ways(CONFIG, "row_wise"),
    "column": ways(CONFIG, "column_wise"),
    "table": ways(CONFIG, "table_wise"),
    "sgd": ways(CONFIG, "row_wise", embedding_optimizer="sgd"),
}
CUT = ways(CONFIG, "row_wise", checkpoint_steps=3)
CUT_AFTER = 13  # steps; an epoch has ten


class Cut(Exception):  # noqa: N818 - what the test does to a fit
    """The fit is cut here."""


def _cut(_: Path, step: int) -> None:
    if step >= CUT_AFTER:
        raise Cut


def _fit(examples: Examples, config: Any, folder: Path, **more: Any) -> None:
    fitted = fit(task(examples, config, asked=asked(examples)), config.loop, folder, **more)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        (folder / "reports.json").write_text(json.dumps([asdict(report) for report in fitted.reports]))


def two_workers(root: Path) -> None:
    """All that two workers do, in one pair of processes."""
    examples = Examples.open(root / "data")
    for name, config in SETTINGS.items():
        _fit(examples, config, root / f"two-{name}")
    with pytest.raises(Cut):
        _fit(examples, CUT, root / "cut", on_checkpoint=_cut)
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        for name in ("one", "two", "three"):
            shutil.copytree(root / "cut", root / f"resumed-{name}")
    torch.distributed.barrier()
    _fit(examples, CUT, root / "resumed-two")


def three_workers(root: Path) -> None:
    """Goes on with three workers, whom no batch is divided by, from what two left."""
    _fit(Examples.open(root / "data"), CUT, root / "resumed-three")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    examples = tastes(folder / "data")
    in_workers(2, two_workers, folder)
    in_workers(3, three_workers, folder)
    for name, config in SETTINGS.items():
        if name in ("row", "sgd"):
            _fit(examples, config, folder / f"one-{name}")
    _fit(examples, CUT, folder / "resumed-one")
    return folder


def _furthest(one: Path, other: Path) -> float:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


def _figures(folder: Path) -> list[float]:
    reports = json.loads((folder / "reports.json").read_text())
    return [report["metrics"]["ndcg_at_5"] for report in reports]


@pytest.mark.parametrize(
    ("two", "one"), [("row", "row"), ("column", "row"), ("table", "row"), ("sgd", "sgd")]
)
def test_two_workers_end_where_one_does_however_tables_are_sharded(root: Path, two: str, one: str) -> None:
    assert _furthest(root / f"two-{two}", root / f"one-{one}") < 2e-4
    assert _figures(root / f"two-{two}") == pytest.approx(_figures(root / f"one-{one}"), abs=0.01)


def test_the_towers_learn_the_tastes(root: Path) -> None:
    figures = _figures(root / "one-row")
    assert figures[-1] > 0.6 > 0.25 + figures[0] / 10


def test_a_cut_fit_that_goes_on_ends_at_the_bits_of_one_that_was_not_cut(root: Path) -> None:
    assert last_good(root / "cut", None, print)[1]["position"]["step"] > 0  # in the middle of an epoch
    assert _furthest(root / "resumed-two", root / "two-row") == 0.0
    assert _figures(root / "resumed-two") == _figures(root / "two-row")


@pytest.mark.parametrize("workers", ["one", "three"])
def test_another_number_of_workers_goes_on_from_the_same_checkpoint(root: Path, workers: str) -> None:
    assert _furthest(root / f"resumed-{workers}", root / "two-row") < 2e-4
    assert _figures(root / f"resumed-{workers}") == pytest.approx(_figures(root / "two-row"), abs=0.01)


def test_a_sharded_checkpoint_holds_each_row_once(root: Path) -> None:
    manifest = last_good(root / "two-row", None, print)[1]
    shards = [entry["size_bytes"] for entry in manifest["files"] if entry["path"].endswith(".safetensors")]
    assert manifest["num_workers"] == 2 and len(shards) == 2
    assert max(shards) < 0.75 * sum(shards)
