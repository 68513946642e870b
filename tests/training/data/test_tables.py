"""The snapshot of the tables: whole, verifiable, and surviving a kill between its steps."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from shopsight.training.artifacts import snapshots
from shopsight.training.artifacts.snapshots import TablesError, read_snapshot, snapshot_sha256
from shopsight.training.data.tables import SCHEMAS, scan_table, write_tables


def _labels(*labels: str) -> pl.DataFrame:
    rows = {"message_id": [str(i) for i in range(len(labels))], "task": ["intent"] * len(labels)}
    return pl.DataFrame(
        {**rows, "label": list(labels), "split": [None] * len(labels)}, schema=SCHEMAS["labels"]
    )


def test_what_was_written_is_read_and_other_tables_stay(tmp_path: Path) -> None:
    write_tables(tmp_path, {"labels": _labels("a", "b")}, note={"rows": 2})
    answers = pl.DataFrame(schema=SCHEMAS["answers"])
    write_tables(tmp_path, {"answers": answers})
    assert scan_table(tmp_path, "labels").collect()["label"].to_list() == ["a", "b"]
    assert scan_table(tmp_path, "answers").collect().height == 0
    assert read_snapshot(tmp_path)["note"] == {"rows": 2}


def test_equal_content_gives_an_equal_hash_and_other_content_another(tmp_path: Path) -> None:
    hashes = []
    for name, labels in (("one", ("a", "b")), ("two", ("a", "b")), ("three", ("a", "c"))):
        write_tables(tmp_path / name, {"labels": _labels(*labels)})
        hashes.append(snapshot_sha256(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_kill_before_the_manifest_leaves_the_last_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables(tmp_path, {"labels": _labels("good")})

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshots, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tables(tmp_path, {"labels": _labels("half", "written")})
    monkeypatch.undo()
    assert scan_table(tmp_path, "labels").collect()["label"].to_list() == ["good"]
    write_tables(tmp_path, {"labels": _labels("next")})
    assert scan_table(tmp_path, "labels").collect()["label"].to_list() == ["next"]
    left = [pl.read_parquet(path)["label"].to_list() for path in (tmp_path / "labels").glob("*")]
    assert sorted(left) == [["good"], ["next"]]  # this process has opened the first


def test_a_full_disk_leaves_the_last_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path, {"labels": _labels("good")})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_tables(tmp_path, {"labels": _labels("more")})
    monkeypatch.undo()
    assert scan_table(tmp_path, "labels").collect()["label"].to_list() == ["good"]


def test_foreign_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TablesError, match="table labels"):
        write_tables(tmp_path, {"labels": pl.DataFrame({"message_id": ["1"]})})
    with pytest.raises(TablesError, match="run 'shopsight ingest"):
        scan_table(tmp_path, "labels")
