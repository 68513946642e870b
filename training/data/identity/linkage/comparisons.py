"""Agreement levels of two records, field by field; level 0 means that a value is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.identity.linkage.names import (
    CLOSE,
    FUZZY,
    OTHER,
    SHORT_FORM,
    SWAPPED,
    NameTable,
    grade_names,
    name_table,
)
from shopsight.training.data.identity.linkage.text_likeness import edits, similarities

Levels = NDArray[np.uint8]
Rows = NDArray[np.int64]

FIELDS = (
    "given",
    "family",
    "birth",
    "email",
    "phone",
    "loyalty",
    "gov_id",
    "street",
    "city",
    "postcode",
    "state",
)
EXACT, SHARED = 1, 2
# The last level of each field: both sides say something, and not the same.
DIFFERENT = {
    "given": OTHER, "family": OTHER, "birth": 5, "email": 4, "phone": 4, "loyalty": 3, "gov_id": 3,
    "street": 4, "city": 3, "postcode": 3, "state": 2,
}  # fmt: skip
OTHER_BIRTH = 4  # another date of birth; DIFFERENT["birth"]: of another generation
AGREEING = (EXACT, CLOSE, SHORT_FORM, SWAPPED)  # of names
_GENERATION_YEARS = 13
_MIN_BEARERS, _BEARERS_SHARE = 3, 0.02
_BITS = 3


@dataclass(frozen=True)
class Encoded:
    """Every field as codes of its distinct texts (int32 [n], -1 is null); both names share a dictionary.

    names: what is compared of each text of the names; bearers: with how many different family names each of
    them stands as a given name.
    """

    codes: dict[str, NDArray[np.int32]]
    texts: dict[str, list[str]]
    names: NameTable
    bearers: NDArray[np.int64]
    height: int


def encode(people: pl.DataFrame) -> Encoded:
    """Encode the normalised fields of linkage/normalise.py."""
    codes: dict[str, NDArray[np.int32]] = {}
    texts: dict[str, list[str]] = {}
    for group in (("given", "family"), *((f,) for f in FIELDS[2:])):
        words = pl.concat([people[name] for name in group]).drop_nulls().unique().sort()
        lookup = pl.DataFrame({"word": words, "code": pl.Series(range(words.len()), dtype=pl.Int32)})
        for name in group:
            joined = people.select(pl.col(name).alias("word")).join(
                lookup, on="word", how="left", maintain_order="left"
            )
            codes[name] = joined["code"].fill_null(-1).to_numpy()
            texts[name] = words.to_list() if name == group[0] else texts[group[0]]
    bearers = _bearers(codes, len(texts["given"]))
    return Encoded(codes, texts, name_table(texts["given"]), bearers, people.height)


def _bearers(codes: dict[str, NDArray[np.int32]], num_texts: int) -> NDArray[np.int64]:
    given, family = codes["given"].astype(np.int64), codes["family"].astype(np.int64)
    both = (given >= 0) & (family >= 0)
    distinct = np.unique(given[both] << 32 | family[both])
    return np.bincount(distinct >> 32, minlength=num_texts)


def compare(encoded: Encoded, left: Rows, right: Rows) -> NDArray[np.int64]:
    """Return the packed level pattern of each pair (three bits a field, in the order of FIELDS)."""
    pattern = np.zeros(left.size, dtype=np.int64)
    for position, name in enumerate(FIELDS):
        levels = compare_field(encoded, name, left, right)
        if name in ("given", "family"):
            initials = np.array([len(word) == 1 for word in encoded.texts[name]] or [False])
            levels[(levels == EXACT) & initials[encoded.codes[name][left]]] = SHORT_FORM
        pattern |= levels.astype(np.int64) << (_BITS * position)
    swapped = _swapped(encoded, pattern, left, right)
    # One accident, not two agreements: the given name carries it, the family name keeps silent.
    pattern = with_level(pattern, "given", SWAPPED, swapped)
    return with_level(pattern, "family", 0, swapped)


def compare_field(encoded: Encoded, name: str, left: Rows, right: Rows) -> Levels:
    """The levels of one field for each pair."""
    a, b = encoded.codes[name][left], encoded.codes[name][right]
    levels = np.zeros(left.size, dtype=np.uint8)
    known = (a >= 0) & (b >= 0)
    levels[known & (a == b)] = EXACT
    unlike = np.flatnonzero(known & (a != b))
    if unlike.size:
        levels[unlike] = _graded(name, encoded, a[unlike], b[unlike])
    return levels


def _swapped(encoded: Encoded, pattern: NDArray[np.int64], left: Rows, right: Rows) -> NDArray[np.bool_]:
    """Pairs whose given and family names agree crosswise (a slip, a short form or one initial allowed)."""
    swapped = np.zeros(left.size, dtype=bool)
    given, family = encoded.codes["given"], encoded.codes["family"]
    unlike = (levels_of(pattern, "given") >= FUZZY) & (levels_of(pattern, "family") > EXACT)
    rows = np.flatnonzero(unlike & (family[left] >= 0) & (family[right] >= 0))
    if not rows.size:
        return swapped
    grades = []
    for a, b in ((given[left], family[right]), (family[left], given[right])):
        grade = np.full(rows.size, EXACT, dtype=np.uint8)
        unequal = np.flatnonzero(a[rows] != b[rows])
        if unequal.size:
            grade[unequal] = _graded("family", encoded, a[rows][unequal], b[rows][unequal])
        grades.append(grade)
    full = [np.isin(grade, (EXACT, CLOSE)) for grade in grades]
    crosswise = np.isin(grades[0], AGREEING) & np.isin(grades[1], AGREEING) & (full[0] | full[1])
    # Two given or two family names, cut elsewhere: Ana Ruiz | Vega and Ana | Ruiz Vega.
    letters = encoded.names.letters
    of_both = [letters[given[side[rows]]] + letters[family[side[rows]]] for side in (left, right)]
    same_letters = of_both[0] == of_both[1]
    swapped[rows] = crosswise | same_letters
    return swapped


def levels_of(pattern: NDArray[np.int64], name: str) -> Levels:
    """The levels of one field in packed patterns."""
    return ((pattern >> (_BITS * FIELDS.index(name))) & 7).astype(np.uint8)


def with_level(
    pattern: NDArray[np.int64], name: str, level: int | NDArray[np.int64], where: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Patterns with one field set to `level` (one, or one a pair) where the mask says so."""
    shift = _BITS * FIELDS.index(name)
    return np.where(where, (pattern & ~np.int64(7 << shift)) | (np.int64(level) << shift), pattern)


def _graded(name: str, encoded: Encoded, a: NDArray[np.int32], b: NDArray[np.int32]) -> Levels:
    """Levels of unequal texts; each distinct pair of texts is measured once."""
    if name in ("loyalty", "state"):
        return np.full(a.size, DIFFERENT[name], dtype=np.uint8)
    words = encoded.texts[name]
    packed = np.minimum(a, b).astype(np.int64) * len(words) + np.maximum(a, b)
    distinct, inverse = np.unique(packed, return_inverse=True)
    one, other = distinct // len(words), distinct % len(words)
    if name in ("given", "family"):
        graded = grade_names(encoded.names, one, other, _established(encoded, one, other) & (name == "given"))
    else:
        texts = pl.Series(words, dtype=pl.String)
        graded = _GRADERS[name](texts.gather(one), texts.gather(other))
    levels: Levels = graded[inverse]
    return levels


def _established(encoded: Encoded, one: Rows, other: Rows) -> NDArray[np.bool_]:
    """Pairs of names that several people carry each: a slip for the other would be rarer."""
    first, second = encoded.bearers[one], encoded.bearers[other]
    fewer, more = np.minimum(first, second), np.maximum(first, second)
    both: NDArray[np.bool_] = fewer >= np.maximum(_MIN_BEARERS, _BEARERS_SHARE * more)
    return both


def _grade_birth(first: pl.Series, second: pl.Series) -> Levels:
    slips = edits(first.to_list(), second.to_list(), 2)
    days = [texts.cast(pl.Int64).to_numpy() for texts in (first, second)]
    years, rest = [day // 10_000 for day in days], [day % 10_000 for day in days]
    months_and_days_swapped = (years[0] == years[1]) & (rest[0] == rest[1] % 100 * 100 + rest[1] // 100)
    doubts = [slips <= 1, (slips <= 2) | months_and_days_swapped]
    levels = np.select(doubts, [2, 3], OTHER_BIRTH).astype(np.uint8)
    another_generation = np.abs(years[0] - years[1]) >= _GENERATION_YEARS
    levels[another_generation & ~((slips <= 1) & (rest[0] == rest[1]))] = DIFFERENT["birth"]
    return levels


def _grade_email(first: pl.Series, second: pl.Series) -> Levels:
    # A typo, or one name at two providers; alike is not enough, because addresses repeat their owner's name.
    local = [texts.str.extract(r"^([^@]*)@") for texts in (first, second)]
    same_local = (local[0] == local[1]).to_numpy()
    return np.where((edits(first.to_list(), second.to_list(), 1) <= 1) | same_local, 3, 4).astype(np.uint8)


def _grade_phone(first: pl.Series, second: pl.Series) -> Levels:
    return np.where(edits(first.to_list(), second.to_list(), 1) <= 1, 3, 4).astype(np.uint8)


def _grade_code(first: pl.Series, second: pl.Series) -> Levels:
    return np.where(edits(first.to_list(), second.to_list(), 1) <= 1, 2, 3).astype(np.uint8)


def _grade_street(first: pl.Series, second: pl.Series) -> Levels:
    likeness = similarities(first.to_list(), second.to_list(), 0.8)
    return np.select([likeness >= 0.92, likeness >= 0.8], [2, 3], 4).astype(np.uint8)


def _grade_city(first: pl.Series, second: pl.Series) -> Levels:
    return np.where(similarities(first.to_list(), second.to_list(), 0.88) >= 0.88, 2, 3).astype(np.uint8)


_GRADERS: dict[str, Callable[[pl.Series, pl.Series], Levels]] = {
    "birth": _grade_birth, "email": _grade_email, "phone": _grade_phone,
    "gov_id": _grade_code, "street": _grade_street, "city": _grade_city, "postcode": _grade_code,
}  # fmt: skip
