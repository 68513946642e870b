"""Mistakes that people make at the command line are told in one line with the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE, KeyExistsError, create_key
from shopsight.serving.server_errors import ServerNotRunningError
from shopsight.training.artifacts.checkout import ROOT
from shopsight.training.cli.main import app
from shopsight.training.pipeline.families import FAMILIES
from shopsight.training.privacy.subject_access import Held


def test_a_second_key_leaves_the_first_and_tells_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key.json"))
    first = create_key().read_bytes()
    with pytest.raises(KeyExistsError, match=r"key\.json holds a key already.*'shopsight key rotate'"):
        create_key()
    assert (tmp_path / "key.json").read_bytes() == first


def test_an_answer_to_a_customer_is_not_overwritten(tmp_path: Path) -> None:
    held = Held((), [], {}, [], {}, "2026-01-01")
    held.write(tmp_path / "held.json")
    with pytest.raises(FileExistsError, match=r"held\.json exists and stays as it is; name another .*--out"):
        held.write(tmp_path / "held.json")


@pytest.mark.parametrize(("name", "nearest"), [("alz", "als"), ("top-k", "topk"), ("ingst", "ingest")])
def test_an_unknown_benchmark_is_told_with_the_nearest(name: str, nearest: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.runner", name],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no benchmark '{name}'; did you mean '{nearest}'? there are: als, ")
    assert len(done.stderr.splitlines()) == 1


def test_help_names_the_families_from_their_descriptors() -> None:
    tune = " ".join(CliRunner().invoke(app, ["tune", "--help"], terminal_width=300).output.split())
    assert ", ".join(one.name for one in FAMILIES if one.search) in tune
    assert not any(f" {one.name}," in tune for one in FAMILIES if one.search is None)
    train = " ".join(CliRunner().invoke(app, ["train", "--help"], terminal_width=300).output.split())
    assert all(one.name in train for one in FAMILIES)


@pytest.mark.parametrize("made", [False, True])
def test_stop_without_a_server_says_that_nothing_was_stopped(made: bool, tmp_path: Path) -> None:
    where = tmp_path / "model_repository"
    if made:
        where.mkdir()
    done = CliRunner().invoke(app, ["stop", "--workspace", str(tmp_path)])
    assert done.exit_code == 1 and isinstance(done.exception, ServerNotRunningError)
    assert "there is nothing to stop" in str(done.exception)
    assert ("which is no folder" in str(done.exception)) is not made
    assert "shopsight serve" not in str(done.exception)
