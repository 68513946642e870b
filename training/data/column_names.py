"""Columns by their names: which of our fields each may be, and which currency it is in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
from babel.numbers import list_currencies

from training.data.aliases import ALIASES, plain_name
from training.data.sources import currency_code

_ASIDE = re.compile(r"\s*[(\[（【].*?[)\]）】]\s*")  # as in Price (EUR)
_WORDS = re.compile(r"[^\W\d_]+\$?|[$€£₹₽₺₩₪₫₴]")
_CODES = frozenset(list_currencies())


@dataclass(frozen=True)
class Names:
    """The columns of a file by their plain names, and for each of our fields those that may be it."""

    plain: dict[str, str]
    found: dict[str, list[str]]

    @property
    def have(self) -> set[str]:
        """Our fields for which there is a column."""
        return {name for name, columns in self.found.items() if columns}


def names_of(header: Iterable[str]) -> Names:
    """Look up the names of columns, also without what is in brackets and without a currency's code."""
    columns = list(header)
    plain = {plain_name(_bare(column)): column for column in reversed(columns)}
    plain |= {plain_name(column): column for column in reversed(columns)}
    plain.pop("", None)
    found = {
        name: list(dict.fromkeys(plain[a] for a in aliases if a in plain))
        for name, aliases in ALIASES.items()
    }
    return Names(plain, found)


def currency_in(column: str, texts: pl.Series) -> set[str]:
    """The currencies that written amounts, or else the name of their column, say (codes, or "$")."""
    words = texts.drop_nulls().str.replace_all(r"[\d\s.,'’()+−–-]", "").unique().to_list()
    said = {code for word in words if word and (code := _code(word))}
    return said or {code for word in _WORDS.findall(column) if (code := _code(word))}


def _bare(column: str) -> str:
    text = _ASIDE.sub(" ", column)
    return " ".join(word for word in text.split() if word not in _CODES)


def _code(word: str) -> str | None:
    code = currency_code(word)
    return code if code in _CODES or code == "$" else None
