"""Money of several currencies: converted where the sources file has rates, never added together else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.data.tables import MONEY, PRICE, scan_table

NO_CURRENCY = "without a currency"
_SIGNS = {
    "€": "EUR", "EURO": "EUR", "EUROS": "EUR", "£": "GBP", "US$": "USD", "C$": "CAD", "CA$": "CAD",
    "A$": "AUD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "NT$": "TWD", "R$": "BRL", "₹": "INR", "₽": "RUB",
    "₺": "TRY", "₩": "KRW", "₪": "ILS", "₫": "VND", "₴": "UAH", "ZŁ": "PLN", "KČ": "CZK", "RMB": "CNY",
    "元": "CNY", "人民币": "CNY", "円": "JPY",
}  # fmt: skip


@dataclass(frozen=True)
class Currencies:
    """The shop's main currency and what one of each other is worth in it, as the sources file says."""

    main: str | None = None
    rates: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The currencies as the snapshot's note takes them."""
        return {"main": self.main, "rates": self.rates}


def currency_code(text: str) -> str:
    """Return a currency's ISO code where its sign or spelling says it; $ and ¥ are of several currencies."""
    plain = text.strip().upper()
    return _SIGNS.get(plain, plain)


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
    """The currency of most rows that have one; None where none has."""
    counted = events.filter(pl.col("currency").is_not_null()).group_by("currency").len()
    top = counted.sort("len", "currency", descending=[True, False]).head(1).collect()
    return str(top["currency"][0]) if top.height else None


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
