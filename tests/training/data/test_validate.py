"""validate: a first sources file for files nobody has described, on which ingest runs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.describing.validate import validate
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import ingest
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)


def test_common_exports_are_recognised_and_ingested(tmp_path: Path) -> None:
    (tmp_path / "retail.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,Heart,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n"
        "C536379,85123A,Heart,-1,2010-12-02 08:26:00,2.55,17850,United Kingdom\n"
    )
    (tmp_path / "web_clicks.jsonl").write_text(
        '{"timestamp":1433221332117,"visitorid":257597,"event":"addtocart","itemid":355908}\n'
        '{"timestamp":1433224214164,"visitorid":992329,"event":"view","itemid":248676}\n'
    )
    (tmp_path / "tickets.csv").write_text("ticket_id,message,intent\nt1,Where is it?,delivery\n")
    pl.DataFrame({"user_id": [1], "email": ["a@x.example"], "first_name": ["A"]}).write_parquet(
        tmp_path / "users.parquet"
    )
    out = tmp_path / "sources.toml"
    lines = validate([p for p in sorted(tmp_path.iterdir()) if p != out], out).lines
    kinds = {(s.path, s.kind) for s in load_sources(out)}
    assert kinds == {
        ("retail.csv", "orders"),
        ("retail.csv", "items"),
        ("web_clicks.jsonl", "events"),
        ("tickets.csv", "messages"),
        ("users.parquet", "customers"),
    }
    assert any(line.startswith("web_clicks.jsonl: events of web") for line in lines)
    workspace = Workspace(tmp_path / "w")
    # Order lines are no catalogue, so clicks on what nobody bought stay.
    ingest(out, workspace, KEY)
    events = scan_table(workspace.tables, "events").collect()
    assert sorted(events["event"].to_list()) == ["cart", "purchase", "return", "view"]


def test_event_words_are_translated_and_unknown_ones_left_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "web.csv"
    path.write_text(
        "user_id,action,time,sku\n1,pageview,2024-01-01,a\n1,wishlist,2024-01-01,a\n1,Refund,2024-01-01,a\n"
    )
    validate([path], tmp_path / "s.toml")
    (source,) = load_sources(tmp_path / "s.toml")
    assert source.values == {"event": {"Refund": "return", "pageview": "view"}}
    assert '# "wishlist"' in (tmp_path / "s.toml").read_text()


def test_what_is_not_recognised_is_said_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(IngestError, match=r"odd\.csv: not recognised; its columns are a, b"):
        validate([path], tmp_path / "s.toml")
    assert not (tmp_path / "s.toml").exists()
    (tmp_path / "s.toml").write_text("mine")
    with pytest.raises(IngestError, match="exists"):
        validate([path], tmp_path / "s.toml")
    assert (tmp_path / "s.toml").read_text() == "mine"
