"""The suite keeps a file in one process: a fixture of a module is made once, and not once per process."""

from __future__ import annotations

import pytest

from tests.conftest import group_of


@pytest.mark.parametrize("number", range(8))
def test_a_file_runs_in_one_process(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, testrun_uid: str, number: int
) -> None:
    shared = tmp_path_factory.getbasetemp().parent / f"processes-{testrun_uid}"
    shared.mkdir(exist_ok=True)
    (shared / f"{worker_id}-{number}").touch()
    assert {path.name.rpartition("-")[0] for path in shared.iterdir()} == {worker_id}


def test_a_folder_that_shares_a_server_is_one_group() -> None:
    assert group_of("tests/whole_way/test_parity.py::test_x[a::b]") == "tests/whole_way"
    assert group_of("tests/training/jobs/test_launch.py::test_x") == "tests/training/jobs"
    assert group_of("tests/training/test_mf.py::test_x") == "tests/training/test_mf.py"
