"""Exports as they come out of shop systems and programs: every row is read, or refused with its reason."""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.describing.validate import validate
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.reading.chunks import Chunk
from shopsight.training.data.reading.readers import header_of, read_chunks
from shopsight.training.data.reading.records import guess_encoding
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import scan_table

CASES = Path(__file__).parents[3] / "shared" / "cases" / "ingest"
KEY = PseudonymKey("test", b"k" * 32)
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases from the field are not at {CASES}"),
]

ORDERS = """format_version = 1
[[source]]
name = "shop"
kind = "orders"
path = "{path}"
[source.columns]
source_id = "customer_id"
order_id = "order_id"
line_id = "line_no"
item_id = "sku"
quantity = "quantity"
price = "unit_price"
timestamp = "ordered_at"
[[source]]
name = "shop"
kind = "items"
path = "{path}"
derived = true
[source.columns]
item_id = "sku"
title = "title"
"""


def read(folder: Path, case: str, sources: str) -> tuple[IngestReport, Workspace]:
    """Ingest the files of a case by a sources file."""
    shutil.copytree(CASES / case, folder / "raw")
    (folder / "raw").chmod(0o755)
    (folder / "raw" / "sources.toml").write_text(sources)
    workspace = Workspace(folder / "w")
    return ingest(folder / "raw" / "sources.toml", workspace, KEY), workspace


def table(workspace: Workspace, name: str) -> pl.DataFrame:
    return scan_table(workspace.tables, name).collect()


def reasons(workspace: Workspace) -> dict[str, str]:
    """The first field of each refused row, and its reason."""
    rows = pl.read_parquet(workspace.quarantine / "refused.parquet").select("raw", "reason").iter_rows()
    return {raw.split(",")[0]: reason for raw, reason in rows}


def test_a_review_of_two_lines_is_read_and_the_shop_s_reply_is_not(tmp_path: Path) -> None:
    raw = tmp_path / "judgeme_reviews.csv"
    shutil.copy(CASES / "15-judgeme" / raw.name, raw)
    validate([raw], tmp_path / "s.toml")
    workspace = Workspace(tmp_path / "w")
    report = ingest(tmp_path / "s.toml", workspace, KEY)
    assert (report.read, report.refused) == (4, {})
    messages = scan_table(workspace.tables, "messages").collect().sort("timestamp")
    assert messages["text"].to_list() == [
        "Warm and light.\nWould buy again, 10/10", "Zu klein ausgefallen", "buy followers www.spam.example",
        "Fast delivery",
    ]  # fmt: skip
    assert messages["rating"].to_list() == [5, 2, 5, 5]


def test_quotes_as_spark_writes_them(tmp_path: Path) -> None:
    expected = json.loads((CASES / "14b-spark-backslash" / "expected.json").read_text())
    report, workspace = read(tmp_path, "14b-spark-backslash", ORDERS.format(path="part-00000.csv"))
    events = table(workspace, "events")
    assert (report.read, report.accepted) == (expected["rows"], expected["rows"])
    assert (events["price"] * events["quantity"]).sum() == Decimal(expected["revenue"])
    assert events["customer_id"].n_unique() == expected["customers"]
    row = events.filter(pl.col("line_id") == "10").row(0, named=True)
    assert (row["order_id"], row["quantity"]) == (expected["row10"]["order"], expected["row10"]["qty"])
    assert row["price"] == Decimal(expected["row10"]["price"])
    assert f"{row['timestamp']:%Y-%m-%d %H:%M:%S}" == expected["row10"]["ordered_at"]
    assert 'Shelf 24" oak' in pl.read_csv(CASES / "14b-spark-backslash" / "part-00000.csv", quote_char=None)[
        "title"
    ].str.strip_chars('"').str.replace("\\", "", literal=True)


def test_a_dirty_file_keeps_its_good_lines_and_says_why_of_the_others(tmp_path: Path) -> None:
    report, workspace = read(tmp_path, "14-dirty-csv", ORDERS.format(path="orders.csv"))
    events = table(workspace, "events").sort("order_id", "line_id")
    assert [(o, line, int(q), float(p)) for o, line, q, p in events.select(
        "order_id", "line_id", "quantity", "price").rows()] == [
        ("D1", "1", 1, 10.0), ("D1", "2", 2, 5.0), ("D10", "1", 1, 13.0), ("D2", "1", 1, 20.0),
        ("D3", "1", 1, 7.0), ("D8", "1", 1, 11.0),
    ]  # fmt: skip
    titles = dict(table(workspace, "items").select("item_id", "title").iter_rows())
    assert titles["S1"] == 'Shelf 24" wide, oak' and titles["S2"] == 'Pipe 3/4" brass'
    assert titles["S3"].splitlines() == ['Lamp, "Nova"', "second line of the title"]
    assert titles["S4"] == 'Backslash " quote'
    assert reasons(workspace) == {
        "D4": "malformed_row", "D5": "malformed_row", "order_id": "repeated_header", "D6": "broken_utf8",
        "D7": "unusable_id", "": "missing_field", "D9": "unclosed_quote", "Total": "total_row",
    }  # fmt: skip
    assert report.accepted + sum(report.refused.values()) == report.read == 14
    (orders,) = (file for file in report.files if file.kind == "orders")
    assert orders.extent is not None
    assert (orders.extent.lines, orders.extent.blank, orders.extent.joined) == (16, 1, 1)


def test_one_bad_byte_costs_its_own_row(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    shutil.copytree(CASES / "14c-one-bad-byte", folder)
    folder.chmod(0o755)
    validate([folder / "customers.csv"], folder / "sources.toml")
    workspace = Workspace(tmp_path / "w")
    report = ingest(folder / "sources.toml", workspace, KEY)
    assert report.refused == {"broken_utf8": 1}
    assert dict(table(workspace, "customers").group_by("city").len().iter_rows()) == {"Köln": report.accepted}
    assert report.accepted + 1 == report.read


def chunks(case: str, name: str, columns: dict[str, str], **how: str) -> list[Chunk]:
    path = CASES / case / name
    source = Source("s", "orders", name, path.parent, columns=columns, **how)  # type: ignore[arg-type]
    return list(read_chunks(source, path))


def test_notes_before_the_header_are_left_out() -> None:
    columns = {"order_id": "order id", "item_id": "sku", "event": "type"}
    (chunk,) = chunks("05-amazon-daterange", "2025SepMonthlyTransaction.csv", columns)
    assert chunk.rows.select("event", "item_id").rows() == [
        ("Order", "MUG-B"), ("Refund", "MUG-B"), ("Service Fee", ""),
    ]  # fmt: skip
    assert chunk.notes == ("header found on line 5, 4 lines before it left out",)
    probe = Source("s", "messages", "x", CASES)
    header = header_of(probe, CASES / "05-amazon-daterange" / "2025SepMonthlyTransaction.csv")
    assert header[:3] == ["date/time", "settlement id", "type"] and len(header) == 22


@pytest.mark.parametrize(
    ("name", "order", "encoding"),
    [
        ("bestellungen.csv", "Bestellnummer", "utf-8"),
        ("orders-2025-04.csv", "Order Number", "cp1252"),
    ],
)
def test_a_german_export_and_its_row_of_totals(name: str, order: str, encoding: str) -> None:
    assert (guess_encoding(CASES / "07-woo-german" / name) or "utf-8") == encoding
    (chunk,) = chunks("07-woo-german", name, {"order_id": order}, encoding=encoding)
    assert chunk.rows["order_id"].to_list() == ["4711", "4711", "4712", "4713", "4714"]
    assert chunk.refused["reason"].to_list() == ["total_row"] and "Summe" in chunk.refused["raw"][0]


def test_quotes_in_a_file_that_quotes_nothing() -> None:
    columns = {"order_id": "amazon-order-id", "item_id": "product-name"}
    (chunk,) = chunks("04-amazon-orders-tsv", "1234567890123.txt", columns)
    assert chunk.rows["item_id"][0] == 'Wool "Alpine" Blanket 5" hem' and chunk.rows.height == 4


def test_a_chinese_export_is_recognised() -> None:
    for name in ("ExportOrderList202506201030.csv", "ExportOrderDetailList202506201030.csv"):
        assert guess_encoding(CASES / "06-taobao-gbk" / name) == "gb18030"
    columns = {"order_id": "订单编号", "source_id": "买家会员名", "channel": "收货地址"}
    (chunk,) = chunks("06-taobao-gbk", "ExportOrderList202506201030.csv", columns, encoding="gb18030")
    assert (
        chunk.rows["source_id"].to_list() == ["tb_lan88", "tb_lan88", "wang_q"] and chunk.refused.is_empty()
    )


@pytest.mark.parametrize("name", ["orders_utf16.txt", "orders.xlsx"])
def test_a_workbook_and_utf_16_are_read(name: str) -> None:
    if name.endswith("xlsx"):
        pytest.importorskip("fastexcel")
    columns = {"order_id": "order_id", "price": "unit_price", "timestamp": "created_at"}
    (chunk,) = chunks("22-mixed-folder", name, columns)
    assert chunk.rows.select(list(columns)).rows() == [
        ("E1", "12.50", "2025-06-01T10:00:00+02:00"), ("E2", "1,250.00", "2025-06-02T11:00:00+02:00"),
    ]  # fmt: skip


def test_a_name_that_stands_twice_matters_only_where_it_is_used() -> None:
    columns = {"order_id": "order_id", "item_id": "sku"}
    (chunk,) = chunks("22-mixed-folder", "orders_dup_header.csv", columns)
    assert chunk.rows.select("order_id", "item_id").rows() == [("F1", "S1")]
    with pytest.raises(IngestError, match=r'column "name" 2 times .* "name \(1\)" or "name \(2\)"'):
        chunks("22-mixed-folder", "orders_dup_header.csv", columns | {"channel": "name"})
