"""Logs that tell an order more than once, as when the page that thanks for it is loaded again."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.describing.validate import validate
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)
SOURCES = """format_version = 1
[[source]]
name = "log"
kind = "{kind}"
path = "{path}"
{more}
[source.columns]
source_id = "who"
order_id = "no"
item_id = "sku"
event = "what"
quantity = "qty"
price = "each"
timestamp = "at"
"""
HEAD = "at,what,who,no,sku,qty,each,page\n"
ORDER = "{at},purchase,{who},{no},a,2,30.5,{page}\n{at},purchase,{who},{no},b,1,20,{page}\n"
TWICE = (
    HEAD
    + ORDER.format(at="2025-06-14 10:01", who="M", no="T9", page=1)
    + ORDER.format(at="2025-06-15 09:00", who="M", no="T9", page=2)
)


def read(folder: Path, text: str, more: str, kind: str = "events") -> tuple[IngestReport, pl.DataFrame]:
    (folder / "log.csv").write_text(text)
    (folder / "s.toml").write_text(SOURCES.format(path="*.csv", more=more, kind=kind))
    workspace = Workspace(folder / "w")
    report = ingest(folder / "s.toml", workspace, KEY)
    events = scan_table(workspace.tables, "events").collect().sort("timestamp", "order_id", "item_id")
    return report, events


def money(events: pl.DataFrame) -> Decimal:
    return sum((row["quantity"] * row["price"] for row in events.iter_rows(named=True)), Decimal())


@pytest.mark.parametrize("kind", ["events", "orders"])
def test_each_line_of_a_repeated_order_counts_once(tmp_path: Path, kind: str) -> None:
    report, events = read(tmp_path, TWICE, "orders_repeat = true", kind)
    assert money(events) == 81 and report.refused == {"repeated_order": 2}
    assert [str(at)[:16] for at in events["timestamp"]] == ["2025-06-14 10:01"] * 2
    assert (report.read, report.accepted) == (4, 2)


def test_an_order_is_repeated_in_the_file_of_another_day(tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_text(HEAD + ORDER.format(at="2025-06-16 09:00", who="M", no="T9", page=3))
    report, events = read(tmp_path, TWICE, "orders_repeat = true")
    assert money(events) == 81 and report.refused == {"repeated_order": 4}


@pytest.mark.parametrize(
    "second",
    [
        ORDER.format(at="2025-06-15 09:00", who="M", no="T10", page=2),  # bought again
        ORDER.format(at="2025-06-15 09:00", who="N", no="T9", page=2),  # of another customer
        ORDER.format(at="2025-06-15 09:00", who="M", no="", page=2),  # of no order
        ORDER.format(at="2025-06-15 09:00", who="M", no="T9", page=2).replace(",2,30.5", ",3,30.5")
        .replace(",1,20", ",1,21"),  # more of the same
        ORDER.format(at="2025-06-14 10:01", who="M", no="T9", page=2),  # two lines of one event
        ORDER.format(at="2025-06-15 09:00", who="M", no="T9", page=2).replace("purchase", "return"),
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_kept(tmp_path: Path, second: str) -> None:
    first = ORDER.format(at="2025-06-14 10:01", who="M", no="T9", page=1)
    report, events = read(tmp_path, HEAD + first + second, "orders_repeat = true\nkeep_duplicates = true")
    assert events.height == 4 and report.refused == {}


def test_without_the_key_every_line_counts(tmp_path: Path) -> None:
    report, events = read(tmp_path, TWICE, "")
    assert money(events) == 162 and report.refused == {}


def test_validate_asks_where_lines_of_orders_come_again(tmp_path: Path) -> None:
    head = HEAD.replace("what", "event_type").replace("no,", "order_id,").replace("who", "user_id")
    head = head.replace("sku", "product_id").replace("qty", "quantity").replace("each", "price")
    (tmp_path / "log.csv").write_text(TWICE.replace(HEAD, head.replace("at,", "event_time,", 1)))
    said = "\n".join(validate([tmp_path / "log.csv"], tmp_path / "s.toml").lines)
    assert "2 of 4 rows tell a line of an order once more" in said
    assert "# orders_repeat = true" in (tmp_path / "s.toml").read_text()


def test_the_key_needs_an_order_and_an_item(tmp_path: Path) -> None:
    text = SOURCES.format(path="log.csv", more="orders_repeat = true", kind="events")
    (tmp_path / "s.toml").write_text(text.replace('order_id = "no"\n', ""))
    with pytest.raises(IngestError, match="orders_repeat needs columns for order_id and item_id"):
        load_sources(tmp_path / "s.toml")
