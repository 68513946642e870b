"""Behaviour on public data, against counts taken from the raw files by plain loops."""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.behaviour.analyses import analyse_basket, analyse_cohorts, analyse_timing
from shopsight.training.data.ingest import ingest
from shopsight.training.data.public.adapters import adapt
from shopsight.training.data.tables import scan_table

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the public data sets are not at {DATA}"),
]
KEY = PseudonymKey("test", b"k" * 32)
Raw = list[dict[str, str]]


def ingested(name: str, root: Path) -> Workspace:
    workspace = Workspace(root / "w")
    ingest(adapt(name, DATA / name, root / "raw"), workspace, KEY)
    return workspace


@pytest.fixture(scope="module")
def retail(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return ingested("online_retail", tmp_path_factory.mktemp("retail"))


@pytest.fixture(scope="module")
def sold(retail: Workspace) -> Raw:
    """The distinct raw lines of goods that were sold."""
    items = scan_table(retail.tables, "items").filter(~pl.col("goods").fill_null(True)).collect()
    fees, seen, rows = set(items["item_id"]), set(), []
    with gzip.open(DATA / "online_retail" / "online_retail.csv.gz", "rt", encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            line = tuple(row.values())
            if line in seen or int(row["Quantity"]) <= 0 or row["InvoiceNo"].startswith("C"):
                continue
            seen.add(line)
            if row["StockCode"] not in fees and not row["UnitPrice"].startswith("-"):
                rows.append(row)
    return rows


def month(row: dict[str, str]) -> date:
    return datetime.fromisoformat(row["InvoiceDate"]).date().replace(day=1)


def test_cohorts_are_those_of_the_raw_file(retail: Workspace, sold: Raw) -> None:
    first: dict[str, date] = {}
    active: defaultdict[date, set[str]] = defaultdict(set)
    for row in (row for row in sold if row["CustomerID"]):
        first[row["CustomerID"]] = min(month(row), first.get(row["CustomerID"], date.max))
        active[month(row)].add(row["CustomerID"])
    people = analyse_cohorts(retail).tables["people"]
    sizes = Counter(first.values())
    for row in people.to_dicts():
        start = row["cohort"]
        number = start.year * 12 + start.month - 1 + row["period"]
        now = date(number // 12, number % 12 + 1, 1)
        assert row["customers"] == sizes[start]
        if now == date(2011, 12, 1):  # the file ends on the 9th
            assert row["bought"] is None
        else:
            assert row["bought"] == sum(first[c] == start for c in active[now])
    assert people.filter(period=0)["customers"].sum() == len(first)


def test_revenue_of_the_cohorts_adds_up_to_that_of_their_customers(retail: Workspace) -> None:
    revenue = analyse_cohorts(retail, until=datetime(2012, 1, 1, tzinfo=UTC)).tables["revenue"]
    events = scan_table(retail.tables, "events").filter(pl.col("customer_id").is_not_null())
    sign = pl.when(pl.col("event") == "return").then(-1).otherwise(1)
    amount = sign * pl.col("price").cast(pl.Float64) * pl.col("quantity").cast(pl.Float64)
    goods = scan_table(retail.tables, "items").filter(~pl.col("goods").fill_null(True)).select("item_id")
    buyers = events.filter(pl.col("event") == "purchase").join(goods, on="item_id", how="anti")
    first = buyers.group_by("customer_id").agg(first=pl.col("timestamp").min().dt.truncate("1mo"))
    whole = events.join(first, on="customer_id").filter(pl.col("timestamp") >= pl.col("first"))
    total = whole.select(amount.sum()).collect().item()
    assert revenue["revenue"].sum() == pytest.approx(total, abs=0.01)
    assert revenue["currency"].unique().to_list() == ["GBP"]


def test_baskets_are_those_of_the_raw_file(retail: Workspace, sold: Raw) -> None:
    baskets: defaultdict[str, set[str]] = defaultdict(set)
    for row in sold:
        baskets[row["InvoiceNo"]].add(row["StockCode"])
    found = analyse_basket(retail, rate=0.001)
    assert found.settings["baskets"] == len(baskets)
    for row in found.tables["pairs"].gather_every(found.tables["pairs"].height // 20).to_dicts():
        pair = {row["item_a"], row["item_b"]}
        assert row["together"] == sum(pair <= one for one in baskets.values())
        assert row["q_value"] <= 0.001 and row["lift_by_size"] > 1
    herbs = found.tables["pairs"].filter(pl.col("title_a").str.starts_with("HERB MARKER"))
    assert herbs.filter(pl.col("title_b").str.starts_with("HERB MARKER"))["lift_by_size"].min() > 10


def test_the_share_of_households_that_come_back_is_that_of_the_raw_file(tmp_path: Path) -> None:
    workspace = ingested("completejourney", tmp_path)
    days: defaultdict[str, set[date]] = defaultdict(set)
    items = scan_table(workspace.tables, "items").filter(~pl.col("goods").fill_null(True)).collect()
    fees = set(items["item_id"])
    with gzip.open(DATA / "completejourney" / "transactions_sample.csv.gz", "rt") as stream:
        for row in csv.DictReader(stream):
            if float(row["quantity"]) > 0 and row["product_id"] not in fees:
                time = datetime.fromisoformat(row["transaction_timestamp"].replace("Z", "+00:00"))
                days[row["household_id"]].add(time.date())
    (first,) = analyse_timing(workspace).tables["medians"].filter(purchase=1).to_dicts()
    assert first["customers"] == len(days)
    assert first["came_back"] == sum(len(own) > 1 for own in days.values())
