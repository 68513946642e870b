"""Detects placeholder values, and values of the shop or a company, by form and frequency, to ignore them."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

# A value that people of this many different initials state belongs to none of them.
_MANY_PEOPLE = 5
# Without names: this many records, and this share of all that state the field.
_MANY_RECORDS, _LARGE_SHARE = 20, 0.01
_DAYS_OF_BIRTH, _BIRTHS_ABOVE_CHANCE = 20_000, 20

_NO_VALUE = (
    r"^(?:n a|none|null|nan|nil|nothing|unknown|unbekannt|inconnu|desconocido|sconosciuto|onbekend|nieznany|"
    r"not (?:available|provided|given|applicable|known)|no (?:name|value|address|email|phone)|noname|"
    r"keine?(?: angabe)?|k a|ohne|sans|sin|ninguno|aucun|nessuno|geen|brak|undefined|missing|blank|empty|"
    r"tba|tbd|xx+|test(?:er)?|test test|dummy|deleted|anonymous|anonym|anonimo|anonyme|guest|gast|invite|"
    r"guest (?:customer|user|checkout)|kunde|customer|user|asdf\w*|qwert\w*)$"
)
_NO_VALUE_CODE = r"^(?:na|none|null|nan|nil|unknown|unbekannt|undefined|test|xx+|0+|9{5,})$"
_NO_MAILBOX = (
    r"^(?:no|not|donot|keine?|ohne|sin|sans|geen|brak)(?:reply|e?mail|adresse?|address)\d*@|"
    r"^(?:test(?:ing|er|mail|email|user)?|dummy|fake|asdf\w*|qwert\w*|xx+|aa+)\d*@|"
    r"^(?:none|null|nan|n/a|nil|nobody|noone|unknown|unbekannt|inconnu|desconocido|keine?|ohne|sans|ninguno|"
    r"aucun|nessuno|geen|brak|niemand|invalid|anonymous|anonym|guest|gast|invite|deleted|undefined|example|"
    r"user|customer|kunde|foo|bar)@|"
    r"@(?:none|null|na|no|noreply|no-?e?-?mail|keine?-?e?-?mail|unknown|invalid|fake|tests?|testing|dummy|"
    r"localhost|anonymous|deleted|nowhere|xx+|aa+|asdf\w*)(?:\.|$)|\.invalid$"
)
# Mailboxes of a desk or a household: people share them.
_SHARED_MAILBOX = (
    r"^(?:info|office|sales|contact|contacto|contatto|kontakt|admin|administration|hello|hallo|team|service|"
    r"support|help|shop|store|post|mail|buero|buro|bureau|zentrale|empfang|reception|einkauf|purchasing|"
    r"orders?|bestellung|billing|rechnung|invoices?|accounting|accounts|buchhaltung|verwaltung|firma|company|"
    r"webmaster|postmaster|hr|marketing|kasse|till|filiale|family|familie|famille|familia|famiglia)\d*@|"
    r"^[^@]*[._-](?:family|familie|famille|familia|famiglia)@|"
    r"^(?:family|familie|famille|familia|famiglia|fam)[._-][^@]*@"
)


@dataclass(frozen=True)
class Placeholder:
    """A value that is ignored as evidence: in which field, in how many records, and why; never the value."""

    field: str
    num_records: int
    reason: str


def without_placeholders(people: pl.DataFrame) -> tuple[pl.DataFrame, list[Placeholder]]:
    """Return normalised people without the values that say nothing of a person, and which those were.

    A value goes by its form (no-reply@…, 0000000, 1900-01-01, "n/a") or because it stands beside the names of
    more people than share anything: a till's number, the shop's own address, a default date. Each value is
    judged by itself.
    """
    people = people.with_row_index("_row")
    both = pl.col("given").str.head(1), pl.col("family").str.head(1)
    who = pl.min_horizontal(both) + pl.max_horizontal(both)
    initials = people.select(
        "_row", pl.when(pl.all_horizontal(b.is_not_null() for b in both)).then(who).alias("_who")
    )
    found, cleared = [], people
    for name in people.columns[1:]:
        values = people.select("_row", pl.col(name)).drop_nulls()
        distinct = values.select(pl.col(name).unique())
        formal = distinct.filter(_by_form(name).fill_null(False))[name]
        values = values.filter(~pl.col(name).is_in(formal.implode()))
        many = _stated_by_many(values.rename({name: "value"}), initials, name)
        in_form = people.filter(pl.col(name).is_in(formal.implode())).group_by(name).len()
        found += [Placeholder(name, n, "form") for n in in_form["len"].sort(descending=True).to_list()]
        found += [Placeholder(name, n, "frequency") for n in many["len"].sort(descending=True).to_list()]
        gone = pl.concat([formal, many["value"]])
        if len(gone):
            is_gone = pl.col(name).is_in(gone.implode())
            cleared = cleared.with_columns(pl.when(~is_gone).then(pl.col(name)).alias(name))
    return cleared.drop("_row"), found


def _stated_by_many(values: pl.DataFrame, initials: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the values (value, len, people) that more people state than share anything."""
    is_too_frequent = _by_frequency(name, values.height)
    if is_too_frequent is None:
        return pl.DataFrame(schema={"value": pl.String, "len": pl.UInt32, "people": pl.UInt32})
    repeated = values.filter(pl.len().over("value") >= _MANY_PEOPLE)
    counts = repeated.join(initials, on="_row").group_by("value").agg(
        pl.len(), pl.col("_who").drop_nulls().n_unique().alias("people")
    )  # fmt: skip
    return counts.filter(is_too_frequent)


def is_shared_mailbox(emails: pl.Series) -> pl.Series:
    """Which normalised mail addresses are those of a desk or a household, by their form."""
    return emails.str.contains(_SHARED_MAILBOX)


def _by_form(name: str) -> pl.Expr:
    value = pl.col(name)
    if name == "email":
        local = value.str.split("@").list.first()
        host = value.str.split("@").list.last().str.split(".").list.first()
        plain = local.str.replace_all(r"[._-]", "") + "@" + value.str.split("@").list.last()
        same = (local == host) & (local.str.len_chars() <= 5)
        return value.str.contains(_NO_MAILBOX) | plain.str.contains(_NO_MAILBOX) | same
    if name == "phone":
        digits = value.str.strip_chars_start("0")
        alike = pl.any_horizontal(value.str.ends_with(str(digit) * 6) for digit in range(10))
        runs = "12345678901234567890", "98765432109876543210"
        in_order = pl.any_horizontal(pl.lit(run).str.contains(digits, literal=True) for run in runs)
        return alike | (in_order & (digits.str.len_chars() >= 7)) | (digits == "")
    if name == "birth":
        impossible = (value < "19000102") | (value > "20991231")
        return impossible | value.is_in(["19010101", "19040101", "19700101", "18991230", "11111111"])
    if name in ("loyalty", "gov_id", "postcode"):
        return value.str.contains(_NO_VALUE_CODE)
    if name == "family":
        # Guest, Null and Test are names of families.
        return value.str.contains(_NO_VALUE) & ~value.is_in(
            ["guest", "gast", "null", "test", "tester", "sin"]
        )
    return value.str.contains(_NO_VALUE)


def _by_frequency(name: str, num_stated: int) -> pl.Expr | None:
    """Return which values are too frequent; None for a field in which no value is."""
    people = pl.col("people") >= _MANY_PEOPLE
    if name in ("email", "phone", "loyalty", "gov_id"):
        return people | ((pl.col("len") >= _MANY_RECORDS) & (pl.col("len") >= _LARGE_SHARE * num_stated))
    if name == "birth":
        expected = num_stated / _DAYS_OF_BIRTH
        return people & (pl.col("len") >= _BIRTHS_ABOVE_CHANCE * expected)
    return None
