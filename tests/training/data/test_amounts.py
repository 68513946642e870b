"""Written numbers, what order lines mean, and what is said of whole orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.amounts import bare_numbers, count_votes, read_numbers
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.money import events_in_main, totals
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.tables import scan_table
from shopsight.training.report.content import customer_cards

KEY = PseudonymKey("test", b"k" * 32)
COLUMNS = {
    "order_id": "no", "source_id": "who", "item_id": "sku", "quantity": "qty", "price": "each",
    "timestamp": "at",
}  # fmt: skip


def shop(
    folder: Path,
    text: str,
    columns: dict[str, Any] | None = None,
    more: str = "",
    after: str = "",
    top: str = "",
) -> tuple[IngestReport, pl.DataFrame, Workspace]:
    """Ingest orders written as lines of fields between commas or semicolons; returns report and events."""
    (folder / "orders.csv").write_text(text)
    mapped = "\n".join(
        f"{ours} = {theirs!r}" for ours, theirs in (COLUMNS | (columns or {})).items() if theirs
    )
    (folder / "sources.toml").write_text(
        f'format_version = 1\n{top}\n[[source]]\nname = "web"\nkind = "orders"\npath = "orders.csv"\n{more}\n'
        f"[source.columns]\n{mapped}\n{after}\n"
    )
    workspace = Workspace(folder / "w")
    report = ingest(folder / "sources.toml", workspace, KEY)
    events = scan_table(workspace.tables, "events").collect().sort("order_id", "item_id", "event")
    return report, events, workspace


def net(events: pl.DataFrame) -> dict[str | None, float]:
    return {name: round(value, 2) for name, value in totals(events.lazy()).select("currency", "net").rows()}


WRITTEN = {
    "1.299,00": 1299.0, "1,299.00": 1299.0, "1 234,56 €": 1234.56, "1\u202f234,56": 1234.56,
    "1'234.50": 1234.5, "1’234.50": 1234.5, "CHF 1'000": 1000.0, "\u221212,00": -12.0, "12,00-": -12.0,
    "(12.00)": -12.0, "-$5.00": -5.0, "R$ 1.299,00": 1299.0, "Rs. 500": 500.0, "500 kr.": 500.0,
    "12,50 zł": 12.5, "¥99": 99.0, "99元": 99.0, "1,23,456.00": 123456.0, "1.234.567": 1234567.0,
    "0,450 kg": 0.45, "0.450": 0.45, "3 pcs": 3.0, "'12.00": 12.0, ".5": 0.5, "1234.567": 1234.567,
}  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
@pytest.mark.parametrize("decimal", [".", ","])
def test_a_number_that_tells_how_it_is_written_is_read_under_any_convention(text: str, decimal: str) -> None:
    assert read_numbers(bare_numbers(pl.Series([text])), decimal)[0] == pytest.approx(WRITTEN[text])


@pytest.mark.parametrize(
    "text", ["12 34", "abc12", "SKU12", "1.23.4", "1,5,0", "10-12", "1e5", "-", "", "N/A", "12.345.67"]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_numbers(bare_numbers(pl.Series([text])), ".")[0] is None


def test_a_group_of_three_after_one_sign_is_what_the_convention_says() -> None:
    bare = bare_numbers(pl.Series(["1.000", "69.500", "1,234", "0.450"]))
    assert read_numbers(bare, ".").to_list() == [1.0, 69.5, 1234.0, 0.45]
    assert read_numbers(bare, ",").to_list() == [1000.0, 69500.0, 1.234, 0.45]
    votes = count_votes(bare)
    assert (votes.point, votes.comma, votes.ambiguous) == (1, 0, 3)


HEADER = "no;who;sku;qty;each;at\n"


def test_other_values_of_the_file_decide_what_a_point_means(tmp_path: Path) -> None:
    _, events, _ = shop(tmp_path, HEADER + "1;a;x;1.000;2,50;2025-04-01\n2;a;x;1;1.299,00;2025-04-01\n")
    assert events["quantity"].cast(float).to_list() == [1000.0, 1.0]
    assert net(events) == {None: 3799.0}


def test_weights_with_decimal_points_are_no_thousands(tmp_path: Path) -> None:
    _, events, _ = shop(tmp_path, HEADER + "1;a;x;0.450;3.99;2025-04-01\n2;a;x;1.250;3.99;2025-04-01\n")
    assert events["quantity"].cast(float).to_list() == [0.45, 1.25]


def test_what_only_the_shop_can_know_is_refused_until_it_is_said(tmp_path: Path) -> None:
    text = HEADER + "1;a;x;1;69.500;2025-04-01\n2;a;x;2;120.000;2025-04-01\n"
    with pytest.raises(
        IngestError, match=r'"69\.500" \(price, orders\.csv, row 1\) can have a decimal point or'
    ):
        shop(tmp_path, text)
    assert not (tmp_path / "w" / "tables" / "snapshot.json").exists()
    assert net(shop(tmp_path, text, more='decimal = ","')[1]) == {None: 309_500.0}
    assert net(shop(tmp_path, text, more='country = "CO"')[1]) == {None: 309_500.0}
    assert net(shop(tmp_path, text, more='decimal = "."')[1]) == {None: 309.5}


def test_an_amount_is_the_line_s_total_and_keeps_its_cents(tmp_path: Path) -> None:
    columns = {"price": None, "amount": "each", "discount": "off"}
    text = "no,who,sku,qty,each,at,off\n1,a,x,3,89.70,2025-04-01,-9.00\n2,a,fuel,32623,19.99,2025-04-01,\n"
    _, events, _ = shop(tmp_path, text, columns)
    assert events["price"].cast(float)[0] == pytest.approx(29.9)
    assert net(events) == {None: round(80.70 + 19.99, 2)}
    _, events, _ = shop(tmp_path, text, columns, more="amount_after_discount = true")
    assert net(events) == {None: round(89.70 + 19.99, 2)}


STATUS = 'status = "state"\n[source.values.status]\npaid = "sale"\nvoid = "no sale"\nback = "returned"'


def test_statuses_say_what_was_sold_and_what_came_back(tmp_path: Path) -> None:
    rows = "1;a;x;1;10;2025-04-01;paid\n2;a;x;2;10;2025-04-01;VOID\n3;a;x;3;10;2025-04-01;Back\n"
    text = "no;who;sku;qty;each;at;state\n" + rows + "4;a;x;4;10;2025-04-01;odd\n5;a;x;5;10;2025-04-01;\n"
    report, events, _ = shop(tmp_path, text, after=STATUS)
    assert report.refused == {"missing_field": 1, "no_sale": 1, "unknown_status": 1}
    assert events.select("order_id", "event").rows() == [
        ("1", "purchase"),
        ("3", "purchase"),
        ("3", "return"),
    ]
    assert net(events) == {None: 10.0} and events["event_id"].is_unique().all()
    again = shop(tmp_path, text, after=STATUS)[1]
    assert again.equals(events)


def test_a_returned_order_whose_return_is_a_row_of_its_own_comes_back_once(tmp_path: Path) -> None:
    text = "no;who;sku;qty;each;at;state\n1;a;x;2;10;2025-04-01;back\n1;a;x;-2;10;2025-04-03;back\n"
    _, events, _ = shop(tmp_path, text, after=STATUS)
    assert events["event"].to_list() == ["purchase", "return"] and net(events) == {None: 0.0}


def test_a_status_without_a_meaning_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="status has no meaning yet"):
        shop(tmp_path, HEADER + "1;a;x;1;1;2025-04-01\n", {"status": "each"})
    with pytest.raises(IngestError, match=r'values\.status\."paid" is "sold"'):
        shop(tmp_path, HEADER + "1;a;x;1;1;2025-04-01\n", after='[source.values.status]\npaid = "sold"')


def test_refunds_and_discounts_have_either_sign_and_zero_pieces_are_no_sale(tmp_path: Path) -> None:
    columns = {"price": None, "amount": "each", "discount": "off", "event": "type"}
    text = (
        "no,who,sku,qty,each,at,off,type\n1,a,x,2,20.00,2025-04-01,-4.00,Order\n"
        "1,a,x,1,-10.00,2025-04-02,2.00,Refund\n2,a,y,1,30.00,2025-04-03,3.00,Order\n"
        "3,a,y,0,,2025-04-03,,Order\n4,a,y,0,5.00,2025-04-03,,Order\n5,a,y,1,-5.00,2025-04-03,,Order\n"
        "6,,,1,-9.00,2025-04-03,,Fee\n"
    )
    after = '[source.values.event]\nOrder = "purchase"\nRefund = "return"\nFee = "no sale"'
    report, events, _ = shop(tmp_path, text, columns, after=after)
    assert report.refused == {"amount_without_quantity": 1, "negative_price": 1, "no_sale": 2}
    assert net(events) == {None: 16.0 - 8.0 + 27.0}


def test_an_order_s_discount_is_spread_to_the_cent_and_its_refund_is_at_most_what_was_paid(
    tmp_path: Path,
) -> None:
    columns = {"order_discount": "off", "refunded": "back"}
    rows = "".join(f"1,a,x{n},1,{price},2025-04-01,{off},\n" for n, price, off in
                   [(0, "33.33", "10.00"), (1, "33.33", ""), (2, "33.34", "0.00")])  # fmt: skip
    text = "no,who,sku,qty,each,at,off,back\n" + rows + "2,a,x0,2,15.00,2025-04-01,,15.00\n"
    text += (
        "3,a,x0,1,20.00,2025-04-01,,25.00\n4,a,x0,1,9.00,2025-04-01,3.00,\n4,a,x1,1,9.00,2025-04-01,2.00,\n"
    )
    report, events, _ = shop(tmp_path, text, columns)
    assert report.refused == {"order_contradicts_itself": 2}
    one = events.filter(pl.col("order_id") == "1")
    assert float(one["discount"].sum()) == 10.0 and net(one) == {None: 90.0}
    two = events.filter(pl.col("order_id") == "2", pl.col("event") == "return")
    assert two.select(pl.col("quantity", "price").cast(float)).rows() == [(1.0, 15.0)]
    assert net(events.filter(pl.col("order_id") == "3")) == {None: 0.0}


def test_what_stands_on_the_first_line_of_an_order_alone_is_carried_down(tmp_path: Path) -> None:
    text = (
        "no;who;sku;qty;each;at;cur\n1;a;x;1;10;2025-04-01;EUR\n1;;y;1;5;;\n;;z;1;3;;\n2;b;x;1;7;2025-04-02;USD\n"
        "2;;y;1;8;;\n3;;x;1;9;2025-04-03;EUR\n"
    )
    more = 'carry_down = ["order_id", "source_id", "timestamp"]'
    _, events, _ = shop(tmp_path, text, {"currency": "cur"}, more)
    assert net(events) == {"EUR": 27.0, "USD": 15.0}
    people = dict(events.group_by("order_id").agg(pl.col("customer_id").n_unique()).rows())
    assert people == {"1": 1, "2": 1, "3": 1} and events.filter(pl.col("order_id") == "1").height == 3
    assert events.filter(pl.col("order_id") == "3")["customer_id"].to_list() == [None]


def test_carrying_down_goes_on_where_a_block_of_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopsight.training.data.reading.records.BLOCK_BYTES", 40)
    lines = [f"{n};{'a' if k == 0 else ''};x{k};1;1;2025-04-01\n" for n in range(20) for k in range(5)]
    _, events, _ = shop(tmp_path, HEADER + "".join(lines), more='carry_down = ["source_id"]')
    assert events.height == 100 and events["customer_id"].null_count() == 0


def test_a_priced_line_without_a_currency_is_refused_and_never_has_the_main_one(tmp_path: Path) -> None:
    rows = "1;a;x;1;10;2025-04-01;eur\n1;a;y;1;5;2025-04-01;€\n2;a;x;1;7;2025-04-02;\n"
    text = "no;who;sku;qty;each;at;cur\n" + rows
    report, events, _ = shop(tmp_path, text, {"currency": "cur"})
    assert report.refused == {"missing_currency": 1} and net(events) == {"EUR": 15.0}
    after = '[source.constants]\ncurrency = "CHF"'
    assert net(shop(tmp_path, text, {"currency": "cur"}, after=after)[1]) == {"EUR": 15.0, "CHF": 7.0}


def test_currencies_stand_beside_each_other_or_are_converted_at_stated_rates(tmp_path: Path) -> None:
    rows = "1;a;x;1;100;2025-04-01;EUR\n2;a;x;1;50;2025-04-01;EUR\n3;a;x;1;200;2025-04-02;USD\n"
    text = "no;who;sku;qty;each;at;cur\n" + rows
    _, _, workspace = shop(tmp_path, text, {"currency": "cur"})
    cards = {card["label"]: card["value"] for card in customer_cards(workspace)}
    assert cards["revenue after returns"] == "150 EUR and 200 USD"
    top = '[currency]\nmain = "EUR"\nrates = { USD = 0.5 }'
    report, _, workspace = shop(tmp_path, text, {"currency": "cur"}, top=top)
    assert not report.unchanged
    assert net(events_in_main(workspace.tables).collect()) == {"EUR": 250.0}
    cards = {card["label"]: card["value"] for card in customer_cards(workspace)}
    assert cards["revenue after returns"] == "250 EUR"


def test_a_date_and_a_time_in_two_columns_are_one_time_and_an_item_is_the_first_id_that_is_filled(
    tmp_path: Path,
) -> None:
    rows = "1,a,,Gift wrap,1,3,06/14/2025,10:15:30\n2,a,x,Mug,1,3,06/15/2025,\n"
    text = "no,who,sku,name,qty,each,day,clock\n" + rows
    columns = {"timestamp": ["day", "clock"], "item_id": ["sku", "name"]}
    _, events, _ = shop(tmp_path, text, columns)
    assert [str(t)[:19] for t in events["timestamp"]] == ["2025-06-14 10:15:30", "2025-06-15 00:00:00"]
    assert events["item_id"].to_list() == ["Gift wrap", "x"]


def test_a_source_that_gives_nothing_is_an_error_and_the_tables_stay(tmp_path: Path) -> None:
    good = HEADER + "1;a;x;1;1;2025-04-01\n"
    _, before, workspace = shop(tmp_path, good)
    with pytest.raises(IngestError, match=r"none of its 1 rows can be used: 1 bad_value \(quantity\)"):
        shop(tmp_path, good.replace(";1;1;", ";one;1;"))
    assert scan_table(workspace.tables, "events").collect().equals(before)


def test_a_changed_meaning_is_read_again_and_said(tmp_path: Path) -> None:
    text = HEADER + "1;a;x;1;1;2025-04-01 10:00\n"
    assert shop(tmp_path, text)[0].notes == ()
    report, events, _ = shop(tmp_path, text, more='timezone = "Europe/Berlin"')
    assert 'source "web" (orders, orders.csv): orders.csv is read again, changed: timezone' in report.notes
    assert str(events["timestamp"][0]) == "2025-04-01 08:00:00+00:00"


def test_keys_that_cannot_be_are_named(tmp_path: Path) -> None:
    for more, message in (
        ('date_order = "us"', 'date_order is "us"'),
        ('decimal = ";"', 'decimal is ";"'),
        ('country = "USA"', "two capital letters"),
        ('carry_down = ["price"]', 'unknown field of a whole order "price"'),
        ('carry_down = ["currency"]', "carry_down names currency, which has no column"),
    ):
        with pytest.raises(IngestError, match=message):
            shop(tmp_path, HEADER + "1;a;x;1;1;2025-04-01\n", more=more)
    shop(tmp_path, HEADER + "1;a;x;1;1;2025-04-01\n")
    assert load_sources(tmp_path / "sources.toml")[0].fields == tuple(COLUMNS)
