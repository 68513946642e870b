"""Every verb prints one JSON object with --json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE
from shopsight.training.cli.main import app
from shopsight.training.cli.options import JsonOption


def verbs(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, one in getattr(command, "commands", {}).items():
        yield from verbs(one, (*words, name))
    if words and not hasattr(command, "commands"):
        yield " ".join(words), command


VERBS = dict(verbs(typer.main.get_command(app)))


def said(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [str(word) for word in (*words, "--json")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    content = json.loads(done.stdout)
    assert isinstance(content, dict)
    return content


def test_the_walk_finds_the_verbs() -> None:
    assert {"ingest", "key create", "identity review", "data adapt", "serve", "bench"} <= set(VERBS)


@pytest.mark.parametrize("name", sorted(VERBS))
def test_a_verb_takes_json_as_a_flag(name: str) -> None:
    (option,) = [one for one in VERBS[name].params if "--json" in one.opts]
    assert option.is_flag and option.name == "as_json"
    assert option.help.startswith(JsonOption.__metadata__[0].help.split(" instead")[0])


def test_raw_files_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key.json"))
    assert said("key", "create") == {"key_file": str(tmp_path / "key.json")}
    raw, out = tmp_path / "orders.csv", tmp_path / "sources.toml"
    raw.write_text(
        "order_id,customer_id,sku,quantity,price,currency,date\n1,c1,s1,1,2.50,EUR,2024-01-01T00:00:00Z\n"
    )
    drafted = said("validate", raw, "--out", out)
    assert (drafted["sources"], drafted["written"], drafted["question"]) == (str(out), True, "")
    assert drafted["books"]["orders"] == 1 and any("orders.csv" in line for line in drafted["lines"])
    checked = said("validate", out)
    assert (checked["written"], checked["right"]) == (False, True)
    assert said("ingest", out, "--workspace", tmp_path / "w")["accepted"] == 1
    assert said("check", "--workspace", tmp_path / "w")["orders"] == 1


def test_the_list_of_benchmarks_as_json() -> None:
    assert "als" in said("bench")["benchmarks"]
