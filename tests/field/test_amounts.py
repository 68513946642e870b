"""Exports from the field: what was sold, for how much, in which currency and when."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.money import totals
from shopsight.training.data.public.adapters import adapt
from shopsight.training.data.tables import scan_table
from shopsight.training.report.content import customer_cards
from shopsight.training.value.purchases import histories

KEY = PseudonymKey("test", b"k" * 32)
SHARED = Path(__file__).parents[3] / "shared"
CASES = SHARED / "cases" / "ingest"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases from the field are not at {CASES}"),
]
SHOPIFY = """format_version = 1
[[source]]
name = "shopify"
kind = "orders"
path = "orders_export_1.csv"
anonymous = true
carry_down = ["status", "cancelled_at"]
[source.columns]
source_id = "Email"
order_id = "Name"
item_id = ["Lineitem sku", "Lineitem name"]
timestamp = "Created at"
quantity = "Lineitem quantity"
price = "Lineitem price"
currency = "Currency"
discount = "Lineitem discount"
order_discount = "Discount Amount"
refunded = "Refunded Amount"
status = "Financial Status"
cancelled_at = "Cancelled at"
[source.values.status]
paid = "sale"
partially_refunded = "sale"
refunded = "returned"
voided = "no sale"
"""


def read(tmp_path: Path, case: str, sources: str) -> tuple[IngestReport, pl.DataFrame]:
    """Ingest a copy of a case under a sources file; returns the report and the events."""
    shutil.copytree(CASES / case, tmp_path / "raw")
    (tmp_path / "raw" / "mine.toml").write_text(sources)
    workspace = Workspace(tmp_path / "w")
    report = ingest(tmp_path / "raw" / "mine.toml", workspace, KEY)
    return report, scan_table(workspace.tables, "events").collect()


def hand(case: str, *changes: tuple[str, str], name: str = "hand.toml") -> str:
    text = (CASES / case / name).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def net(events: pl.DataFrame) -> dict[str | None, float]:
    return {name: round(value, 2) for name, value in totals(events.lazy()).select("currency", "net").rows()}


def test_shopify_orders_count_as_an_accountant_counts_them(tmp_path: Path) -> None:
    report, events = read(tmp_path, "01-shopify-orders", SHOPIFY)
    assert report.refused == {"no_sale": 1} and report.read == 9
    assert net(events) == {"USD": 143.50, "CAD": 126.00}
    by_order = {k[0]: net(part) for k, part in events.group_by("order_id")}
    assert by_order == {
        "#2001": {"USD": 88.5}, "#2002": {"USD": 0.0}, "#2004": {"CAD": 126.0}, "#2005": {"USD": 15.0},
        "#2006": {"USD": 40.0},
    }  # fmt: skip
    assert events.filter(pl.col("order_id") == "#2001")["timestamp"].unique().to_list() == [
        datetime(2025, 3, 2, 3, 30, tzinfo=UTC)
    ]
    assert events["customer_id"].drop_nulls().n_unique() == 3
    assert "Gift wrap" in events["item_id"].to_list() and events["event_id"].is_unique().all()


def test_etsy_writes_the_month_first_always(tmp_path: Path) -> None:
    report, events = read(tmp_path, "03-etsy-items", hand("03-etsy-items"))
    days = events.sort("timestamp").unique("order_id", maintain_order=True)["timestamp"].dt.strftime("%m-%d")
    assert days.to_list() == ["09-03", "10-05", "11-12", "12-01"] and report.accepted == 5
    spent = {k[0]: net(part)["USD"] for k, part in events.group_by("customer_id")}
    assert sorted(spent.values()) == [18.0, 28.0]
    assert any("month first" in note and "known exporter" in note for note in report.notes)


def test_amazon_s_item_price_is_the_line_s_total(tmp_path: Path) -> None:
    sources = hand("04-amazon-orders-tsv", ('price = "item-price"', 'amount = "item-price"'))
    (tmp_path / "case").mkdir()
    name = "1234567890123.txt"
    text = (CASES / "04-amazon-orders-tsv" / name).read_text()
    (tmp_path / "case" / name).write_text(text.replace('"', "''"))  # how quotes are read is tested elsewhere
    report, events = read(tmp_path, str(tmp_path / "case"), sources)
    assert report.refused == {"no_sale": 1}
    assert sorted(events["price"].cast(float)) == [24.9, 24.9, 29.9]
    assert net(events) == {"EUR": 155.40}


def test_taobao_s_closed_orders_are_no_sales(tmp_path: Path) -> None:
    status = (
        'price = "买家实际支付金额"',
        'amount = "买家实际支付金额"\nstatus = "订单状态"\n[source.values.status]\n"交易成功" = "sale"\n'
        '"交易关闭" = "no sale"',
    )
    report, events = read(tmp_path, "06-taobao-gbk", hand("06-taobao-gbk", status))
    assert report.refused == {"no_sale": 1}
    assert sorted(events["order_id"]) == ["2601000000000000011", "2601000000000000022"]
    assert net(events) == {"CNY": 178.0 + 65.0}  # postage is in this column
    assert str(events["timestamp"].min()) == "2025-06-18 15:58:01+00:00"


@pytest.mark.parametrize("name", ["bestellungen.csv", "orders-2025-04.csv"])
def test_german_amounts_dates_and_statuses(tmp_path: Path, name: str) -> None:
    lines = (CASES / "07-woo-german" / name).read_bytes().removeprefix(b"\xef\xbb\xbfsep=;\n")
    lines = lines.removeprefix(b"\xef\xbb\xbfsep=;\r\n")
    (tmp_path / "orders.csv").write_bytes(lines)
    german = name.startswith("best")
    encoding = "" if german else 'encoding = "cp1252"\n'
    names = lines.decode("utf-8" if german else "cp1252").splitlines()[0].replace('"', "").split(";")
    fields = [
        *("order_id", "timestamp", "status", "source_id", "given_name", "family_name", "item_id", "title"),
        *("quantity", "price", "discount", "currency"),
    ]
    columns = [
        f'{ours} = "{theirs}"' for ours, theirs in zip(fields, names, strict=True) if "name" not in ours
    ]
    columns.remove(next(c for c in columns if c.startswith("title")))
    (tmp_path / "s.toml").write_text(
        'format_version = 1\n[[source]]\nname = "woo"\nkind = "orders"\npath = "orders.csv"\n' + encoding
        + 'timezone = "Europe/Berlin"\n[source.columns]\n' + "\n".join(columns)
        + '\n[source.values.status]\nAbgeschlossen = "sale"\nStorniert = "no sale"\nErstattet = "returned"\n'
    )  # fmt: skip
    workspace = Workspace(tmp_path / "w")
    report = ingest(tmp_path / "s.toml", workspace, KEY)
    assert report.refused == {"no_sale": 1, "skipped_hour": 1, "total_row": 1}
    events = scan_table(workspace.tables, "events").collect()
    assert net(events) == {"EUR": 1299.0 + 4 * 89.9 - 20.0}
    assert str(events["timestamp"].min()) == "2025-04-03 16:05:00+00:00"
    pieces = pl.read_parquet(workspace.quarantine / "refused.parquet").filter(
        pl.col("reason") == "skipped_hour"
    )
    assert "1.000" in pieces["raw"].item()


def test_amounts_with_narrow_spaces_and_a_real_minus(tmp_path: Path) -> None:
    report, events = read(tmp_path, "08-prestashop", hand("08-prestashop"))
    assert sorted(events["price"].cast(float)) == [59.0, 1234.56]
    assert report.refused == {"negative_price": 1}


def test_all_files_of_a_source_have_one_date_order(tmp_path: Path) -> None:
    _, events = read(tmp_path, "09-us-daily-files", hand("09-us-daily-files"))
    days = dict(events.select("order_id", pl.col("timestamp").dt.strftime("%Y-%m-%d")).rows())
    assert days == {"A1": "2025-09-05", "A2": "2025-09-05", "A3": "2025-09-17", "A4": "2025-09-17"}


def test_a_line_without_a_currency_has_its_order_s(tmp_path: Path) -> None:
    report, events = read(tmp_path, "20-value-edges", hand("20-value-edges", name="c_mix.toml"))
    assert report.refused == {}
    orders = events.filter(pl.col("currency") == "CAD").group_by("order_id")
    assert {k[0]: net(part) for k, part in orders} == {f"O{n}": {"CAD": 110.0} for n in range(1692, 1696)}
    assert net(events)["EUR"] == pytest.approx(float(_euros().sum()), abs=0.01)
    known = histories(events.lazy(), datetime(2025, 3, 1, tzinfo=UTC))
    assert known.currency == "EUR"
    assert known.table.filter(pl.col("monetary_value").fill_nan(None) > 100).height == 0


def _euros() -> pl.Series:
    rows = pl.read_csv(CASES / "20-value-edges" / "c_mix.csv").filter(pl.col("currency") == "EUR")
    return rows["quantity"] * rows["unit_price"]


def test_the_page_shows_what_the_complete_journey_sold(tmp_path: Path) -> None:
    data = SHARED / "data" / "completejourney"
    if not data.is_dir():
        pytest.skip(f"completejourney is not at {data}")
    sources = adapt("completejourney", data, tmp_path / "out").read_text().split("\n[[source]]")
    (tmp_path / "out" / "orders.toml").write_text("\n[[source]]".join(sources[:2]))
    workspace = Workspace(tmp_path / "w")
    ingest(tmp_path / "out" / "orders.toml", workspace, KEY)
    cards = {card["label"]: card["value"] for card in customer_cards(workspace)}
    assert cards["revenue after returns"] == "233,935 USD"
