"""Amounts in several currencies: converted if the sources file has rates, otherwise never added together."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from babel.numbers import list_currencies

from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.data.tables import MONEY, PRICE, scan_table

NO_CURRENCY = "without a currency"
_SIGNS = {
    "€": "EUR", "EURO": "EUR", "EUROS": "EUR", "£": "GBP", "US$": "USD", "C$": "CAD", "CA$": "CAD",
    "CDN$": "CAD", "A$": "AUD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "NT$": "TWD", "S$": "SGD",
    "SG$": "SGD", "MX$": "MXN", "R$": "BRL", "RMB": "CNY", "CN¥": "CNY", "元": "CNY", "人民币": "CNY",
    "JP¥": "JPY", "円": "JPY", "₹": "INR", "₽": "RUB", "РУБ": "RUB", "Р": "RUB", "₺": "TRY", "TL": "TRY",
    "₩": "KRW", "원": "KRW", "₪": "ILS", "₫": "VND", "Đ": "VND", "₴": "UAH", "ГРН": "UAH", "ZŁ": "PLN",
    "KČ": "CZK", "FT": "HUF", "ЛВ": "BGN", "LEI": "RON", "KN": "HRK", "DIN": "RSD", "SFR": "CHF", "FR": "CHF",
    "RM": "MYR", "RP": "IDR", "S/": "PEN", "R": "ZAR", "฿": "THB", "₱": "PHP", "₦": "NGN", "₸": "KZT",
    "₾": "GEL", "₵": "GHS",
}  # fmt: skip
# Signs of several currencies: which of them is meant, a column or a constant can say. Of those that are in
# _SIGNS as well, that one is meant where nothing else is said.
_OF_SEVERAL = {
    sign: frozenset(codes.split())
    for sign, codes in {
        "$": "USD CAD AUD NZD HKD SGD TWD MXN ARS CLP COP UYU BRL DOP NAD FJD XCD BBD BSD"
        " BZD BMD BND JMD TTD",
        "¥": "JPY CNY", "KR": "SEK NOK DKK ISK", "RS": "INR PKR LKR NPR MUR SCR",
        "£": "GBP EGP LBP SYP GIP FKP SHP", "元": "CNY JPY TWD HKD", "FR": "CHF XAF XOF XPF",
        "LEI": "RON MDL", "Р": "RUB BYN", "C$": "CAD NIO", "R": "ZAR BRL",
    }.items()
}  # fmt: skip
_CODES = frozenset(list_currencies())


@dataclass(frozen=True)
class Currencies:
    """The shop's main currency and what one of each other is worth in it, as the sources file says."""

    main: str | None = None
    rates: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The currencies as the snapshot's note takes them."""
        return {"main": self.main, "rates": self.rates}


def currency_code(text: str) -> str:
    """Return a currency's ISO code where its sign or spelling says it; $, ¥, kr and Rs are of several."""
    plain = _plain(text)
    return _SIGNS.get(plain, plain)


def written_currency(word: str) -> str | None:
    """What stands beside the digits of an amount as a code, or as a sign of several; None for anything else.

    A code beside a sign, as in $5 CAD, says which one the sign means.
    """
    plain = _plain(word)
    if plain in _OF_SEVERAL:
        return plain
    code = _SIGNS.get(plain, plain)
    letters = re.sub(r"[$¥€£]", "", plain)
    turned = _SIGNS.get(letters + plain.replace(letters, ""), plain) if letters else plain
    return next((found for found in (code, letters, turned) if found in _CODES), None)


def one_currency(names: Iterable[str]) -> str | None:
    """The currency that all names may mean, a code before a sign; None where no currency is all of them.

    names: codes, and signs of several, as `written_currency` returns them; at least one.
    """
    distinct = dict.fromkeys(names)
    meant = frozenset.intersection(*(_OF_SEVERAL.get(name, frozenset([name])) for name in distinct))
    if not meant:
        return None
    return next(iter(meant)) if len(meant) == 1 else currency_code(next(iter(distinct)))


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).upper().rstrip(".")


def events_in_main(tables: Path, events: pl.LazyFrame | None = None) -> pl.LazyFrame:
    """Events with prices and discounts in the main currency where a rate is known, else as they were.

    events: of the tables (None: all of them). Amounts in a currency without a rate keep its name, so whoever
    adds amounts looks at `currency`.
    """
    events = scan_table(tables, "events") if events is None else events
    said = read_snapshot(tables)["note"].get("currencies") or {}
    rates = said.get("rates") or {}
    if not rates:
        return events
    rate = pl.col("currency").replace_strict(rates, default=None, return_dtype=pl.Float64)

    def amount(name: str, digits: int, dtype: pl.Decimal) -> pl.Expr:
        turned = (pl.col(name).cast(pl.Float64) * rate).round(digits).cast(dtype)
        return pl.when(rate.is_not_null()).then(turned).otherwise(pl.col(name)).alias(name)

    currency = pl.when(rate.is_not_null()).then(pl.lit(said["main"])).otherwise("currency").alias("currency")
    return events.with_columns(amount("price", 8, PRICE), amount("discount", 4, MONEY), currency)


def main_currency(events: pl.LazyFrame) -> str | None:
    """The currency of most rows with a price; None where none has one, or most are without a currency."""
    counted = events.filter(pl.col("price").is_not_null()).group_by("currency").len()
    top = counted.sort("len", "currency", descending=[True, False], nulls_last=True).head(1).collect()
    found: str | None = top["currency"].item() if top.height else None
    return found


def is_in(currency: str | None) -> pl.Expr:
    """Whether an amount is in a currency; one without a currency is so only where no amount has one."""
    return pl.col("currency").eq_missing(pl.lit(currency, dtype=pl.String))


def line_total() -> pl.Expr:
    """What a line costs after its discount, float64; null without a price."""
    pieces = pl.col("quantity").cast(pl.Float64).fill_null(1.0).abs()
    return pieces * pl.col("price").cast(pl.Float64) - pl.col("discount").cast(pl.Float64).fill_null(0.0)


def totals(events: pl.LazyFrame) -> pl.DataFrame:
    """Sales by currency, the largest first: currency, num_lines, sold, returned and net (float64)."""
    lines = events.filter(pl.col("event").is_in(["purchase", "return"]) & pl.col("price").is_not_null())
    total, is_return = line_total(), pl.col("event") == "return"
    return (
        lines.group_by("currency")
        .agg(
            pl.len().alias("num_lines"),
            pl.when(is_return).then(0.0).otherwise(total).sum().alias("sold"),
            pl.when(is_return).then(total).otherwise(0.0).sum().alias("returned"),
        )
        .with_columns((pl.col("sold") - pl.col("returned")).alias("net"))
        .sort("num_lines", "currency", descending=[True, False], nulls_last=True)
        .collect()
    )


def in_words(amounts: Sequence[tuple[str | None, float]], digits: int = 0) -> str:
    """Amounts of several currencies beside each other: "1,200 EUR and 30 USD"."""
    only = len(amounts) == 1 and amounts[0][0] is None
    told = [f"{value:,.{digits}f}" + ("" if only else f" {name or NO_CURRENCY}") for name, value in amounts]
    return " and ".join(told)
