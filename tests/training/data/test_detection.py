"""validate reads names in several languages and values; what it cannot know, it asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopsight.training.data.describing.aliases import status_of
from shopsight.training.data.describing.validate import rehearse, validate
from shopsight.training.data.errors import IngestError
from shopsight.training.data.presets import convention_of, preset_of
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.sources.source import Source


def drafted(folder: Path, text: str, name: str = "orders.csv") -> tuple[Source, list[str]]:
    """The first source of the draft of one file, and what is said of it."""
    (folder / name).write_text(text)
    lines = validate([folder / name], folder / "s.toml").lines
    return load_sources(folder / "s.toml")[0], "\n".join(lines).splitlines()


HEADERS = {
    "German": "Bestellnummer;Bestelldatum;Kundennummer;Artikelnummer;Menge;Einzelpreis;Währung;Bestellstatus",
    "French": "N° de commande;Date commande;N° client;Référence produit;Quantité;Prix unitaire;Devise;Statut",
    "Spanish": "Número de pedido;Fecha pedido;ID cliente;Referencia;Cantidad;Precio unitario;Moneda;Estado",
    "Polish": "Numer zamówienia;Data zamówienia;Numer klienta;Indeks;Ilość;Cena jednostkowa;Waluta;Status",
    "Chinese": "订单编号;下单时间;买家会员名;商家编码;购买数量;单价;币种;订单状态",
    "English, in another order": "Status;Unit Price;Currency;Qty;SKU;Customer ID;Order Date;Order No",
}
ROWS = [
    ("A1", "2025-04-01", "c1", "s1", "1", "10.00", "EUR", "paid"),
    ("A2", "2025-04-02", "c2", "s1", "3", "10.00", "EUR", "Cancelled"),
]


@pytest.mark.parametrize("language", HEADERS)
def test_orders_are_recognised_whatever_their_language_and_order(tmp_path: Path, language: str) -> None:
    rows = [row if "order" not in language else row[::-1] for row in ROWS]
    if "order" in language:  # Status, price, currency, quantity, item, customer, date, order
        rows = [(r[0], r[2], r[1], r[3], r[4], r[5], r[6], r[7]) for r in rows]
    text = "\n".join([HEADERS[language], *(";".join(row) for row in rows)]) + "\n"
    source, _ = drafted(tmp_path, text)
    assert source.kind == "orders" and source.values["status"] == {"Cancelled": "no sale", "paid": "sale"}
    assert {"order_id", "timestamp", "source_id", "item_id", "quantity", "price", "currency"} < set(
        source.columns
    )
    found, question = rehearse(tmp_path / "s.toml")
    assert found is not None, question
    assert [(t.currency, t.net) for t in found.takings] == [("EUR", 10.0)]


def test_a_line_s_total_is_told_from_a_unit_price_by_its_values(tmp_path: Path) -> None:
    header = "order_id,customer_id,sku,quantity,{},order_date,currency\n"
    rows = [("1", "a", 1, 5.0), ("2", "a", 3, 15.0), ("3", "b", 2, 8.0), ("4", "b", 4, 16.0)]
    text = "".join(f"{no},c,{item},{q},{m},2025-04-01,EUR\n" for no, item, q, m in rows)
    source, _ = drafted(tmp_path, header.format("price") + text)
    assert source.columns["amount"] == "price" and "price" not in source.columns
    (tmp_path / "s.toml").unlink()
    same = "".join(f"{no},c,{item},{q},{4 if item == 'b' else 5},2025-04-01,EUR\n" for no, item, q, _ in rows)
    source, _ = drafted(tmp_path, header.format("amount") + same)
    assert source.columns["price"] == "amount" and "amount" not in source.columns


def test_the_complete_journey_s_own_columns_are_read_as_totals(tmp_path: Path) -> None:
    header = "household_id,basket_id,product_id,quantity,sales_value,retail_disc,transaction_timestamp\n"
    rows = "".join(f"{n},{n},fuel,{1000 * n},{2.5 * n:.2f},0.10,2017-01-0{n}\n" for n in range(1, 9))
    source, lines = drafted(tmp_path, header + rows, "transactions.csv")
    assert source.columns["amount"] == "sales_value"
    assert any("no column names a currency" in line for line in lines)
    found, _ = rehearse(tmp_path / "s.toml")
    assert found is not None and found.takings[0].net == pytest.approx(2.5 * 36)


def test_what_only_the_first_line_of_an_order_says_is_carried_down(tmp_path: Path) -> None:
    text = "order_id,customer_id,sku,quantity,price,order_date,currency\n"
    text += "".join(f"{n},c{n},a,1,2,2025-04-01,EUR\n{n},,b,1,2,2025-04-01,\n" for n in range(5))
    source, _ = drafted(tmp_path, text)
    assert source.carry_down == ("source_id", "currency")


def test_a_status_whose_word_is_not_known_is_asked_for_and_its_rows_are_set_aside(tmp_path: Path) -> None:
    text = "order_id,customer_id,sku,quantity,price,order_date,currency,status\n"
    text += "1,c,a,1,2,2025-04-01,EUR,paid\n2,c,a,1,2,2025-04-01,EUR,zzz\n"
    source, lines = drafted(tmp_path, text)
    assert source.values["status"] == {"paid": "sale"} and any("status 'zzz'" in line for line in lines)
    found, _ = rehearse(tmp_path / "s.toml")
    assert found is not None and found.set_aside == {"unknown_status": 1}


def test_what_is_not_recognised_names_the_nearest_kind_and_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("customer_id,action,colour\n1,view,red\n")
    with pytest.raises(IngestError, match="nearest to events, of which timestamp is missing"):
        validate([tmp_path / "odd.csv"], tmp_path / "s.toml")


def test_an_ambiguous_date_is_asked_for_after_the_draft(tmp_path: Path) -> None:
    drafted(
        tmp_path, "order_id,customer_id,sku,quantity,price,order_date,currency\n1,c,a,1,2,03/04/2025,EUR\n"
    )
    found, question = rehearse(tmp_path / "s.toml")
    assert found is None and "date_order" in question


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (
            ["Paid", "wc-processing", "Teilweise erstattet", "已发货", "partially_refunded", "Terminée"],
            "sale",
        ),
        (
            ["Storniert", "CANCELLED", "on-hold", "Annulée", "交易关闭", "Pending payment", "Anulowane"],
            "no sale",
        ),
        (["Refunded", "Zurückerstattet", "Remboursée", "已退款", "Reembolsado"], "returned"),
        (["zzz", "", "7"], None),
    ],
)
def test_statuses_of_many_systems_and_languages(words: list[str], meant: str | None) -> None:
    assert [status_of(word) for word in words] == [meant] * len(words)


def test_a_preset_is_its_exporter_s_header_and_how_it_writes_dates() -> None:
    etsy = [
        "Sale Date",
        "Item Name",
        "Buyer",
        "Quantity",
        "Price",
        "Transaction ID",
        "Listing ID",
        "Order ID",
    ]
    preset = preset_of(etsy)
    assert preset is not None and preset.name.startswith("Etsy")
    convention = convention_of([f" {name.lower()}" for name in etsy])
    assert convention is not None and not convention.day_first
    assert preset_of(etsy[1:]) is None and convention_of(["a", "b"]) is None


@pytest.mark.parametrize(
    ("first", "second", "asked"),
    [
        (["A1", "A2"], ["A1", "A2", "A3"], True),
        (["A1", "A2", "A3", "A4", "A5"], ["A5", "A6", "A7", "A8"], False),  # an order over midnight
        (["A1"], ["B1"], False),
    ],
)
def test_two_files_of_the_same_orders_are_asked_about(
    tmp_path: Path, first: list[str], second: list[str], asked: bool
) -> None:
    english = "order_id,order_date,customer_id,sku,quantity,unit_price,currency"
    for name, header, ids in (("shop.csv", english, first), ("till.csv", HEADERS["German"], second)):
        sign = "," if header == english else ";"
        rows = [sign.join((no, "2025-04-13", "c1", "s1", "1", "10.00", "EUR", "paid")) for no in ids]
        if header == english:
            rows = [row.removesuffix(",paid") for row in rows]
        (tmp_path / name).write_text("\n".join([header, *rows]))
    lines = validate([tmp_path / "shop.csv", tmp_path / "till.csv"], tmp_path / "s.toml").lines
    told = "asked: shop.csv and till.csv have 2 of 2 order ids in common, as 'A1'"
    assert [line[: len(told)] for line in lines[2:]] == ([told] if asked else [])


MARK = ("1", "2025-04-13", "a@x.example", "S1", "Lamp", "2", "5.00", "EUR")
COLUMNS = ("Order ID", "Date", "Email", "SKU", "Product name", "Qty", "Price", "Currency")


@pytest.mark.parametrize(
    ("missing", "asked", "net"),
    [
        ("Order ID", "no column names the order", 10.0),
        ("Email", "no column names the customer", 10.0),
        ("SKU", "of one piece", 10.0),  # the product's name is the item then
        ("Qty", "no column names a quantity", 5.0),
        ("Price", "no column names the price", None),
        ("Currency", "no column names a currency", 10.0),
    ],
)
def test_one_missing_column_is_asked_for_or_stood_in_for(
    tmp_path: Path, missing: str, asked: str, net: float | None
) -> None:
    kept = [(name, value) for name, value in zip(COLUMNS, MARK, strict=True) if name != missing]
    text = "\n".join(",".join(part) for part in zip(*kept, strict=True)) + "\n"
    _, lines = drafted(tmp_path, text)
    assert any(asked in line for line in lines), lines
    found, question = rehearse(tmp_path / "s.toml")
    assert found is not None, question
    assert [t.net for t in found.takings] == ([] if net is None else [net]) and found.events == {
        "purchase": 1
    }


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("Nº de pedido,Fecha del pedido,Correo electrónico,Referencia,Cantidad,Precio unitario (EUR)", "P1"),
        ("N° commande,Date de la commande,Adresse e-mail,Référence,Quantité,Prix unitaire TTC EUR", "P1"),
        ("N. ordine,Data dell'ordine,Indirizzo email,Codice articolo,Quantità,Prezzo unitario [EUR]", "P1"),
        ("Bestellnr.,Datum der Bestellung,E-Mail,Artikel-Nr.,Stück,Einzelpreis in EUR", "P1"),
    ],
)
def test_small_words_asides_and_currencies_in_names(tmp_path: Path, header: str, first: str) -> None:
    drafted(tmp_path, f"{header}\n{first},2025-04-13,a@x.example,S1,2,5.00\n")
    found, question = rehearse(tmp_path / "s.toml")
    assert found is not None, question
    assert [(t.currency, t.net) for t in found.takings] == [("EUR", 10.0)] and found.buyers == 1


@pytest.mark.parametrize(
    "names", ["Date,Time", "Order Date,Time", "Datum,Uhrzeit", "Fecha,Hora", "Date,Heure"]
)
def test_a_date_and_its_clock_in_two_columns_are_one_time(tmp_path: Path, names: str) -> None:
    text = (
        f"Order ID,{names},Email,SKU,Qty,Unit Price,Currency\n1,2025-04-13,22:15,a@x.example,S1,1,5.00,EUR\n"
    )
    source, _ = drafted(tmp_path, text)
    assert [source.columns["timestamp"], source.columns["timestamp\n2"]] == names.split(",")
    found, _ = rehearse(tmp_path / "s.toml")
    assert found is not None and str(found.first) == "2025-04-13 22:15:00+00:00"
