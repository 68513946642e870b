"""Exports of PayPal, Square, PrestaShop and Judge.me: the draft, run as it is, gives what their books say."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.check import Books
from shopsight.training.data.describing.validate import rehearse, validate
from shopsight.training.data.ingest import ingest
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import read_table


def drafted(folder: Path, files: dict[str, str]) -> tuple[list[str], list[Source], Books]:
    """What is said of files, the sources of their draft, and what it adds up to."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    lines = validate([folder / name for name in files], folder / "s.toml").lines
    found, question = rehearse(folder / "s.toml")
    assert found is not None, question
    return "\n".join(lines).splitlines(), load_sources(folder / "s.toml"), found


PAYPAL = (
    '"Date","Time","TimeZone","Name","Type","Status","Currency","Gross","Fee","Net","From Email Address",'
    '"To Email Address","Transaction ID","Item Title","Item ID","Quantity","Balance"\n'
    '"06/14/2025","22:15:30","America/Los_Angeles","Ann","Express Checkout Payment","Completed","USD",'
    '"1,200.00","-36","1,164.00","ann@x.example","shop@s.example","T1","Bench","B1","1","1"\n'
    '"06/15/2025","09:00:00","America/Los_Angeles","Ann","Payment Refund","Completed","USD","-200.00",'
    '"6","-194","shop@s.example","ann@x.example","T2","Bench","B1","1","1"\n'
    '"06/16/2025","09:00:00","America/Los_Angeles","","General Withdrawal","Completed","USD","-964.00",'
    '"0","-964","","","T3","","","","0"\n'
    '"06/17/2025","09:00:00","America/Los_Angeles","Bob","Website Payment","Pending","USD","10.00","0","10",'
    '"bob@x.example","shop@s.example","T4","","","","0"\n'
)


def test_paypal_s_activity_is_payments_and_refunds_in_its_own_time_zone(tmp_path: Path) -> None:
    _, _, found = drafted(tmp_path, {"Download.CSV": PAYPAL})
    (usd,) = found.takings
    assert (usd.currency, usd.sold, usd.returned) == ("USD", 1200.0, 200.0)
    assert str(found.first) == "2025-06-15 05:15:30+00:00" and found.set_aside == {"no_sale": 2}
    assert (found.customers, found.buyers) == (1, 1), (
        "the shop pays refunds and withdraws, and is no customer"
    )


GERMAN_PAYPAL = (
    '"Datum","Uhrzeit","Zeitzone","Name","Typ","Status","Währung","Brutto","Gebühr","Netto",'
    '"Absender E-Mail-Adresse","Empfänger E-Mail-Adresse","Transaktionscode","Artikelbezeichnung"\n'
    '"14.06.2025","22:15:30","CEST","Ann","Website-Zahlung","Abgeschlossen","EUR","1.200,00","-36,00",'
    '"1.164,00","ann@x.example","shop@s.example","T1","Bank"\n'
    '"15.06.2025","09:00:00","CEST","Ann","Rückzahlung","Abgeschlossen","EUR","-200,00","6,00","-194,00",'
    '"shop@s.example","ann@x.example","T2","Bank"\n'
    '"16.06.2025","09:00:00","CEST","","Rückzahlung","Abgeschlossen","EUR","-5,00","0,00","-5,00",'
    '"shop@s.example","","T3",""\n'
)


def test_a_refund_is_of_whom_the_money_went_to(tmp_path: Path) -> None:
    (tmp_path / "paypal.csv").write_text(GERMAN_PAYPAL, encoding="utf-8")
    validate([tmp_path / "paypal.csv"], tmp_path / "s.toml")
    workspace = Workspace(tmp_path / "w")
    ingest(tmp_path / "s.toml", workspace, PseudonymKey("test", b"k" * 32))
    events = read_table(workspace.tables, "events").sort("timestamp")
    assert events["event"].to_list() == ["purchase", "return", "return"]
    buyer = events["customer_id"][0]
    assert events["customer_id"].to_list() == [buyer, buyer, None]
    assert read_table(workspace.tables, "customers")["customer_id"].to_list() == [buyer]
    rules = read_table(workspace.tables, "flags").filter(pl.col("id") == events["event_id"][1])["rule"]
    assert "return_matched" in rules.to_list()


def test_payments_beside_orders_do_not_count_twice(tmp_path: Path) -> None:
    orders = (
        "order_id,order_date,customer_id,sku,quantity,unit_price,currency\n1,2025-06-14,c,B1,1,9.00,USD\n"
    )
    lines, sources, found = drafted(tmp_path, {"orders.csv": orders, "paypal.csv": PAYPAL})
    assert lines[-1].startswith("asked: paypal.csv lists payments")
    assert {source.path for source in sources} == {"orders.csv"} and found.takings[0].net == 9.0


def test_square_s_item_sales_are_totals_of_lines(tmp_path: Path) -> None:
    text = (
        "Date,Time,Time Zone,Category,Item,Qty,Price Point Name,SKU,Modifiers Applied,Gross Sales,Discounts,"
        "Net Sales,Tax,Transaction ID,Payment ID,Event Type,Customer ID,Customer Name\n"
        "2025-06-14,10:15:30,Eastern Time,Lamps,Oak,2,Regular,OAK,,$80.00,-$8.00,$72.00,$5,T1,"
        "P1,Payment,C1,Ann\n"
        '2025-06-14,10:15:30,Eastern Time,Cafe,Tea,1,Regular,,,"$1,003.50",$0.00,"$1,003.50",$0,T1,'
        "P1,Payment,C1,Ann\n"
        "2025-06-15,11:00:00,Eastern Time,Lamps,Oak,-1,Regular,OAK,,-$40.00,$4.00,-$36.00,-$2,T2,"
        "P2,Refund,C1,Ann\n"
    )
    lines, sources, found = drafted(tmp_path, {"items-2025.csv": text})
    (dollars,) = found.takings
    assert (dollars.sold, dollars.returned, found.orders, found.buyers) == (1075.5, 36.0, 1, 1)
    assert sources[0].columns["amount"] == "Gross Sales" and "no column names a currency" in lines[1]


@pytest.mark.parametrize(
    "header",
    [
        "ID;Reference;New client;Delivery;Customer;Total;Payment;Status;Date",
        "ID;Référence;Nouveau client;Livraison;Client;Total;Paiement;État;Date",
        "ID;Referencia;Cliente nuevo;Entrega;Cliente;Total;Pago;Estado;Fecha",
        "ID;Riferimento;Nuovo cliente;Consegna;Cliente;Totale;Pagamento;Stato;Data",
        "ID;Bestellreferenz;Neukunde;Lieferung;Kunde;Gesamt;Zahlung;Status;Datum",
    ],
)
def test_prestashop_s_list_of_orders_in_five_languages(tmp_path: Path, header: str) -> None:
    text = (
        "9;QA;1;FR;N. Aubier;1\u202f234,56 €;CB;Delivered;2025-06-01 09:10:11\n"
        "10;QB;0;FR;N. Aubier;59,00 €;PayPal;Annulé;2025-06-03 10:00:00\n"
    )
    lines, _, found = drafted(tmp_path, {"orders.csv": f"{header}\n{text}"})
    assert [(t.currency, t.net) for t in found.takings] == [("EUR", 1234.56)]
    assert found.set_aside == {"no_sale": 1} and any("no column names an item" in line for line in lines)


DETAIL = (
    "id_order_detail;id_order;product_id;product_name;product_quantity;unit_price_tax_incl;total_price_tax_incl\n"
    "1;9;1;Lamp;2;10.000000;20.000000\n2;9;2;Shade;1;5.500000;5.500000\n3;10;2;Shade;1;5.500000;5.500000\n"
)
CUSTOMERS = "id_customer;firstname;lastname;email\n7;Nina;Aubier;n@x.example\n8;Mo;Maes;m@x.example\n"


@pytest.mark.parametrize(
    ("state", "values", "net", "asked"),
    [("state_name", ("Shipped", "Canceled"), 25.5, False), ("current_state", ("2", "6"), 31.0, True)],
)
def test_prestashop_s_tables_are_joined_and_customers_are_the_buyers(
    tmp_path: Path, state: str, values: tuple[str, str], net: float, asked: bool
) -> None:
    orders = f"id_order;reference;id_customer;{state};total_paid;date_add\n"
    orders += "".join(
        f"{no};Q{no};{who};{said};1;2025-06-01 09:10:11\n"
        for no, who, said in zip((9, 10), (7, 8), values, strict=True)
    )
    files = {"ps_orders.csv": orders, "ps_order_detail.csv": DETAIL, "ps_customer.csv": CUSTOMERS}
    lines, _, found = drafted(tmp_path, files)
    assert (found.customers, found.takings[0].net) == (2, net)
    assert (
        any("is \"current_state\" the status of the order? its values '2', '6'" in x for x in lines) is asked
    )


def test_judge_me_s_reviews_are_the_customers_words_alone(tmp_path: Path) -> None:
    text = (
        "title,body,rating,review_date,source,curated,reviewer_name,reviewer_email,product_id,product_handle,"
        "reply,reply_date\n"
        'Great,"Warm.\nAgain!",5,2025-05-02 08:30:00 UTC,web,ok,Ivo,ivo@x.example,8001,hat,'
        "Thanks Ivo!,2025-05-03\n"
    )
    _, sources, found = drafted(tmp_path, {"reviews.csv": text})
    assert sources[0].columns["text"] == "body" and "reply" not in sources[0].columns.values()
    assert found.events == {"review": 1}
