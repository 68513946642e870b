"""What the base installation lacks is told with the extra that brings it; the table agrees with pyproject."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shopsight.training.artifacts.checkout import ROOT
from shopsight.training.cli import doctor
from shopsight.training.cli.libraries import LIBRARIES, Library, named

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
OF_THE_BASE = ("ml_dtypes", "onnxruntime", "pydantic", "tokenizers")  # dependencies of typer and tritonclient
TRAINING_VERBS = (
    "train", "evaluate", "export", "learn-intents new.csv", "ingest sources.toml", "validate raw.csv",
    "check", "report", "experiment", "demo", "data list", "data make --out shop",
    "data adapt ml1m . --out shop", "plan --customers 5 --items 3", "identity review",
    "identity rules", "identity same 3f9c01ab77",
    "forget --source web --id-file raw.csv", "key renew --workspace w",
    "subject-access --source web --id-file raw.csv --out held.json",
)  # fmt: skip
BASE = """
import sys
for module in {blocked}: sys.modules[module] = None
from shopsight.training.cli.main import main
main()
"""


def on_base(words: str, folder: Path, blocked: set[str]) -> subprocess.CompletedProcess[str]:
    program = BASE.format(blocked=sorted(blocked))
    (folder / "raw.csv").write_text("id\n1\n")
    key = '{"key_id": "k", "secret": "' + "00" * 32 + '"}'
    (folder / "key.json").write_text(key)
    return subprocess.run(
        [sys.executable, "-c", program, *words.split()],
        cwd=folder,
        env={
            "PYTHONPATH": str(ROOT),
            "SHOPSIGHT_KEY_FILE": str(folder / "key.json"),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def blocked_by(*extras: str) -> set[str]:
    modules = {
        one.module.split(".")[0] for one in LIBRARIES if not one.extras or set(one.extras) & set(extras)
    }
    return modules - set(OF_THE_BASE)


@pytest.mark.parametrize("words", TRAINING_VERBS)
def test_a_training_verb_on_the_base_installation_names_the_extra(words: str, tmp_path: Path) -> None:
    done = on_base(words, tmp_path, blocked_by(*EXTRAS))
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert "pip install 'shopsight[train]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_search_without_ray_names_the_extra_for_jobs(tmp_path: Path) -> None:
    done = on_base("tune recommend", tmp_path, blocked_by("distributed"))
    assert done.returncode == 1
    assert "ray is not installed; remedy: pip install 'shopsight[distributed]'" in done.stderr


@pytest.mark.parametrize("words", ["--version", "--help", "releases", "status", "key create", "tune --help"])
def test_a_verb_of_the_base_installation_works_there(words: str, tmp_path: Path) -> None:
    done = on_base(words, tmp_path, blocked_by(*EXTRAS))
    assert "Traceback" not in done.stderr and "not installed" not in done.stderr


def test_every_library_of_an_extra_is_in_the_table_under_that_extra() -> None:
    of_extras = {
        (re.split(r"[\[<>=]", line)[0], extra)
        for extra, lines in EXTRAS.items()
        if extra not in ("dev", "serve")
        for line in lines
    }
    in_table = {
        pair for one in LIBRARIES for pair in zip(one.distributions, one.extras, strict=bool(one.extras))
    }
    assert in_table == of_extras


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda one: one.module)
def test_doctor_names_no_backend_whose_library_is_missing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == library.module else True)
    found = {one.part: one for one in doctor.examine().findings}
    line = found[library.distributions[0]]
    assert (line.found, line.ok, line.remedy) == ("not installed", False, library.remedy)
    backends = [one for part, one in found.items() if part.startswith("backend")]
    assert all(one.found.startswith("none: ") for one in backends if library.remedy == one.remedy)
    assert not any(one.ok and library.distributions[0] in one.found for one in backends)


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("numba", "kernels"), ("polars", "tables"), ("sklearn", "clustering"), ("torch", "language"),
        ("torchrec", "embedding"), ("fbgemm_gpu", "embedding"), ("nvidia.dali", "pictures"),
    ],
)  # fmt: skip
def test_a_missing_library_takes_its_backend_along(
    module: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSIGHT_BACKEND", "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else True)
    examined = doctor.examine()
    line = next(one for one in examined.findings if one.part == f"backend of {part}")
    library = named(module)
    assert library is not None and (line.ok, line.remedy) == (False, library.remedy)
    assert not (library.is_needed and examined.ready)


def test_doctor_counts_the_cpu_build_of_fbgemm(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"fbgemm-gpu-cpu": "1.8.0"}
    library = named("fbgemm_gpu")
    assert library is not None
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
    assert library.installed == "fbgemm-gpu-cpu 1.8.0"


def test_doctor_tells_a_backend_that_was_asked_for_and_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSIGHT_BACKEND", "tpu")
    examined = doctor.examine()
    assert not examined.ready
    assert any(
        one.part == "backend of kernels" and "SHOPSIGHT_BACKEND" in one.remedy for one in examined.findings
    )
