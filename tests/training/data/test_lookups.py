"""Fields of a row from another file, and order totals that include postage."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.times import parse_times
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)
SOURCES = """format_version = 1
[[source]]
name = "web"
kind = "orders"
path = "lines.csv"
[[source.lookup]]
path = "orders.csv"
on = "order_id"
key = "number"
columns = { source_id = "account", timestamp = "at", order_paid = "paid", order_postage = "post" }
[[source.lookup]]
path = "accounts.csv"
on = "source_id"
key = "account"
columns = { source_id = "person" }
[source.columns]
order_id = "number"
item_id = "sku"
quantity = "qty"
price = "each"
"""


def shop(folder: Path, sources: str = SOURCES) -> tuple[IngestReport, pl.DataFrame]:
    (folder / "lines.csv").write_text(
        'number,sku,qty,each\n="01",a,2,10.00\n="01",b,1,5.00\n="02",a,1,10.00\n3,a,1,1\n'
    )
    (folder / "orders.csv").write_text(
        "number,account,at,paid,post\n01,x,2025-04-01,23.00,3.00\n02,y,2025-04-02,10.00,\n01,z,2025-04-09,1,\n"
    )
    (folder / "accounts.csv").write_text("account,person\nx,p\ny,p\n")
    (folder / "sources.toml").write_text(sources)
    workspace = Workspace(folder / "w")
    report = ingest(folder / "sources.toml", workspace, KEY)
    return report, scan_table(workspace.tables, "events").collect().sort("order_id", "item_id")


def test_lines_take_buyer_and_time_from_the_file_of_orders(tmp_path: Path) -> None:
    report, events = shop(tmp_path)
    assert report.refused == {"missing_field": 1}  # order 3 is in no file of orders
    assert events["order_id"].to_list() == ["01", "01", "02"] and events["customer_id"].n_unique() == 1
    assert events["timestamp"].dt.day().to_list() == [1, 1, 2]
    # 25.00 of goods, 20.00 paid for them.
    assert events["discount"].cast(float).fill_null(0).to_list() == [4.0, 1.0, 0.0]


def test_a_file_of_orders_that_changed_is_read_again(tmp_path: Path) -> None:
    shop(tmp_path)
    path = tmp_path / "orders.csv"
    path.write_text(path.read_text().replace("2025-04-02", "2025-05-02"))
    workspace = Workspace(tmp_path / "w")
    report = ingest(tmp_path / "sources.toml", workspace, KEY)
    assert any("changed: lookup files" in note for note in report.notes)
    last = scan_table(workspace.tables, "events").select(pl.col("timestamp").max()).collect().item()
    assert last.month == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('key = "number"', 'key = "no"', 'no column "no"'),
        ('path = "orders.csv"', 'path = "gone.csv"', r"no file at .*gone\.csv"),
        ('on = "order_id"', 'on = "order"', 'lookup 1: unknown field "order"'),
        ('key = "account"', 'kee = "account"', 'lookup 2: unknown key "kee"'),
    ],
)
def test_what_a_lookup_lacks_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(IngestError, match=message):
        shop(tmp_path, SOURCES.replace(old, new))


def test_times_that_name_their_offset_are_read_by_it() -> None:
    texts = pl.Series(
        ["Sep 4, 2025 1:05:07 AM PDT", "Nov 4, 2025 1:05:07 PM PST", "2025-09-04 10:00:00 CEST"]
    )
    assert [str(t)[:16] for t in parse_times(texts, "Asia/Tokyo")] == [
        "2025-09-04 08:05", "2025-11-04 21:05", "2025-09-04 08:00",
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["CEST", "+0200", "+02:00"])
@pytest.mark.parametrize(
    "written",
    [
        "14.06.2025 22:15:30", "14/06/2025 22:15:30", "06/14/2025 22:15", "14.06.25 22:15",
        "14 Jun 2025 22:15", "Jun 14, 2025, 22:15", "06/14/2025 10:15 PM", "2025/06/14 22:15",
        "2025-06-14 22:15", "14-Jun-2025 22:15",
    ],
)  # fmt: skip
def test_every_way_to_write_a_time_may_name_its_offset(written: str, zone: str) -> None:
    (read,) = parse_times(pl.Series([f"{written} {zone}"]), "Asia/Tokyo")
    assert str(read)[:16] == "2025-06-14 20:15"
