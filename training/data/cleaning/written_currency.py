"""The currency that an amount is written with: "€12", "12.00 zł", "USD 5" or "$5 CAD" say it themselves."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from shopsight.training.data.fields import MONEY_FIELDS
from shopsight.training.data.money import one_currency, written_currency

_NO_SIGN = r"[\d\s.,'’ʼ()+−–－﹣-]"


@dataclass(frozen=True)
class RowCurrencies:
    """The currency of each row (String), and which rows name two that cannot be one (None: none does)."""

    codes: pl.Series
    contradicted: pl.Series | None


def currency_words(texts: pl.Series) -> pl.Series:
    """The currency that each written amount carries: a code, or a sign of several; null where it has none."""
    words = texts.str.replace_all(_NO_SIGN, "")
    known = {word: written_currency(word) for word in words.drop_nulls().unique()}
    return words.replace_strict(known, default=None, return_dtype=pl.String)


def row_currencies(texts: pl.DataFrame, plain: pl.DataFrame, constant: str | None) -> RowCurrencies:
    """The currency of each row: of its column `currency`, else its amounts' own, else the constant.

    texts: the fields as text; plain: the same rows, an amount null where it is more than digits and a point.
    A sign of several currencies, such as $, is the one of the column or the constant that has this sign.
    """
    empty = pl.Series("currency", [None], dtype=pl.String).new_from_index(0, texts.height)
    stated = texts["currency"] if "currency" in texts.columns else empty
    written = {}
    for name in (n for n in MONEY_FIELDS if n in texts.columns):
        more = plain[name].is_null() & texts[name].is_not_null()
        if more.any():
            found = currency_words(texts[name].filter(more))
            if found.null_count() < found.len():
                written[name] = empty.scatter(more.arg_true(), found)
    if not written:
        return RowCurrencies(stated if constant is None else stated.fill_null(constant), None)
    said = pl.DataFrame({"stated": stated, **written})
    cases = said.unique()
    answers = [_one_of(row[0], row[1:], constant) for row in cases.iter_rows()]
    cases = cases.with_columns(
        pl.Series("code", [code for code, _ in answers], dtype=pl.String),
        pl.Series("torn", [torn for _, torn in answers], dtype=pl.Boolean),
    )
    found_of = said.join(cases, on=said.columns, how="left", nulls_equal=True, maintain_order="left")
    torn = found_of["torn"]
    return RowCurrencies(found_of["code"].alias("currency"), torn if torn.any() else None)


def _one_of(
    stated: str | None, written: tuple[str | None, ...], constant: str | None
) -> tuple[str | None, bool]:
    """The currency of a row, and whether what it says of its currency contradicts itself."""
    said = [code for code in (stated, *written) if code is not None]
    if not said:
        return constant, False
    code = one_currency(said)
    if code is None or constant is None:
        return code, code is None
    return one_currency([*said, constant]) or code, False
