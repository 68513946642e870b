"""Parses written numbers: removes currency signs and spaces, and applies the source's decimal separator.

"1.000" is one with a decimal point and a thousand with a decimal comma. Such an ambiguous value is decided by
the other values of its source or by the sources file (training/data/cleaning/conventions.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from babel.numbers import list_currencies

# Signs that stand for a currency beside ISO codes; longer ones first, because the first that fits is taken.
_SIGNS = (
    "(?i:cdn|us|ca|au|nz|hk|nt|sg|mx|cn|jp|s/|sfr|lei|руб|грн|kr|zł|kč|ft|лв|rs|rm|rp|fr|tl|din|kn|р|đ|"
    "euros?|rmb|人民币|元|円|원)|R|[CAS]\\$"
)
_LETTERS = rf"(?:(?:(?i:{'|'.join(sorted(list_currencies()))})|{_SIGNS})\.?)?"
_BESIDE = rf"(?:{_LETTERS}\s*\p{{Sc}}?|\p{{Sc}}\s*{_LETTERS})"
_CURRENCY = rf"^{_BESIDE}\s*|\s*{_BESIDE}$"
_UNIT = r"\s*(?i:kg|l|ltr|m|pcs?|pce|st|stk|stück|ks|szt|x|件|个|個)\.?$"
_SPACES = "[\u0020\u00a0\u2007\u2009\u202f'\u2019\u02bc]"
_GROUPED_BY_SPACES = rf"^\d{{1,3}}(?:{_SPACES}\d{{3}})+(?:[.,]\d+)?$"
# One sign with one to three digits before it and three after it; a group of thousands never begins with 0.
AMBIGUOUS = r"^[+-]?[1-9]\d{0,2}[.,]\d{3}$"


@dataclass(frozen=True)
class AmountVotes:
    """How many values can only have a decimal point, only a decimal comma, or either; and one of each."""

    point: int
    comma: int
    ambiguous: int
    examples: dict[str, str]


def bare_numbers(texts: pl.Series) -> pl.Series:
    """Return written numbers as digits with at most signs and separators; null for what is no number.

    Takes currency signs and codes, minus signs of every kind, before or after, parentheses for a minus,
    spaces (no-break and narrow ones too) and apostrophes between thousands, and units of pieces or weight.
    """
    text = pl.col("t").str.strip_chars().str.strip_chars_start("'").str.replace_all("[−–－﹣]", "-")
    minus = text.str.contains(r"^\(.*\)$|^\D*-|-\D*$")
    bare = text.str.replace_all(r"[()+-]", "").str.strip_chars()
    bare = bare.str.replace_all(_CURRENCY, "").str.replace(_UNIT, "").str.strip_chars()
    bare = (
        pl.when(bare.str.contains(_GROUPED_BY_SPACES)).then(bare.str.replace_all(_SPACES, "")).otherwise(bare)
    )
    number = bare.str.contains(r"^[\d.,]*\d[.,]?$") & ~text.str.contains(r"\d\s*[()+-]+\s*\d")
    signed = pl.when(minus).then(pl.concat_str(pl.lit("-"), bare)).otherwise(bare)
    return texts.alias("t").to_frame().select(pl.when(number).then(signed)).to_series().alias(texts.name)


def count_votes(bare: pl.Series) -> AmountVotes:
    """Count which decimal separator the values of `bare_numbers` show."""
    kinds = {
        "point": _decimals("."),
        "comma": _decimals(","),
        "ambiguous": pl.col("t").str.contains(AMBIGUOUS),
    }
    frame = bare.drop_nulls().alias("t").to_frame().filter(pl.col("t").str.contains("[.,]"))
    found = {kind: frame.filter(is_kind)["t"] for kind, is_kind in kinds.items()}
    counts = {kind: values.len() for kind, values in found.items()}
    return AmountVotes(**counts, examples={kind: str(v[0]) for kind, v in found.items() if v.len()})


def read_numbers(bare: pl.Series, decimal: str) -> pl.Series:
    """Parse `bare_numbers` as Float64; `decimal` is used for ambiguous values only."""
    text = pl.col("t")
    of_point = text.str.replace_all(",", "", literal=True)
    of_comma = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    ambiguous = text.str.contains(AMBIGUOUS)
    digits = (
        pl.when(ambiguous).then(of_point if decimal == "." else of_comma)
        .when(_decimals(".")).then(of_point)
        .when(_decimals(",")).then(of_comma)
        .when(text.str.contains(r"^-?\d+$")).then(text)
    )  # fmt: skip
    return (
        bare.alias("t").to_frame().select(digits.cast(pl.Float64, strict=False)).to_series().alias(bare.name)
    )


def _decimals(sign: str) -> pl.Expr:
    """Values whose decimals can only follow `sign`: the other one groups, or what follows is no group."""
    other = "," if sign == "." else "."
    own, groups = f"[{sign}]", f"[{other}]"
    whole = rf"(?:\d+|\d{{1,3}}(?:{groups}\d{{2,3}})*{groups}\d{{3}})?"
    with_decimals = pl.col("t").str.contains(rf"^-?{whole}{own}\d*$")
    grouped = pl.col("t").str.contains(rf"^-?\d{{1,3}}(?:{groups}\d{{2,3}})+{groups}\d{{3}}$")
    return (with_decimals | grouped) & ~pl.col("t").str.contains(AMBIGUOUS)
