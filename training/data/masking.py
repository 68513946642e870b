"""Free text as it enters: personal data masked, and its language told by its script."""

from __future__ import annotations

import polars as pl

# Each with a stand-in that a reader and a language model can still make sense of. Order matters: a card
# number would otherwise be taken for a phone. Without lookaround, neighbours are captured and put back.
_EMAIL = r"[\p{L}\p{N}._%+\-]+@[\p{L}\p{N}\-]+(?:\.[\p{L}\p{N}\-]+)*\.\p{L}{2,}"
_IBAN = r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"
_CARD = r"(^|[^0-9])(?:[0-9]{4}[ \-]?){3}[0-9]{1,7}([^0-9]|$)"
_PHONES = (
    r"()(?:\+|\b00)[1-9][0-9]{0,2}[ .\-/]?(?:\(0?[0-9]{1,4}\)[ .\-]?)?[0-9](?:[ .\-]?[0-9]){5,11}()",
    r"(^|[^0-9])\(0?[0-9]{2,4}\)[ ]?[0-9]{3,4}[ .\-]?[0-9]{3,4}([^0-9]|$)",
    r"(^|[^0-9])0[1-9][0-9]{1,3}[ \-/]?[0-9]{3,4}[ \-]?[0-9]{3,5}([^0-9]|$)",
    r"(^|[^0-9])0[1-9](?:[ .][0-9]{2}){4}([^0-9]|$)",
    r"(^|[^0-9])1[3-9][0-9][ \-]?[0-9]{4}[ \-]?[0-9]{4}([^0-9]|$)",
    r"(^|[^0-9])[2-9][0-9]{2}[ .\-][0-9]{3}[ .\-][0-9]{4}([^0-9]|$)",
)

# Pattern and stand-in, in order; also the first step of the language model's own normalisation, so that what
# a request says is masked as the tables are.
MASKS = (
    (_EMAIL, "[email]"),
    (_IBAN, "[iban]"),
    (_CARD, "[card]"),
    *((phone, "[phone]") for phone in _PHONES),
)


def mask_personal_data(text: pl.Expr) -> pl.Expr:
    """Replace mail addresses, IBANs, card and phone numbers with [email], [iban], [card] and [phone].

    Dates, prices and order numbers stay: a phone needs a trunk or country prefix, or the grouping of one.
    """
    for pattern, stand_in in MASKS:
        text = text.str.replace_all(pattern, f"${{1}}{stand_in}${{2}}")  # a group that is not there is empty
    return text


def language_of(text: pl.Expr) -> pl.Expr:
    """Return 'zh' where at least a fifth of the characters are Han, else 'en' (a guess by script alone)."""
    han = text.str.count_matches(r"\p{Han}")
    return pl.when((han > 0) & (han * 5 >= text.str.len_chars())).then(pl.lit("zh")).otherwise(pl.lit("en"))
