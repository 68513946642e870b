"""The synthetic shop: reproducible bytes, and raw files whose flaws are all on record."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.training.data.shop import ShopSpec, ShopSummary, chunk, make, make_shop
from shopsight.training.data.shop.raw import WEAKNESSES

REASONS = {
    "duplicate",
    "broken_utf8",
    "malformed_row",
    "missing_field",
    "unparsable_date",
    "negative_price",
    "unknown_item",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ShopSummary]:
    """A shop of three chunks, so that every file is appended to."""
    root = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        for module in (make, chunk):
            patch.setattr(module, "CHUNK", 110)
        summary = make_shop(ShopSpec(num_customers=300, seed=3), root / "raw", root / "truth")
    return root / "raw", root / "truth", summary


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_same_seed_gives_same_bytes_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from shopsight.training.data.shop import ShopSpec, make_shop;"
        "make_shop(ShopSpec(num_customers=200, seed=5), Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    for run in ("a", "b"):
        folders = [str(tmp_path / run / name) for name in ("raw", "truth")]
        subprocess.run([sys.executable, "-c", program, *folders], check=True, cwd=Path(__file__).parents[3])
    make_shop(ShopSpec(num_customers=200, seed=6), tmp_path / "c" / "raw", tmp_path / "c" / "truth")
    for name in ("raw", "truth"):
        assert digests(tmp_path / "a" / name) == digests(tmp_path / "b" / name)
    assert digests(tmp_path / "a/raw")["web_events.csv"] != digests(tmp_path / "c/raw")["web_events.csv"]


def lines_of(path: Path) -> list[bytes]:
    """Data rows as bytes, the header left out."""
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    return lines[1:] if path.suffix == ".csv" else lines


def parsed(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each row with its fields, or None where it cannot be parsed."""
    first_line = path.read_bytes().split(b"\n", 1)[0].decode()
    header = next(csv.reader([first_line])) if path.suffix == ".csv" else []
    for line in lines_of(path):
        text = line.decode("utf-8", errors="replace")
        if header:
            fields: list[str] = next(csv.reader([text]))
            yield line, dict(zip(header, fields, strict=True)) if len(fields) == len(header) else None
            continue
        try:
            yield line, json.loads(text)
        except json.JSONDecodeError:
            yield line, None


def looks_bad(
    line: bytes, row: dict[str, Any] | None, file: str, seen: set[bytes], items: set[str]
) -> str | None:
    """The obvious judgement of one row, one rule after the other."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "broken_utf8"
    if row is None:
        return "malformed_row"
    if line in seen:
        return "duplicate"
    seen.add(line)
    weak = WEAKNESSES[file]
    if row[weak.required] in ("", None):
        return "missing_field"
    if weak.date:
        try:
            datetime.fromisoformat(row[weak.date])
        except ValueError:
            return "unparsable_date"
    if weak.price and row[weak.price] not in ("", None) and float(row[weak.price]) < 0:
        return "negative_price"
    if weak.item and row[weak.item] not in ("", None) and row[weak.item] not in items:
        return "unknown_item"
    return None


def test_every_bad_row_is_on_record_and_no_good_row_looks_bad(shop: tuple[Path, Path, ShopSummary]) -> None:
    raw, truth, summary = shop
    catalogue = pl.read_parquet(truth / "items.parquet")
    items = set(catalogue["item_id"])
    bad = pl.read_parquet(truth / "bad_rows.parquet")
    planted = {(f, r): reason for f, r, reason in bad.iter_rows()}
    assert len(planted) == bad.height == sum(summary.bad_rows.values())
    found = {}
    for file in WEAKNESSES:
        seen: set[bytes] = set()
        for number, (line, row) in enumerate(parsed(raw / file), start=1):
            reason = looks_bad(line, row, file, seen, items)
            if reason:
                found[file, number] = reason
        assert number == summary.rows[file]
    assert found == planted
    assert set(found.values()) == REASONS


def test_every_file_has_each_flaw_that_it_can_have(shop: tuple[Path, Path, ShopSummary]) -> None:
    bad = pl.read_parquet(shop[1] / "bad_rows.parquet")
    for file, weak in WEAKNESSES.items():
        expected = {"duplicate", "broken_utf8", "malformed_row", "missing_field"}
        expected |= {"unparsable_date"} if weak.date else set()
        expected |= {"negative_price"} if weak.price else set()
        expected |= {"unknown_item"} if weak.item else set()
        assert set(bad.filter(file=file)["reason"]) == expected, file


def test_sources_file_names_every_raw_file_and_only_columns_that_exist(
    shop: tuple[Path, Path, ShopSummary],
) -> None:
    raw = shop[0]
    sources = tomllib.loads((raw / "sources.toml").read_text(encoding="utf-8"))["source"]
    assert sorted(s["path"] for s in sources) == sorted(WEAKNESSES)
    for source in sources:
        _, first = next(row for row in parsed(raw / source["path"]) if row[1] is not None)
        assert first is not None
        assert set(source["columns"].values()) <= set(first), source["path"]


def test_account_ids_are_unique_across_chunks(shop: tuple[Path, Path, ShopSummary]) -> None:
    truth = shop[1]
    identities = pl.read_parquet(truth / "identities.parquet")
    assert not identities.select("source", "source_id").is_duplicated().any()
    assert identities["person_id"].n_unique() == 300 == pl.read_parquet(truth / "people.parquet").height
    messages = pl.read_parquet(truth / "messages.parquet")
    assert messages["message_id"].n_unique() == messages.height


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no synthetic shop"):
        make_shop(ShopSpec(num_customers=60), tmp_path / "raw", tmp_path / "truth")
    assert [p.name for p in tmp_path.rglob("*")] == ["raw", "precious.txt"]


def test_a_failure_half_way_leaves_the_last_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_shop(ShopSpec(num_customers=60), tmp_path / "raw", tmp_path / "truth")
    before = digests(tmp_path / "raw") | digests(tmp_path / "truth")
    monkeypatch.setattr(make, "draw_messages", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_shop(ShopSpec(num_customers=60, seed=1), tmp_path / "raw", tmp_path / "truth")
    assert digests(tmp_path / "raw") | digests(tmp_path / "truth") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "truth"]


@pytest.mark.parametrize(
    "wrong", [{"num_customers": 10}, {"num_items": 5}, {"effect": 9.0}, {"bad_row_share": 0.5}]
)
def test_a_spec_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ShopSpec(**wrong)
