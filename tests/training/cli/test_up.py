"""`shopsight up`: raw files to an answer; stops with what it asks; run again, it goes on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shopsight.serving import server
from shopsight.serving.pseudonym import KEY_FILE_VARIABLE
from shopsight.serving.repository import current_release
from shopsight.training.cli.main import app
from shopsight.training.pipeline import steps

HEADER = "order_id,customer_id,sku,quantity,price,currency,date\n"


def shop(folder: Path) -> Path:
    """Write the catalogue and the orders of 120 customers over a year, of two tastes."""
    draw, lines = random.Random(3), []
    for number in range(900):
        customer = draw.randrange(120)
        item = draw.randrange(12) + 12 * (customer % 2)
        when = f"2025-{draw.randrange(1, 13):02d}-{draw.randrange(1, 28):02d}T10:{draw.randrange(60):02d}:00Z"
        lines.append(f"o{number},c{customer},s{item},1,{4 + item}.50,EUR,{when}\n")
    raw = folder / "raw"
    raw.mkdir()
    (raw / "orders.csv").write_text(HEADER + "".join(lines))
    items = "".join(f"s{item},Thing {item},kind {item % 3},{4 + item}.50\n" for item in range(24))
    (raw / "products.csv").write_text("sku,title,category,price\n" + items)
    return raw


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key.json"))
    return tmp_path


@pytest.fixture
def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise server.TritonMissingError("no Triton here")

    monkeypatch.setattr(server, "find_triton", missing)


def up(folder: Path, *words: object) -> tuple[int, dict[str, Any], str]:
    where = ("--workspace", folder / "w", "--sources", folder / "sources.toml", "--json")
    done = CliRunner().invoke(app, [str(word) for word in ("up", *words, *where)])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.exit_code, json.loads(done.stdout), done.stderr


@pytest.mark.usefixtures("without_triton")
def test_raw_files_become_a_release_and_a_second_run_trains_nothing_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = shop(folder)
    code, first, told = up(folder, raw, "--no-serve")
    assert (code, first["questions"], first["release"]) == (0, [], 1)
    assert first["books"]["orders"] == 900
    assert {"profiles", "value", "recommend"} <= set(first["figures"])
    assert [line for line in told.splitlines() if " of 9  " in line][-1].startswith("7 of 9  publish")
    release = current_release(folder / "w" / "model_repository")
    assert release is not None and {"recommend", "profile", "insight"} <= set(release.models)

    monkeypatch.setattr(steps, "train", lambda *_: pytest.fail("trained again on the same tables"))
    code, again, _ = up(folder, raw, "--no-serve")
    assert (code, again["release"], set(again["figures"])) == (0, 2, set(first["figures"]))


def test_what_is_not_recognised_stops_it_before_anything_is_ingested(folder: Path) -> None:
    raw, other = shop(folder), folder / "notes.csv"
    other.write_text("colour,weather\nred,rain\n")
    code, result, told = up(folder, raw, other, "--no-serve")
    assert code == 1 and any("notes.csv: not recognised" in line for line in result["questions"])
    assert "run the same command again" in told
    assert (folder / "sources.toml").exists() and not (folder / "w" / "tables").exists()


def test_what_ingest_asks_stops_it_until_the_sources_file_answers(folder: Path) -> None:
    raw = shop(folder)
    sources = folder / "sources.toml"
    sources.write_text(
        'format_version = 1\n[[source]]\nname = "shop"\nkind = "orders"\npath = "raw/orders.csv"\n'
        '[source.columns]\norder_id = "order_id"\nsource_id = "customer_id"\nitem_id = "sku"\n'
        'timestamp = "when"\nquantity = "quantity"\nprice = "price"\n'
    )
    code, result, told = up(folder, raw, "--no-serve")
    assert code == 1 and "when" in " ".join(result["questions"])
    assert "answer in" in told and not (folder / "w" / "checkpoints").exists()


@pytest.mark.triton
def test_up_serves_and_answers(folder: Path) -> None:
    code, result, _ = up(folder, shop(folder))
    repository = folder / "w" / "model_repository"
    try:
        assert code == 0 and result["ask"].startswith(f"shopsight ask --repository {repository} --customer ")
        assert result["answer"]["recommendations"]
    finally:
        server.TritonServer.of(repository).stop()
