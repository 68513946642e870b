"""Personal fields in the form in which they can be compared."""

from __future__ import annotations

import re

import polars as pl
from anyascii import anyascii

PERSON_FIELDS = (
    "given_name", "family_name", "full_name", "email", "phone", "loyalty_number", "birth_date", "street",
    "city", "postcode", "country", "state", "gov_id",
)  # fmt: skip
_HAN_NAME = r"^[\p{Han}·]+$|^\p{Hangul}+$"
_STREET_WORDS = {
    r"stra(?:ss|ß)e\b": "str", r"\bstreet\b": "st", r"\broad\b": "rd", r"\bavenue\b|\bav\b": "ave",
    r"\bboulevard\b": "bd", r"\bcalle\b": "c", r"\bcrescent\b": "cres", r"\bdrive\b": "dr",
    r"\bplace\b": "pl", r"\bcourt\b": "ct", r"\blane\b": "ln", r"\bcircuit\b": "cct",
}  # fmt: skip
_HAN = re.compile(r"[\u3400-\u9fff]")
_TWO_CHARACTER_FAMILIES = (
    "欧阳|歐陽|司马|司馬|上官|诸葛|諸葛|夏侯|东方|東方|皇甫|尉迟|公孙|慕容|令狐|司徒|南宫|西门"
)
# These ignore dots in the name of a mailbox.
_DOTLESS_HOSTS = r"@(?:gmail|googlemail)\.com$"


def normalise(records: pl.DataFrame) -> pl.DataFrame:
    """Return the comparable fields of person records, in their order; a field that is absent is null.

    Names lose case, accents and punctuation and are written in Latin letters, but for Han, whose readings
    differ; a full name alone is split (Han and Hangul: family name first). Mail addresses lose case, +tags
    and dots where the host ignores them, phones everything but their last nine digits.
    """
    missing = [pl.lit(None, dtype=pl.String).alias(n) for n in PERSON_FIELDS if n not in records.columns]
    frame = records.with_columns(missing).select(PERSON_FIELDS).with_columns(*_split_full_name())
    email = pl.col("email").str.strip_chars().str.to_lowercase().str.replace(r"\+[^@]*@", "@")
    local = email.str.split("@").list.first().str.replace_all(".", "", literal=True)
    email = pl.when(email.str.contains(_DOTLESS_HOSTS)).then(local + "@gmail.com").otherwise(email)
    phone = pl.col("phone").str.replace_all(r"[^0-9]", "")
    birth = pl.col("birth_date").cast(pl.Date, strict=False).dt.strftime("%Y%m%d")
    street = _folded("street")
    for pattern, short in _STREET_WORDS.items():
        street = street.str.replace_all(pattern, short)
    return frame.select(
        _folded("given_name").alias("given"),
        _folded("family_name").alias("family"),
        birth.alias("birth"),
        pl.when(email.str.contains("@")).then(email).alias("email"),
        pl.when(phone.str.len_chars() >= 7).then(phone.str.tail(9)).alias("phone"),
        _compact("loyalty_number").alias("loyalty"),
        _compact("gov_id").alias("gov_id"),
        street.alias("street"),
        _folded("city").alias("city"),
        _compact("postcode").alias("postcode"),
        _folded("state").alias("state"),
    ).with_columns(pl.when(pl.all().str.len_chars() > 0).then(pl.all()))


def _split_full_name() -> list[pl.Expr]:
    full = pl.col("full_name").str.strip_chars()
    han = full.str.contains(_HAN_NAME)
    two = full.str.contains(f"^(?:{_TWO_CHARACTER_FAMILIES})") & (full.str.len_chars() > 2)
    family_length = pl.when(two).then(2).otherwise(1)
    comma = full.str.contains(",", literal=True)
    words = full.str.split(" ")
    given = (
        pl.when(han).then(full.str.slice(family_length))
        .when(comma).then(full.str.extract(r",\s*(.*)$"))
        .when(words.list.len() > 1).then(words.list.slice(0, words.list.len() - 1).list.join(" "))
        .otherwise(full)
    )  # fmt: skip
    family = (
        pl.when(han).then(full.str.head(family_length))
        .when(comma).then(full.str.extract(r"^(.*?),"))
        .when(words.list.len() > 1).then(words.list.last())
    )  # fmt: skip
    unsplit = pl.col("given_name").is_null() & pl.col("family_name").is_null()
    return [
        pl.when(unsplit).then(given).otherwise("given_name").alias("given_name"),
        pl.when(unsplit).then(family).otherwise("family_name").alias("family_name"),
    ]


def _folded(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String).map_batches(_in_latin, return_dtype=pl.String)
    text = text.str.to_lowercase().str.replace_all(r"['’]", "")
    return text.str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()


def _in_latin(texts: pl.Series) -> pl.Series:
    """Texts in Latin letters without accents; those with Han stay as they are."""
    unlike = texts.drop_nulls().unique().to_frame("text").filter(pl.col("text").str.contains(r"[^\x00-\x7f]"))
    written = {text: anyascii(text) for text in unlike["text"].to_list() if not _HAN.search(text)}
    return texts.replace(written) if written else texts


def _compact(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")
