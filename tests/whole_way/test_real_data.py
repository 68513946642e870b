"""Real data goes the same way through the same verbs: a gift shop's orders, and a corpus of questions."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.training.artifacts.workspace import Workspace
from tests.whole_way.conftest import QUICK, SHARED_DATA, Command

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.triton,
    pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the public data sets are not at {SHARED_DATA}"),
]


def test_online_retail_from_raw_file_to_answer(command: Command, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    command("data", "adapt", "online_retail", SHARED_DATA / "online_retail", "--out", tmp_path / "raw")
    report = command.json("ingest", tmp_path / "raw" / "sources.toml", "--workspace", workspace.root)
    orders = next(file for file in report["files"] if file["kind"] == "orders")
    assert orders["read"] == 541_909 == orders["accepted"] + orders["refused"]
    # Published: 5,268 lines repeat an earlier one; nothing else of this file is refused for that reason.
    assert report["refused"]["duplicate"] >= 5_268
    command.learn(workspace.root, QUICK)
    command.serve(workspace.root)
    try:
        events = pl.scan_parquet(workspace.tables / "events" / "*.parquet").filter(
            pl.col("event") == "purchase"
        )
        customer = events.drop_nulls("customer_id").select(pl.col("customer_id").first()).collect().item()
        insight = command.json("ask", "--workspace", workspace.root, "--customer", customer)
        assert insight["profile"]["segment"]
        assert {entry["reason_code"] for entry in insight["recommendations"]} == {"personal"}
        assert "understanding" not in insight
        # A channel's own id reaches the same customer: the file's customer numbers.
        by_number = command.json(
            "ask", "--workspace", workspace.root, "--source", "online_retail", "--source-id", "17850"
        )
        assert by_number["profile"]["segment"]
    finally:
        command("stop", "--workspace", workspace.root)


def test_clinc150_from_raw_file_to_answer(command: Command, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    command("data", "adapt", "clinc150", SHARED_DATA / "clinc150", "--out", tmp_path / "raw")
    report = command.json("ingest", tmp_path / "raw" / "sources.toml", "--workspace", workspace.root)
    assert report["read"] == 23_700
    command.learn(workspace.root, ["language.epochs=2", "language.least_steps=0"])
    command.serve(workspace.root)
    try:
        answer = command.json(
            "ask", "--workspace", workspace.root, "--message", "how do i change the oil in my car"
        )
        assert answer["understanding"]["intent"] == "oil_change_how"
    finally:
        command("stop", "--workspace", workspace.root)
