"""A small messy shop of our own goes the whole way on any machine."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.artifacts.workspace import Workspace
from tests.whole_way.conftest import QUICK, ROOT, Command


@pytest.mark.triton
def test_the_messy_shop_goes_the_whole_way(command: Command, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    sources = ROOT / "tests" / "fixtures" / "messy_shop" / "sources.toml"
    report = command.json("ingest", sources, "--workspace", workspace.root)
    refused = pl.read_parquet(workspace.quarantine / "*.parquet")
    assert report["accepted"] + refused.height == report["read"]
    assert all(file["accepted"] + file["refused"] == file["read"] for file in report["files"])
    command.learn(workspace.root, [*QUICK, "profiles.num_segments=2"])
    command.serve(workspace.root)
    try:
        customer = pl.read_parquet(workspace.tables / "customers" / "*.parquet")["customer_id"][0]
        insight = command.json(
            "ask", "--workspace", workspace.root, "--customer", customer, "--message", "hello"
        )
        assert insight["release"] == "1"
        assert insight["recommendations"] and insight["understanding"]["intent"]
        command("report", "--workspace", workspace.root)
        page = (workspace.reports / "report.html").read_text(encoding="utf-8")
        assert "Customer segments" in page and "Data quality" in page
    finally:
        command("stop", "--workspace", workspace.root)
    assert read_snapshot(workspace.tables)["tables"]["events"]["rows"] > 0
