"""Every benchmark can be imported, and whatever it imports of ours, at whatever moment, is there."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.runner import BENCHMARKS, described
from shopsight.training.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
OURS = ("benchmarks", "kernels", "serving", "training")
FILES = sorted((ROOT / "benchmarks").rglob("*.py"))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports_of_ours(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import of ours in a file, those inside functions too; name may be empty."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] in OURS)


def _is_there(module: str, name: str) -> bool:
    try:
        if hasattr(importlib.import_module(module), name or "__name__"):
            return True
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        return (error.name or "").partition(".")[0] not in OURS  # a peer library that is not installed
    return True


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_a_benchmark_is_imported(path: Path) -> None:
    try:
        importlib.import_module(_module(path))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        pytest.skip(f"the peer library {error.name} is not installed")


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_what_a_benchmark_imports_of_ours_is_there(path: Path) -> None:
    missing = [f"{module}.{name}" for module, name in _imports_of_ours(path) if not _is_there(module, name)]
    assert not missing


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_says_what_it_measures_and_can_be_run(name: str) -> None:
    assert len(described()[name]) > 20
    shown = CliRunner().invoke(app, ["bench", name, "--help"])
    assert shown.exit_code == 0 and "shopsight bench als" in shown.output
    tree = ast.parse((ROOT / "benchmarks" / f"bench_{name}.py").read_text(encoding="utf-8"))
    assert "run" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_without_a_name_the_benchmarks_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert CliRunner().invoke(app, ["bench"]).exit_code == 0
    told = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == list(BENCHMARKS)
