"""Amounts that carry the sign of their currency: each row has its own, and no two are added together."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.training.data.check import check
from shopsight.training.data.cleaning.amounts import bare_numbers, read_numbers
from shopsight.training.data.cleaning.written_currency import currency_words
from shopsight.training.data.money import main_currency, one_currency
from tests.training.data.test_amounts import HEADER, net, shop

SIGNED = {
    "€12.00": "EUR", "12,00 €": "EUR", "12.00 EUR": "EUR", "EUR 12.00": "EUR", "12.00 eur": "EUR",
    "12,00 Euro": "EUR", "£12.00": "GBP", "12.00 GBP": "GBP", "-£12.00": "GBP", "(£12.00)": "GBP",
    "US$12.00": "USD", "US$ 12.00": "USD", "USD 12.00": "USD", "$12.00 USD": "USD", "12.00 US$": "USD",
    "C$12.00": "CAD", "CA$12.00": "CAD", "$12.00 CAD": "CAD", "A$12.00": "AUD", "AU$12.00": "AUD",
    "NZ$12.00": "NZD", "HK$12.00": "HKD", "NT$12": "TWD", "S$12.00": "SGD", "R$ 12,00": "BRL",
    "MX$12.00": "MXN", "CHF 12.00": "CHF", "12.00 CHF": "CHF", "Fr. 12.00": "CHF", "12,00 zł": "PLN",
    "12,00 ZŁ": "PLN", "PLN 12.00": "PLN", "12,00 Kč": "CZK", "12 Ft": "HUF", "12,00 лв.": "BGN",
    "12,00 руб.": "RUB", "12 ₽": "RUB", "12,00 lei": "RON", "₹12.00": "INR", "₩12": "KRW", "₺12.00": "TRY",
    "₪12.00": "ILS", "12 ₫": "VND", "12 ₴": "UAH", "99元": "CNY", "CN¥12.00": "CNY", "JP¥12": "JPY",
    "円12": "JPY", "RM 12.00": "MYR", "Rp 12": "IDR", "S/ 12.00": "PEN", "R12.00": "ZAR", "฿12.00": "THB",
    "SEK 12.00": "SEK", "12,00 NOK": "NOK", "$12.00": "$", "¥12": "¥", "￥12": "¥", "12,00 kr": "KR",
    "12,00 kr.": "KR", "Rs. 12.00": "RS", "12,00 $US": "USD", "CAD$12.00": "CAD",
}  # fmt: skip


@pytest.mark.parametrize("text", SIGNED)
def test_an_amount_s_sign_is_its_currency_and_it_is_read_as_a_number(text: str) -> None:
    number = read_numbers(bare_numbers(pl.Series([text])), ".")[0]
    assert number is not None and abs(number) == (12.0 if "12" in text else 99.0)
    (word,) = currency_words(pl.Series([text]))
    assert one_currency([word]) == SIGNED[text]


def test_rows_of_many_signs_and_of_none_are_never_added_to_each_other(tmp_path: Path) -> None:
    kinds = ["return" if text.startswith(("-", "(")) else "purchase" for text in SIGNED]
    lines = [f"{n};a;x;1;{text};2025-04-01;{kinds[n]}\n" for n, text in enumerate(SIGNED)]
    text = HEADER.replace("\n", ";kind\n") + "".join(lines) + "x;a;x;1;7.00;2025-04-03;purchase\n"
    report, events, _ = shop(tmp_path, text, {"event": "kind"})
    expected: dict[str | None, float] = {None: 7.0}
    for amount, kind in zip(SIGNED, kinds, strict=True):
        money = 12.0 if "12" in amount else 99.0
        code = SIGNED[amount]
        expected[code] = expected.get(code, 0.0) + (money if kind == "purchase" else -money)
    assert report.refused == {} and net(events) == expected


@pytest.mark.parametrize("text", ["12.00", "12,00", "3 pcs", "0,450 kg", "1 234,56", "1'234.50"])
def test_an_amount_without_a_sign_has_no_currency(text: str) -> None:
    assert currency_words(pl.Series([text])).to_list() == [None]


@pytest.mark.parametrize(
    ("text", "stated", "expected"),
    [("$12.00", "CAD", "CAD"), ("¥12", "JPY", "JPY"), ("¥12", "CNY", "CNY"), ("12 kr", "NOK", "NOK"),
     ("£12.00", "EGP", "EGP"), ("100元", "TWD", "TWD"), ("$12.00", "US$", "USD"), ("€12.00", "€", "EUR"),
     ("12.00", "EUR", "EUR"), ("Rs 12", "PKR", "PKR")],
)  # fmt: skip
@pytest.mark.parametrize("where", ["column", "constant"])
def test_a_column_or_a_constant_says_which_currency_a_sign_of_several_is(
    text: str, stated: str, expected: str, where: str, tmp_path: Path
) -> None:
    if where == "column":
        row = f"1;a;x;1;{text};2025-04-01;{stated}\n"
        _, events, _ = shop(tmp_path, HEADER.replace("\n", ";cur\n") + row, {"currency": "cur"})
    else:
        after = f'[source.constants]\ncurrency = "{stated}"'
        _, events, _ = shop(tmp_path, HEADER + f"1;a;x;1;{text};2025-04-01\n", after=after)
    assert list(net(events)) == [expected]


def test_a_sign_that_contradicts_the_row_s_currency_refuses_the_row(tmp_path: Path) -> None:
    text = "no;who;sku;qty;each;at;cur;off\n1;a;x;1;£10.00;2025-04-01;EUR;\n2;a;x;1;€10;2025-04-01;EUR;\n"
    text += "3;a;x;1;$10;2025-04-01;GBP;\n4;a;x;1;€10;2025-04-01;EUR;£1\n5;a;x;1;10;2025-04-01;EUR;€1\n"
    report, events, _ = shop(tmp_path, text, {"currency": "cur", "discount": "off"})
    assert report.refused == {"two_currencies": 3} and net(events) == {"EUR": 19.0}


def test_a_constant_is_of_the_amounts_without_a_sign_of_their_own(tmp_path: Path) -> None:
    rows = "1;a;x;1;10;2025-04-01\n2;a;x;1;£5;2025-04-02\n3;a;x;1;$3;2025-04-02\n"
    _, events, _ = shop(tmp_path, HEADER + rows, after='[source.constants]\ncurrency = "EUR"')
    assert net(events) == {"EUR": 10.0, "GBP": 5.0, "$": 3.0}


@pytest.mark.parametrize("field", ["amount", "discount", "order_discount", "refunded", "order_paid"])
def test_any_amount_of_a_row_says_its_currency(field: str, tmp_path: Path) -> None:
    text = "no;who;sku;qty;each;at;more\n1;a;x;1;10;2025-04-01;€10\n2;a;x;1;10;2025-04-01;£10\n"
    _, events, _ = shop(tmp_path, text, {field: "more"})
    assert set(events["currency"]) == {"EUR", "GBP"}


def test_a_line_without_a_sign_has_the_currency_of_its_order(tmp_path: Path) -> None:
    rows = "1;a;x;1;€10;2025-04-01\n1;a;y;1;5;2025-04-01\n2;a;x;1;£7;2025-04-02\n"
    assert net(shop(tmp_path, HEADER + rows)[1]) == {"EUR": 15.0, "GBP": 7.0}


def test_one_odd_sign_does_not_make_its_currency_the_shop_s(tmp_path: Path) -> None:
    rows = "".join(f"{n};a;x;1;10;2025-04-01\n" for n in range(9)) + "9;a;x;1;£3;2025-04-02\n"
    report, events, workspace = shop(tmp_path, HEADER + rows)
    assert report.refused == {} and net(events) == {None: 90.0, "GBP": 3.0}
    assert main_currency(events.lazy()) is None
    assert [(one.currency, one.net) for one in check(workspace.tables).takings] == [
        (None, 90.0),
        ("GBP", 3.0),
    ]


def test_signs_are_read_in_every_block_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shopsight.training.data.reading.records.BLOCK_BYTES", 40)
    rows = "".join(f"{n};a;x;1;{'£' if n == 37 else ''}1;2025-04-01\n" for n in range(50))
    assert net(shop(tmp_path, HEADER + rows)[1]) == {None: 49.0, "GBP": 1.0}
