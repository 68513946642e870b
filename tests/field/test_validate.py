"""validate on exports from the field: the draft, run as it is, gives what the shop's books say."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.cli.main import app
from shopsight.training.data.check import Books
from shopsight.training.data.describing.validate import rehearse, validate
from shopsight.training.data.ingest import ingest
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.tables import scan_table

CASES = Path(__file__).parents[3] / "shared" / "cases" / "ingest"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases from the field are not at {CASES}"),
]


def draft(tmp_path: Path, case: str, only: str = "*") -> Path:
    """Draft the sources file of a case's raw files."""
    raw = tmp_path / "raw"
    shutil.copytree(CASES / case, raw)
    files = sorted(p for p in raw.glob(only) if p.suffix not in (".md", ".toml"))
    validate(files, raw / "drafted.toml")
    return raw / "drafted.toml"


def books(tmp_path: Path, case: str) -> Books:
    found, question = rehearse(draft(tmp_path, case))
    assert found is not None, question
    return found


def net(found: Books) -> dict[str | None, float]:
    return {one.currency: round(one.net, 2) for one in found.takings}


def test_shopify_orders(tmp_path: Path) -> None:
    found = books(tmp_path, "01-shopify-orders")
    assert net(found) == {"USD": 143.50, "CAD": 126.00}
    assert (found.customers, found.orders, found.set_aside) == (3, 5, {"no_sale": 1})


def test_shopify_customers_orders_and_products_are_one_shop(tmp_path: Path) -> None:
    sources = draft(tmp_path, "17-shopify-customers")
    workspace = Workspace(tmp_path / "w")
    ingest(sources, workspace, PseudonymKey("test", b"k" * 32))
    customers = scan_table(workspace.tables, "customers").collect()
    assert customers.height == 4
    items = {
        row["item_id"]: row for row in scan_table(workspace.tables, "items").collect().iter_rows(named=True)
    }
    assert set(items) == {"OAK-S", "OAK-L", "SHD-L", "Gift wrap"}
    assert items["OAK-S"]["title"].startswith("Oak Lamp")
    assert (float(items["OAK-S"]["price"]), float(items["OAK-S"]["cost"])) == (40.0, 11.0)
    assert items["OAK-S"]["category_path"] == "Home > Lighting > Lamps"
    area = scan_table(workspace.tables, "facts").filter(pl.col("field") == "postcode_area").collect()
    assert "03" in area["value"].to_list()  # '03060 as Excel writes it


def test_etsy_and_amazon(tmp_path: Path) -> None:
    etsy = books(tmp_path / "etsy", "03-etsy-items")
    assert net(etsy) == {"USD": 46.0} and str(etsy.first)[:10] == "2025-09-03"
    amazon = books(tmp_path / "amazon", "04-amazon-orders-tsv")
    assert net(amazon) == {"EUR": 155.40} and amazon.set_aside == {"no_sale": 1}


@pytest.mark.parametrize("only", ["*", "bestellungen.csv", "orders-2025-04.csv"])
def test_german_woocommerce_with_german_and_with_english_headers(tmp_path: Path, only: str) -> None:
    sources = draft(tmp_path, "07-woo-german", only)
    text = sources.read_text()
    sources.write_text(text.replace('timezone = "UTC"', 'timezone = "Europe/Berlin"'))
    assert ('# name = "woocommerce"' in text) == (only == "*")  # the same orders once more
    found, question = rehearse(sources)
    assert found is not None, question
    assert net(found) == {"EUR": round(1299.0 + 4 * 89.9 - 20.0, 2)}
    assert found.set_aside == {"no_sale": 1, "skipped_hour": 1, "total_row": 1}


def test_the_same_orders_in_two_files_are_asked_about(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(CASES / "07-woo-german", raw)
    lines = validate([raw / "bestellungen.csv", raw / "orders-2025-04.csv"], raw / "s.toml").lines
    asked = "asked: orders-2025-04.csv and bestellungen.csv have 4 of 4 order ids in common, as '4711'"
    assert [line[: len(asked)] for line in lines[2:]] == [asked]


def test_amazon_s_date_range_report(tmp_path: Path) -> None:
    found = books(tmp_path, "05-amazon-daterange")
    (usd,) = found.takings
    assert (usd.currency, usd.sold, usd.returned) == ("USD", 1272.0, 636.0)
    assert str(found.first) == "2025-09-04 08:05:07+00:00" and found.set_aside == {"no_sale": 1}


def test_taobao_s_two_files_are_joined_on_the_order(tmp_path: Path) -> None:
    found = books(tmp_path, "06-taobao-gbk")
    assert net(found) == {"CNY": 178.0 + 59.0} and found.set_aside == {"no_sale": 1}
    assert str(found.first) == "2025-06-18 15:58:01+00:00" and (found.orders, found.buyers) == (2, 1)


def test_olist_s_files_are_one_shop(tmp_path: Path) -> None:
    found = books(tmp_path, "18-olist")
    assert net(found) == {"BRL": 137.80} and (found.orders, found.buyers) == (2, 1)
    assert str(found.first)[:16] == "2018-01-02 12:56"


def test_an_order_list_without_items_gives_its_money(tmp_path: Path) -> None:
    found = books(tmp_path, "08-prestashop")
    (euros,) = found.takings
    assert (euros.currency, euros.sold, euros.returned) == ("EUR", 1293.56, 59.0)
    assert (found.orders, found.set_aside) == (2, {"no_sale": 1})


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(CASES / "22-mixed-folder", raw)
    names = ["empty.csv", "header_only_orders.csv", "orders_dup_header.csv", "orders_good.csv"]
    lines = validate([raw / name for name in names], raw / "s.toml").lines
    assert [line.split(":")[0].split("/")[-1] for line in lines] == names
    drafted = {source.path for source in load_sources(raw / "s.toml")}
    assert "orders_good.csv" in drafted and not drafted & set(names[:2])


def test_a_log_without_line_numbers_asks_whether_equal_rows_are_two(tmp_path: Path) -> None:
    sources = draft(tmp_path, "13-rees46")
    text = sources.read_text()
    assert "# keep_duplicates = true" in text
    sources.write_text(text.replace("# keep_duplicates", "keep_duplicates"))
    found, _ = rehearse(sources)
    assert found is not None and net(found) == {None: 261.52}


def test_the_verbs_say_the_same_before_and_after_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSIGHT_KEY_FILE", str(tmp_path / "key.json"))
    shutil.copytree(CASES / "01-shopify-orders", tmp_path / "raw")
    out = tmp_path / "raw" / "s.toml"
    runner = CliRunner()
    said = runner.invoke(app, ["validate", str(tmp_path / "raw" / "orders_export_1.csv"), "--out", str(out)])
    assert said.exit_code == 0, said.output
    workspace = str(tmp_path / "w")
    assert runner.invoke(app, ["key", "create"]).exit_code in (0, 1)
    assert runner.invoke(app, ["ingest", str(out), "-w", workspace]).exit_code == 0
    checked = runner.invoke(app, ["check", "-w", workspace])
    assert checked.exit_code == 0
    figures = [line for line in checked.output.splitlines() if line.startswith(("orders", "revenue", "rows"))]
    assert len(figures) == 4 and all(line in said.output for line in figures)
