"""Exports of common shop systems, never described to us: validate drafts what ingest runs on."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.describing.validate import validate
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)


def draft(folder: Path, name: str, content: str | bytes) -> tuple[dict[str, Source], IngestReport, Workspace]:
    """Write one export, draft its sources file, ingest; returns the sources by kind."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    validate([path], folder / "sources.toml")
    sources = {source.kind: source for source in load_sources(folder / "sources.toml")}
    workspace = Workspace(folder / "w")
    return sources, ingest(folder / "sources.toml", workspace, KEY), workspace


def table(workspace: Workspace, name: str) -> pl.DataFrame:
    return scan_table(workspace.tables, name).collect()


def test_shopify_orders(tmp_path: Path) -> None:
    header = (
        "Name,Email,Financial Status,Paid at,Currency,Subtotal,Shipping,Taxes,Total,Discount Code,"
        "Discount Amount,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Billing Name,"
        "Billing Street,Billing City,Billing Zip,Billing Country,Billing Phone,Notes,Cancelled at,Vendor,Id"
    )
    rows = [
        "#1001,ada@example.com,paid,2024-05-01 10:00:01 -0400,USD,30.00,5.00,2.40,37.40,,0.00,"
        "2024-05-01 10:00:00 -0400,2,Blue mug,10.00,MUG-B,Ada Byron,1 Main St,Boston,'02110,US,+16175550100,"
        ",,Acme,5501",
        "#1001,ada@example.com,,,,,,,,,,2024-05-01 10:00:00 -0400,1,Tea towel,10.00,TOWEL,,,,,,,,,Acme,",
    ]
    sources, report, workspace = draft(tmp_path, "orders_export.csv", "\n".join([header, *rows]) + "\n")
    assert set(sources) == {"orders", "items", "customers"} and report.accepted == report.read == 2
    events = table(workspace, "events").sort("item_id")
    assert events.select("order_id", "item_id", "quantity", "event").rows() == [
        ("#1001", "MUG-B", 2, "purchase"),
        ("#1001", "TOWEL", 1, "purchase"),
    ]
    assert str(events["timestamp"][0]) == "2024-05-01 14:00:00+00:00"
    assert events["customer_id"].n_unique() == 1 and events["customer_id"].null_count() == 0
    assert table(workspace, "items")["title"].sort().to_list() == ["Blue mug", "Tea towel"]
    assert table(workspace, "customers")["city"].to_list() == ["Boston"]


def test_woocommerce_orders_with_a_refund_and_decimal_commas(tmp_path: Path) -> None:
    content = (
        "order_id;order_date;status;customer_id;billing_first_name;billing_email;billing_city;product_id;"
        "product_sku;product_name;item_quantity;item_price;line_total;currency\n"
        "71;2024-05-01 14:03:22;completed;12;Ada;ada@example.com;Köln;501;HOODIE;Pullover;1;45,00;45,00;EUR\n"
        "72;2024-05-02 08:00:00;refunded;12;Ada;ada@example.com;Köln;501;HOODIE;Pullover;-1;1.045,50;;EUR\n"
    )
    sources, _, workspace = draft(tmp_path, "woocommerce-orders.csv", content.encode("cp1252"))
    assert sources["orders"].encoding == "cp1252"
    events = table(workspace, "events").sort("timestamp")
    assert events["event"].to_list() == ["purchase", "return"]
    assert [str(price) for price in events["price"]] == ["45.00000000", "1045.50000000"]
    assert table(workspace, "customers")["city"].to_list() == ["Köln"]
    flags = table(workspace, "flags").sort("rule")
    assert flags["rule"].to_list() == ["return_matched", "returned"]


def test_ga4_events(tmp_path: Path) -> None:
    names = [
        "page_view",
        "view_item",
        "add_to_cart",
        "begin_checkout",
        "purchase",
        "view_search_results",
        "refund",
    ]
    lines = [
        {"event_date": "20240501", "event_timestamp": 1714557600000000 + i * 1_000_000, "event_name": name}
        | {"user_pseudo_id": "1234.5678", "user_id": None, "ga_session_id": 1714557600}
        | {"item_id": None if "page" in name or "search" in name else "MUG", "price": 10.0, "quantity": 1}
        | {"transaction_id": "T1" if name in ("purchase", "refund") else None, "currency": "USD"}
        for i, name in enumerate(names)
    ]  # fmt: skip
    sources, report, workspace = draft(tmp_path, "ga4_events.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    assert sources["events"].columns["source_id"] == "user_pseudo_id"
    events = table(workspace, "events").sort("timestamp")
    assert events["event"].to_list() == ["view", "cart", "purchase", "search", "return"]
    # What has no meaning of ours is left to the reader, and counted until then.
    assert report.refused == {"bad_value": 1, "missing_field": 1}
    assert '# "begin_checkout"' in (tmp_path / "sources.toml").read_text()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_zendesk_tickets(tmp_path: Path, kind: str) -> None:
    frame = pl.DataFrame(
        {
            "Id": ["35436", "35437"],
            "Subject": ["Where is my order", "Broken mug"],
            "Description": ["Hello,\nwhere is my parcel?", 'The mug came "broken"'],
            "Requester id": ["20978392", "20978393"],
            "Requester email": ["ada@example.com", "bob@example.com"],
            "Status": ["open", "solved"],
            "Created at": ["2024-05-01T10:00:00Z", "2024-05-02T10:00:00Z"],
        }
    )
    content = frame.write_csv() if kind == "csv" else frame.write_ndjson()
    sources, _, workspace = draft(tmp_path, f"zendesk_tickets.{kind}", content)
    assert set(sources) == {"messages", "customers"}
    messages = table(workspace, "messages").sort("message_id")
    assert messages["text"].to_list() == ["Hello,\nwhere is my parcel?", 'The mug came "broken"']
    assert messages["customer_id"].n_unique() == 2


def test_amazon_style_reviews(tmp_path: Path) -> None:
    old = {"reviewerID": "A1", "asin": "0000013714", "reviewerName": "J. M.", "helpful": [2, 3]} | {
        "reviewText": "Heavenly highway hymns for the whole family", "overall": 5.0, "summary": "Heavenly",
        "unixReviewTime": 1252800000, "reviewTime": "09 13, 2009",
    }  # fmt: skip
    new = {"rating": 4.0, "title": "Nice", "text": "The mint scent is fresh and stays", "images": []} | {
        "asin": "B00YQ6X8EO", "user_id": "AGKH", "timestamp": 1588687728923, "verified_purchase": True,
    }  # fmt: skip
    for name, row, day in (("Music_5.json", old, "2009-09-13"), ("beauty_reviews.jsonl", new, "2020-05-05")):
        (tmp_path / name).mkdir()
        sources, _, workspace = draft(tmp_path / name, name, json.dumps(row) + "\n")
        assert sources["reviews"].kind == "reviews"
        (event,) = table(workspace, "events").rows(named=True)
        assert (event["item_id"], event["event"], event["rating"]) == (
            row["asin"],
            "review",
            row.get("rating", 5.0),
        )
        assert str(event["timestamp"])[:10] == day


def test_utf_16_with_its_mark_and_a_chinese_export_are_read(tmp_path: Path) -> None:
    content = (
        "order_id,customer_id,sku,quantity,price,order_date,product_name\n1,u1,s1,2,9.5,2024-05-01,蓝色杯子\n"
    )
    for encoding in ("utf-16", "gb18030", "utf-8-sig"):
        folder = tmp_path / encoding
        folder.mkdir()
        _, report, workspace = draft(folder, "orders.csv", content.encode(encoding))
        assert report.accepted == 1
        assert table(workspace, "items")["title"].to_list() == ["蓝色杯子"]
