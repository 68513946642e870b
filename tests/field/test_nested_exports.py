"""Exports with values inside values: analytics, tracking and tickets, read by paths of the sources file."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.describing.validate import validate
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.tables import scan_table

CASES = Path(__file__).parents[3] / "shared" / "cases" / "ingest"
KEY = PseudonymKey("test", b"k" * 32)
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases from the field are not at {CASES}"),
]

GA4 = """format_version = 1
[[source]]
name = "site"
kind = "events"
path = "events_20250614.json"
[source.columns]
source_id = "user_id | user_pseudo_id"
event = "event_name"
timestamp = "event_timestamp"
session_id = "event_params[key=ga_session_id].value.int_value"
item_id = "items[].item_id"
quantity = "items[].quantity"
price = "items[].price"
order_id = "ecommerce.transaction_id"
[source.values.event]
view_item = "view"
add_to_cart = "cart"
refund = "return"
view_search_results = "search"
"""
SEGMENT = """format_version = 1
[[source]]
name = "site"
kind = "events"
path = "segment_events.json"
[source.columns]
source_id = "userId | anonymousId"
event = "event"
timestamp = "timestamp"
item_id = "properties.products[].product_id | properties.product_id"
price = "properties.products[].price | properties.price"
quantity = "properties.products[].quantity | properties.quantity"
order_id = "properties.order_id"
[source.values.event]
"Product Viewed" = "view"
"Product Added" = "cart"
"Order Completed" = "purchase"
"""
ZENDESK = """format_version = 1
[[source]]
name = "desk"
kind = "messages"
path = "{path}"
[source.columns]
source_id = "requester_id"
message_id = "id"
text = "description"
timestamp = "created_at"
[[source]]
name = "desk"
kind = "customers"
path = "{path}"
derived = true
[source.columns]
source_id = "requester_id"
email = "requester.email"
full_name = "requester.name"
"""


def read(folder: Path, case: str, sources: str) -> tuple[IngestReport, Workspace]:
    shutil.copytree(CASES / case, folder / "raw")
    (folder / "raw").chmod(0o755)
    (folder / "raw" / "sources.toml").write_text(sources)
    workspace = Workspace(folder / "w")
    return ingest(folder / "raw" / "sources.toml", workspace, KEY), workspace


def table(workspace: Workspace, name: str) -> pl.DataFrame:
    return scan_table(workspace.tables, name).collect()


def test_items_of_an_analytics_export_are_rows(tmp_path: Path) -> None:
    report, workspace = read(tmp_path, "11-ga4-json", GA4)
    assert report.accepted + sum(report.refused.values()) == report.read == 10  # two purchases have two items
    events = table(workspace, "events").sort("timestamp", "item_id")
    sold = events.filter(pl.col("event") == "purchase").unique(["order_id", "item_id"]).sort("item_id")
    assert sold.select("order_id", "item_id", "quantity", "price").rows() == [
        ("T-900", "SKU_11", 2, Decimal("30.5")), ("T-900", "SKU_12", 1, Decimal(20)),
    ]  # fmt: skip
    others = events.filter(pl.col("event").is_in(["view", "cart", "return"]))
    assert [tuple(row) for row in others.select("event", "item_id").rows()] == [
        ("view", "SKU_11"), ("cart", "SKU_11"), ("return", "SKU_12"),
    ]  # fmt: skip
    assert str(others["timestamp"][0]) == "2025-06-14 10:00:05+00:00"
    assert others["session_id"].unique().to_list() == ["1700000001"]
    # Events without an item are refused each with its reason.
    assert set(report.refused) <= {"bad_value", "missing_field"}


def test_products_of_a_tracked_order_are_rows(tmp_path: Path) -> None:
    report, workspace = read(tmp_path, "12-segment-json", SEGMENT)
    events = table(workspace, "events").sort("timestamp", "item_id")
    assert events.select("event", "item_id", "order_id", "price").rows() == [
        ("view", "P1", None, Decimal(39)), ("cart", "P1", None, Decimal(39)),
        ("purchase", "P1", "O-1", Decimal(39)), ("purchase", "P2", "O-1", Decimal(39)),
    ]  # fmt: skip
    assert events["customer_id"].n_unique() == table(workspace, "identities").height == 2
    assert report.refused == {"missing_field": 1}  # the identify call is no event


@pytest.mark.parametrize("path", ["tickets_export.json", "tickets_array.json"])
def test_tickets_are_read_from_lines_and_from_the_answer_of_the_service(tmp_path: Path, path: str) -> None:
    report, workspace = read(tmp_path, "16-zendesk", ZENDESK.format(path=path))
    messages = table(workspace, "messages").sort("message_id")
    assert (report.read, report.accepted) == (3, 3)
    assert messages["message_id"].to_list() == ["301", "302", "303"]
    assert messages["text"][0] == "Order 5001 has not arrived.\n\nThanks, Tess"
    assert messages["customer_id"][0] == messages["customer_id"][2] != messages["customer_id"][1]
    assert str(messages["timestamp"][0]) == "2025-05-02 08:30:00+00:00"


def drafted(folder: Path, case: str, name: str) -> tuple[IngestReport, Workspace]:
    """Ingest a file by the sources file that validate drafts."""
    (folder / name).write_bytes((CASES / case / name).read_bytes())
    validate([folder / name], folder / "sources.toml")
    workspace = Workspace(folder / "w")
    return ingest(folder / "sources.toml", workspace, KEY), workspace


def test_an_analytics_export_is_known(tmp_path: Path) -> None:
    report, workspace = drafted(tmp_path, "11-ga4-json", "events_20250614.json")
    events = table(workspace, "events")
    assert set(events["event"]) == {"view", "cart", "purchase", "return", "search"}
    # session_start and page_view say nothing of an item; the page of the order was loaded twice.
    assert report.refused == {"bad_value": 2, "repeated_order": 2}
    sold = events.filter(pl.col("event") == "purchase")
    assert (sold["quantity"] * sold["price"]).sum() == Decimal(81)
    of_session = events.filter(pl.col("event") != "search")
    assert of_session["customer_id"].n_unique() == 1 and events["customer_id"].n_unique() == 2
    titles = dict(table(workspace, "items").select("item_id", "title").iter_rows())
    assert titles["SKU_11"] == "Felt Hat" and len(titles) == 2


def test_tracked_calls_are_known(tmp_path: Path) -> None:
    report, workspace = drafted(tmp_path, "12-segment-json", "segment_events.json")
    events = table(workspace, "events").sort("timestamp", "item_id")
    assert events.select("event", "item_id", "order_id").rows() == [
        ("view", "P1", None), ("cart", "P1", None), ("purchase", "P1", "O-1"), ("purchase", "P2", "O-1"),
    ]  # fmt: skip
    assert events["discount"].sum() == 5 and events["currency"].drop_nulls().unique().to_list() == ["GBP"]
    assert report.refused == {"missing_field": 1}
    assert events["customer_id"].n_unique() == 1  # the visitor and the login


@pytest.mark.parametrize("path", ["tickets_export.json", "tickets_array.json"])
def test_tickets_are_known(tmp_path: Path, path: str) -> None:
    report, workspace = drafted(tmp_path, "16-zendesk", path)
    assert report.accepted == report.read == 3
    assert table(workspace, "customers").height == 2
    assert sorted(table(workspace, "messages")["message_id"]) == ["301", "302", "303"]
