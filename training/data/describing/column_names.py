"""Maps columns to fields and currencies by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from babel.numbers import list_currencies

from shopsight.training.data.describing.aliases import ALIASES, plain_name
from shopsight.training.data.money import currency_code

_ASIDE = re.compile(r"\s*[(\[（【].*?[)\]）】]\s*")  # as in Price (EUR)
_WORDS = re.compile(r"[^\W\d_]+\$?|[$€£₹₽₺₩₪₫₴]")
# Words that name nothing, and ways to write "number".
_SMALL_WORDS = """
    de la le les du des d l do da dos das della dello dell del dei degli di el los las of the der die den van
    het in ttc htva
"""
_SMALL = frozenset(_SMALL_WORDS.split())
_NUMBERS = dict.fromkeys(("nº", "n°", "no", "nr", "num"), "n")
# Names that a customer, an item and an order have alike.
_ANY = "id name type status state title description value label category text total"
_OF_ANYTHING = frozenset(_ANY.split())
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
    spelled = [(name, column) for column in reversed(columns) for name in _plain_names(column)]
    plain = {name: column for column in reversed(columns) if (name := _leaf(column))}
    plain |= {name: column for name, column in spelled if name}
    plain |= {plain_name(column): column for column in reversed(columns) if plain_name(column)}
    found = {
        name: list(dict.fromkeys(plain[a] for a in aliases if a in plain))
        for name, aliases in ALIASES.items()
    }
    return Names(plain, found)


def currency_in(column: str) -> set[str]:
    """The currencies that the name of a column says (codes, or "$")."""
    return {code for word in _WORDS.findall(column) if (code := _code(word))}


def _plain_names(column: str) -> list[str]:
    """The plain names of a column: as it is, without asides and currencies, and without small words."""
    bare = " ".join(word for word in _ASIDE.sub(" ", column).split() if word not in _CODES)
    words = [_NUMBERS.get(w, w) for w in re.findall(r"[^\W_]+[º°]?", bare.casefold()) if w not in _SMALL]
    return [plain_name(column), plain_name(bare), plain_name("".join(words))]


def _leaf(column: str) -> str:
    """The last name of a nested column such as properties.time, where it says what it is by itself."""
    last = plain_name(column.rpartition(".")[2]) if "." in column else ""
    return "" if last in _OF_ANYTHING else last


def _code(word: str) -> str | None:
    code = currency_code(word)
    return code if code in _CODES or code == "$" else None
