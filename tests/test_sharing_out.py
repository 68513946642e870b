"""The suite keeps a file in one process: a fixture of a module is made once, and not once per process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import _LONGEST, _TOGETHER, group_of

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("number", range(8))
def test_a_file_runs_in_one_process(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, testrun_uid: str, number: int
) -> None:
    shared = tmp_path_factory.getbasetemp().parent / f"processes-{testrun_uid}"
    shared.mkdir(exist_ok=True)
    (shared / f"{worker_id}-{number}").touch()
    assert {path.name.rpartition("-")[0] for path in shared.iterdir()} == {worker_id}


def test_files_that_share_a_server_are_one_group() -> None:
    parity, bad_input = (f"tests/whole_way/test_{name}.py::test_x[a::b]" for name in ("parity", "bad_input"))
    assert group_of(parity) == group_of(bad_input) != group_of("tests/whole_way/test_no_texts.py::test_x")
    jobs = {
        group_of(f"tests/training/jobs/test_{name}.py::test_x") for name in ("launch", "search", "deaths")
    }
    assert len(jobs) == 1
    assert (
        group_of("tests/training/recommend/mf/test_model.py::test_x")
        == "tests/training/recommend/mf/test_model.py"
    )


def test_every_group_that_is_named_is_there() -> None:
    for file in (*_LONGEST, *_TOGETHER):
        assert file in _TOGETHER.values() or (ROOT / file).exists(), file


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "whole_way").glob("test_*.py")), ids=lambda p: p.stem
)
def test_whoever_takes_the_served_shop_is_in_its_group(path: Path) -> None:
    takes = "served_shop" in path.read_text(encoding="utf-8")
    assert (group_of(f"tests/whole_way/{path.name}::test_x") == "the served shop") is takes
