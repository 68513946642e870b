"""Masks personal data in free text, and detects its language by script."""

from __future__ import annotations

import re
from collections.abc import Callable

import polars as pl

# Each with a stand-in that a reader and a language model can still make sense of. Order matters: a card
# number would otherwise be taken for a phone. Without lookaround, neighbours are captured and put back.
_EMAILS = (
    # Latin letters first: Chinese has no spaces, and the words around an address are no part of it.
    r"[\p{Latin}\p{N}._%+\-]+@[\p{Latin}\p{N}\-]+(?:\.[\p{Latin}\p{N}\-]+)*\.\p{Latin}{2,}",
    r"[\p{L}\p{N}._%+\-]+@[\p{L}\p{N}\-]+(?:\.[\p{L}\p{N}\-]+)*\.\p{L}{2,}",
    r"[\p{Latin}\p{N}._%+\-]+ ?[\(\[]at[\)\]] ?[\p{Latin}\p{N}\-]+"
    r"(?: ?(?:[\(\[]dot[\)\]]|\.) ?[\p{Latin}\p{N}\-]+)+",
)
_IBANS = (
    r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
    r"\b[a-z]{2}[0-9]{2}(?:(?: ?[a-z]{4})(?: ?[0-9]{4}){2,6}|(?: ?[0-9]{4}){3,6})(?: ?[0-9]{1,3})?\b",
)
# A Chinese identity card: region, birth date, number, check digit.
_CHINESE_ID = (
    r"(^|[^0-9])[1-9][0-9]{5}(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]"
    r"([^0-9]|$)"
)
_CARDS = (
    r"(^|[^0-9])(?:[3-6][0-9]{3}|2[2-7][0-9]{2})[ \-]?(?:[0-9]{4}[ \-]?){2}[0-9]{1,4}(?:[ \-]?[0-9]{1,3})?"
    r"([^0-9]|$)",
    r"(^|[^0-9])3[47][0-9]{2}[ \-]?[0-9]{6}[ \-]?[0-9]{5}([^0-9]|$)",
)
_PHONES = (
    r"(^|[^0-9])(?:\+|00)[1-9][0-9]{0,2}[ .\-/]?(?:\(0?[0-9]{0,4}\)[ .\-]?)?[0-9](?:[ .\-/]{0,3}[0-9]){5,11}"
    r"([^0-9]|$)",
    r"(^|[^0-9])\(0?[0-9]{2,4}\)[ ]?[0-9]{3,4}[ .\-]?[0-9]{3,4}([^0-9]|$)",
    r"(^|[^0-9])0[1-9][0-9]{1,3}[ \-/]?[0-9]{3,4}[ \-]?[0-9]{3,5}([^0-9]|$)",
    r"(^|[^0-9])0[1-9](?:[ .][0-9]{2}){4}([^0-9]|$)",
    r"(^|[^0-9])1[3-9][0-9][ \-]?[0-9]{4}[ \-]?[0-9]{4}([^0-9]|$)",
    r"(^|[^0-9])[2-9][0-9]{2}[ .\-][0-9]{3}[ .\-][0-9]{4}([^0-9]|$)",
)

# Pattern and stand-in, in order; also the first step of the language model's own normalisation, so that what
# a request says is masked as the tables are.
MASKS = (
    *((email, "[email]") for email in _EMAILS),
    *((iban, "[iban]") for iban in _IBANS),
    (_CHINESE_ID, "[id]"),
    *((card, "[card]") for card in _CARDS),
    *((phone, "[phone]") for phone in _PHONES),
)
_WIDE = {wide: chr(ord(wide) - 0xFEE0) for wide in "０１２３４５６７８９＠＋－（）"}


def mask_personal_data(text: pl.Expr) -> pl.Expr:
    """Replace mail addresses, IBANs, card, phone and Chinese identity numbers with [email], [iban] and so on.

    Dates, prices, order and parcel numbers stay: a phone needs a trunk or country prefix, or the grouping of
    one; a card's and an IBAN's check digits must be right (ISO 7812, Luhn; ISO 13616). Full-width digits
    become ordinary ones. Ids of messengers and names are not recognised.
    """
    text = text.str.replace_many(_WIDE)
    for pattern, stand_in in MASKS:
        if stand_in in _CHECKS:
            text = _replaced_if_valid(text, pattern, stand_in, _CHECKS[stand_in])
        else:  # a group that is not there is empty
            text = text.str.replace_all(pattern, f"${{1}}{stand_in}${{2}}")
    return text


def language_of(text: pl.Expr) -> pl.Expr:
    """Return 'zh' where at least a fifth of the characters are Han, else 'en' (a guess by script alone)."""
    han = text.str.count_matches(r"\p{Han}")
    return pl.when((han > 0) & (han * 5 >= text.str.len_chars())).then(pl.lit("zh")).otherwise(pl.lit("en"))


def _replaced_if_valid(text: pl.Expr, pattern: str, stand_in: str, valid: Callable[[str], bool]) -> pl.Expr:
    compiled = re.compile(pattern)

    def replaced(match: re.Match[str]) -> str:
        before, after = (match.group(1), match.group(2)) if compiled.groups else ("", "")
        inner = match.group()[len(before) : len(match.group()) - len(after)]
        return f"{before}{stand_in}{after}" if valid(inner) else match.group()

    def look(texts: pl.Series) -> pl.Series:
        rows = texts.str.contains(pattern).fill_null(False).arg_true()
        if rows.is_empty():
            return texts
        return texts.scatter(rows, [compiled.sub(replaced, one) for one in texts[rows].to_list()])

    return text.map_batches(look, return_dtype=pl.String, is_elementwise=True)


def _is_card(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()][::-1]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "").upper()
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


_CHECKS = {"[card]": _is_card, "[iban]": _is_iban}
