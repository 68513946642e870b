"""Readers keep the snapshot that they opened, writers take turns, and what is erased is gone at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.training.artifacts import locks
from shopsight.training.artifacts.locks import Busy, exclusive
from shopsight.training.artifacts.snapshots import one_snapshot, read_snapshot, snapshot_sha256, writing
from shopsight.training.data.tables import SCHEMAS, SnapshotWriter, rewrite_tables, scan_table, write_tables


def answers(*ids: str) -> pl.DataFrame:
    columns: dict[str, Any] = {name: [None] * len(ids) for name in SCHEMAS["answers"]}
    return pl.DataFrame(columns | {"answer_id": list(ids)}, schema=SCHEMAS["answers"])


def _ids(rows: pl.LazyFrame) -> list[str]:
    return rows.collect()["answer_id"].to_list()


def _parts(tables: Path) -> int:
    return len(list(tables.glob("*/part-*.parquet")))


def _in_other_process(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from tests.training.artifacts.test_snapshots import *; {code}",
         *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_lazy_reader_keeps_its_rows_whatever_is_committed(tmp_path: Path) -> None:
    write_tables(tmp_path, {"answers": answers("first")})
    opened = scan_table(tmp_path, "answers")
    for name in ("second", "third"):
        write_tables(tmp_path, {"answers": answers(name)})
        _in_other_process("write_tables(Path(sys.argv[1]), {'answers': answers('x')})", tmp_path)
    write_tables(tmp_path, {"answers": answers("last")})
    assert _ids(opened) == ["first"]
    assert _ids(scan_table(tmp_path, "answers")) == ["last"]


def test_what_nobody_reads_is_collected_at_the_next_commit(tmp_path: Path) -> None:
    for name in ("first", "second"):
        read = "scan_table(Path(sys.argv[1]), 'answers').collect()"
        write_tables(tmp_path, {"answers": answers(name)})
        _in_other_process(read, tmp_path)  # it has ended, and holds nothing any more
    write_tables(tmp_path, {"answers": answers("third")})
    assert _parts(tmp_path) == 1 and len(list((tmp_path / "snapshots").iterdir())) == 1


def test_a_part_that_two_snapshots_share_outlives_the_first(tmp_path: Path) -> None:
    write_tables(tmp_path, {"answers": answers("same")})
    write_tables(tmp_path, {"labels": pl.DataFrame(schema=SCHEMAS["labels"])})
    write_tables(tmp_path, {"labels": pl.DataFrame(schema=SCHEMAS["labels"])})
    assert _ids(scan_table(tmp_path, "answers")) == ["same"]


def test_all_that_a_training_reads_is_of_one_snapshot(tmp_path: Path) -> None:
    write_tables(tmp_path, {"answers": answers("old")})
    with one_snapshot(tmp_path) as sha256:
        write_tables(tmp_path, {"answers": answers("new")})
        assert _ids(scan_table(tmp_path, "answers")) == ["old"]
        assert snapshot_sha256(tmp_path) == sha256
        # A writer begins at what is present, not at what is being read.
        writer = SnapshotWriter(tmp_path)
        assert writer.sha256() != sha256
    assert _ids(scan_table(tmp_path, "answers")) == ["new"]
    assert snapshot_sha256(tmp_path) != sha256


def test_erasing_leaves_no_part_with_the_rows_even_if_it_is_read(tmp_path: Path) -> None:
    write_tables(tmp_path, {"answers": answers("stays", "goes")})
    opened = scan_table(tmp_path, "answers")
    write_tables(tmp_path, {"answers": answers("stays", "goes", "more")})
    assert rewrite_tables(tmp_path, {"answers": pl.col("answer_id") != "goes"}) == {"answers": 1}
    held = [pl.read_parquet(path)["answer_id"].to_list() for path in tmp_path.glob("answers/*.parquet")]
    assert held == [["stays", "more"]]
    with pytest.raises(FileNotFoundError):
        opened.collect()


def test_erasing_again_removes_what_an_old_snapshot_kept(tmp_path: Path) -> None:
    """The rows left the raw files before, and only a reader's snapshot still has them."""
    write_tables(tmp_path, {"answers": answers("goes")})
    scan_table(tmp_path, "answers")
    write_tables(tmp_path, {"answers": answers("stays")})
    assert _parts(tmp_path) == 2
    assert rewrite_tables(tmp_path, {"answers": pl.col("answer_id") != "goes"}) == {}
    assert _parts(tmp_path) == 1


def test_tables_of_an_earlier_release_are_read_and_replaced(tmp_path: Path) -> None:
    write_tables(tmp_path, {"answers": answers("kept")})
    manifest = read_snapshot(tmp_path) | {"format_version": 1}
    (tmp_path / "snapshot.json").write_text(json.dumps(manifest))
    assert _ids(scan_table(tmp_path, "answers")) == ["kept"]
    write_tables(tmp_path, {"labels": pl.DataFrame(schema=SCHEMAS["labels"])})
    assert _ids(scan_table(tmp_path, "answers")) == ["kept"]
    assert json.loads((tmp_path / "snapshot.json").read_text())["format_version"] == 2


def _write_when_told(tables: Path, name: str, go: Any, said: Any) -> None:
    go.wait()
    with writing(tables, f"ingest {name}", said.put):
        writer = SnapshotWriter(tables)
        for number in range(20):
            writer.add("answers", answers(f"{name}-{number}"))
        writer.commit()


def test_two_writers_at_once_take_turns_and_both_end_well(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    go, said = spawn.Event(), spawn.Queue()
    writers = [spawn.Process(target=_write_when_told, args=(tmp_path, n, go, said)) for n in ("a", "b")]
    for writer in writers:
        writer.start()
    go.set()
    for writer in writers:
        writer.join(300)
    assert [writer.exitcode for writer in writers] == [0, 0]
    ids = _ids(scan_table(tmp_path, "answers"))
    assert len(ids) == 20 and len({one.split("-")[0] for one in ids}) == 1
    assert _parts(tmp_path) == 20


def _hold(path: Path, ready: Any) -> None:
    with exclusive(path, "ingest of all"):
        ready.set()
        signal.pause()


def test_a_second_is_told_who_holds_the_lock_and_a_dead_holder_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "GRACE_SECONDS", 0.0)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    holder = spawn.Process(target=_hold, args=(tmp_path / ".lock", ready))
    holder.start()
    assert ready.wait(300)
    with pytest.raises(Busy, match=rf"'ingest of all' is under way \(process {holder.pid} on .*, since 20"):
        exclusive(tmp_path / ".lock", "train").__enter__()
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with exclusive(tmp_path / ".lock", "train"):
        pass
