"""Files that were read are not read again; what is added later gives the tables that all at once would."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data import events, intake
from shopsight.training.data.ingest import ingest
from shopsight.training.data.reading import records
from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.data.tables import SCHEMAS, scan_table

KEY = PseudonymKey("test", b"k" * 32)
SOURCES = """format_version = 1
[[source]]
name = "web"
kind = "events"
path = "web"
[source.columns]
source_id = "who"
item_id = "item"
event = "what"
timestamp = "at"
session_id = "visit"
"""


def write_day(folder: Path, day: int, rows: int = 300) -> Path:
    """A day of visits by 40 people; every day begins with ten rows of the day before."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_line(day - 1, i) for i in range(rows - 10, rows)] + [_line(day, i) for i in range(rows)]
    path = folder / f"day-{day:02d}.csv"
    path.write_text("who,item,what,at,visit\n" + "\n".join(lines) + "\n")
    return path


def _line(day: int, i: int) -> str:
    return f"u{i % 40},i{i % 7},view,2024-05-{day:02d} 10:{i // 60:02d}:{i % 60:02d},s{i % 40}"


def shop(root: Path) -> tuple[Path, Workspace]:
    root.mkdir()
    (root / "sources.toml").write_text(SOURCES)
    return root / "sources.toml", Workspace(root / "workspace")


def content(workspace: Workspace) -> dict[str, pl.DataFrame]:
    """Every table but for what says when people came: customer_id is handed out then, valid_from is then."""
    tables = {name: scan_table(workspace.tables, name).collect() for name in SCHEMAS}
    return {
        name: frame.select(pl.exclude("customer_id", "valid_from")).sort(pl.all())
        for name, frame in tables.items()
    }


@pytest.mark.parametrize("order", [(2, 3, 4), (4, 2, 3), (3, 4, 2)])
def test_the_order_of_adding_files_does_not_matter(tmp_path: Path, order: tuple[int, ...]) -> None:
    sources, workspace = shop(tmp_path / "added")
    for day in order:
        write_day(tmp_path / "added" / "web", day)
        ingest(sources, workspace, KEY)
    all_sources, at_once = shop(tmp_path / "at_once")
    for day in (2, 3, 4):
        write_day(tmp_path / "at_once" / "web", day)
    report = ingest(all_sources, at_once, KEY)
    assert report.read == 930 and report.refused == {"duplicate": 20}
    ours, theirs = content(workspace), content(at_once)
    for name in SCHEMAS:
        assert ours[name].equals(theirs[name]), name


def test_a_new_file_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, workspace = shop(tmp_path / "shop")
    old = write_day(tmp_path / "shop" / "web", 2)
    ingest(sources, workspace, KEY)
    new = write_day(tmp_path / "shop" / "web", 3)
    opened = []
    read_chunks = intake.read_chunks

    def watched(source: Any, path: Path) -> Any:
        opened.append(path.name)
        return read_chunks(source, path)

    monkeypatch.setattr(intake, "read_chunks", watched)
    report = ingest(sources, workspace, KEY)
    assert opened == [new.name] and report.read == 620
    # A file that changed is read again, and replaces what it said before.
    old.write_text(old.read_text().replace("u1,", "u999,"))
    report = ingest(sources, workspace, KEY)
    assert opened == [new.name, old.name] and not report.unchanged
    assert len(list((workspace.intake).glob("[!.]*/entry.json"))) == 2


def test_the_same_files_again_are_known_and_nothing_is_written(tmp_path: Path) -> None:
    sources, workspace = shop(tmp_path / "shop")
    path = write_day(tmp_path / "shop" / "web", 2)
    first = ingest(sources, workspace, KEY)
    before = {p: p.stat().st_mtime_ns for p in workspace.tables.rglob("*.*")}
    path.touch()  # another time of change, the same bytes
    again = ingest(sources, workspace, KEY)
    assert again.unchanged and again.snapshot_sha256 == first.snapshot_sha256
    assert (again.files, again.refused, again.flagged) == (first.files, first.refused, first.flagged)
    assert {p: p.stat().st_mtime_ns for p in workspace.tables.rglob("*.*")} == before
    # Tables that were lost are made again, to the byte, without the raw files being parsed.
    shutil.rmtree(workspace.tables)
    assert ingest(sources, workspace, KEY).snapshot_sha256 == first.snapshot_sha256


def test_a_deleted_intake_costs_time_and_nothing_else(tmp_path: Path) -> None:
    sources, workspace = shop(tmp_path / "shop")
    write_day(tmp_path / "shop" / "web", 2)
    first = ingest(sources, workspace, KEY)
    shutil.rmtree(workspace.intake)
    write_day(tmp_path / "shop" / "web", 3)
    ingest(sources, workspace, KEY)
    (tmp_path / "shop" / "web" / "day-03.csv").unlink()
    assert ingest(sources, workspace, KEY).snapshot_sha256 == first.snapshot_sha256


def test_many_small_parts_and_blocks_hold_what_one_of_each_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shop(ShopSpec(num_customers=150, seed=4), tmp_path / "raw", tmp_path / "truth")
    whole, small = Workspace(tmp_path / "whole"), Workspace(tmp_path / "small")
    one = ingest(tmp_path / "raw" / "sources.toml", whole, KEY)
    monkeypatch.setattr(events, "ROWS_PER_PART", 1_000)
    monkeypatch.setattr(records, "BLOCK_BYTES", 40_000)
    monkeypatch.setattr(intake, "_FRESH_ROWS", 2_000)
    many = ingest(tmp_path / "raw" / "sources.toml", small, KEY)
    assert len(list((small.tables / "events").glob("part-*"))) >= 8
    assert (many.refused, many.tables, many.flagged) == (one.refused, one.tables, one.flagged)
    for name in SCHEMAS:
        ours, theirs = (scan_table(w.tables, name).collect().sort(pl.all()) for w in (small, whole))
        assert ours.equals(theirs), name


def test_the_intake_is_for_its_owner_alone(tmp_path: Path) -> None:
    sources, workspace = shop(tmp_path / "shop")
    write_day(tmp_path / "shop" / "web", 2)
    ingest(sources, workspace, KEY)
    for path in (workspace.intake, *workspace.intake.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_event_ids_cannot_be_made_without_the_key(tmp_path: Path) -> None:
    """An id hashed without a key would let anyone try out who a row is about."""
    ids = []
    for name, key in (("a", KEY), ("b", PseudonymKey("other", b"o" * 32)), ("c", KEY)):
        sources, workspace = shop(tmp_path / name)
        write_day(tmp_path / name / "web", 2)
        ingest(sources, workspace, key)
        ids.append(set(scan_table(workspace.tables, "events").collect()["event_id"]))
    assert ids[0] == ids[2] and not ids[0] & ids[1] and len(ids[0]) == 310
    rotated = PseudonymKey("new", b"n" * 32, renews=KEY)
    sources, workspace = shop(tmp_path / "d")
    write_day(tmp_path / "d" / "web", 2)
    ingest(sources, workspace, rotated)
    assert set(scan_table(workspace.tables, "events").collect()["event_id"]) == ids[0]


def test_a_file_of_a_header_alone_beside_others_is_empty_and_no_mistake(tmp_path: Path) -> None:
    sources, workspace = shop(tmp_path / "shop")
    write_day(tmp_path / "shop" / "web", 2)
    (tmp_path / "shop" / "web" / "day-01.csv").write_text("who,item,what,at,visit\n")
    report = ingest(sources, workspace, KEY)
    assert [file.read for file in report.files] == [0, 310] and report.tables["events"] == 310
