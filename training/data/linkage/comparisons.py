"""How alike two records are, field by field, as levels; level 0 says that a side has nothing to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA, JaroWinkler

from training.data.linkage.nicknames import same_nickname

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
    "given": 6, "family": 6, "birth": 4, "email": 4, "phone": 4, "loyalty": 2, "gov_id": 3, "street": 4,
    "city": 3, "postcode": 3, "state": 2,
}  # fmt: skip
CLOSE, SHORT_FORM, FUZZY, SWAPPED = 2, 3, 4, 5  # of names
_BITS = 3
_WORKERS = 2


@dataclass(frozen=True)
class Encoded:
    """Every field as codes of its distinct texts (int32 [n], -1 is null); both names share a dictionary."""

    codes: dict[str, NDArray[np.int32]]
    texts: dict[str, list[str]]
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
    return Encoded(codes, texts, people.height)


def compare(encoded: Encoded, left: Rows, right: Rows) -> NDArray[np.int64]:
    """Return the packed level pattern of each pair (three bits a field, in the order of FIELDS)."""
    pattern = np.zeros(left.size, dtype=np.int64)
    for position, name in enumerate(FIELDS):
        codes = encoded.codes[name]
        a, b = codes[left], codes[right]
        levels = np.zeros(left.size, dtype=np.uint8)
        known = (a >= 0) & (b >= 0)
        levels[known & (a == b)] = EXACT
        unlike = np.flatnonzero(known & (a != b))
        if unlike.size:
            levels[unlike] = _graded(name, encoded.texts[name], a[unlike], b[unlike])
        if name in ("given", "family"):
            initials = np.array([len(word) == 1 for word in encoded.texts[name]] or [False])
            levels[(levels == EXACT) & initials[a]] = SHORT_FORM
            # One accident, not two agreements: the given name carries it, the family name keeps silent.
            other = encoded.codes["family" if name == "given" else "given"]
            swapped = (levels > EXACT) & (a == other[right]) & (b == other[left])
            levels[swapped] = SWAPPED if name == "given" else 0
        pattern |= levels.astype(np.int64) << (_BITS * position)
    return pattern


def levels_of(pattern: NDArray[np.int64], name: str) -> Levels:
    """The levels of one field in packed patterns."""
    return ((pattern >> (_BITS * FIELDS.index(name))) & 7).astype(np.uint8)


def with_level(
    pattern: NDArray[np.int64], name: str, level: int, where: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Patterns with one field set to `level` where the mask says so."""
    shift = _BITS * FIELDS.index(name)
    return np.where(where, (pattern & ~np.int64(7 << shift)) | np.int64(level << shift), pattern)


def _graded(name: str, words: list[str], a: NDArray[np.int32], b: NDArray[np.int32]) -> Levels:
    """Levels of unequal texts; each distinct pair of texts is measured once."""
    if name in ("loyalty", "state"):
        return np.full(a.size, DIFFERENT[name], dtype=np.uint8)
    packed = np.minimum(a, b).astype(np.int64) * len(words) + np.maximum(a, b)
    distinct, inverse = np.unique(packed, return_inverse=True)
    texts = np.array(words, dtype=object)
    first, second = texts[distinct // len(words)].tolist(), texts[distinct % len(words)].tolist()
    graded: Levels = _GRADERS[name](first, second)[inverse]
    return graded


def _similarity(first: list[str], second: list[str]) -> NDArray[np.float32]:
    return process.cpdist(first, second, scorer=JaroWinkler.similarity, dtype=np.float32, workers=_WORKERS)


def _edits(first: list[str], second: list[str]) -> NDArray[np.int32]:
    return process.cpdist(first, second, scorer=OSA.distance, dtype=np.int32, workers=_WORKERS)


def _grade_name(first: list[str], second: list[str]) -> Levels:
    likeness = _similarity(first, second)
    levels = np.select([likeness >= 0.92, likeness >= 0.8], [CLOSE, FUZZY], DIFFERENT["given"]).astype(
        np.uint8
    )
    pairs = pl.DataFrame({"a": first, "b": second}, schema={"a": pl.String, "b": pl.String})
    a, b = pl.col("a"), pl.col("b")
    facts = pairs.select(
        ((a.str.contains(r"\p{Han}")) != (b.str.contains(r"\p{Han}"))).alias("other_script"),
        (a.str.starts_with(b) | b.str.starts_with(a)).alias("prefix"),
        pl.min_horizontal(a.str.len_chars(), b.str.len_chars()).alias("shorter"),
    )
    prefix, shorter = facts["prefix"].to_numpy(), facts["shorter"].to_numpy()
    short = (levels > CLOSE) & prefix & ((shorter == 1) | (shorter >= 3))
    unlike = np.flatnonzero((levels > CLOSE) & ~short)
    short[unlike] = same_nickname([first[i] for i in unlike.tolist()], [second[i] for i in unlike.tolist()])
    levels[short] = SHORT_FORM
    # One letter says too little to contradict a name that starts otherwise; it still does not agree.
    levels[facts["other_script"].to_numpy()] = 0
    return levels


def _grade_birth(first: list[str], second: list[str]) -> Levels:
    edits = _edits(first, second)
    swapped = np.array(
        [a[:4] == b[:4] and a[4:6] == b[6:] and a[6:] == b[4:6] for a, b in zip(first, second, strict=True)]
    )
    return np.select([edits <= 1, (edits <= 2) | swapped], [2, 3], 4).astype(np.uint8)


def _grade_email(first: list[str], second: list[str]) -> Levels:
    # A typo, or one name at two providers; alike is not enough, because addresses repeat their owner's name.
    same_local = np.array(
        [a.split("@")[0] == b.split("@")[0] for a, b in zip(first, second, strict=True)], dtype=bool
    )
    return np.where((_edits(first, second) <= 1) | same_local, 3, 4).astype(np.uint8)


def _grade_phone(first: list[str], second: list[str]) -> Levels:
    return np.where(_edits(first, second) <= 1, 3, 4).astype(np.uint8)


def _grade_code(first: list[str], second: list[str]) -> Levels:
    return np.where(_edits(first, second) <= 1, 2, 3).astype(np.uint8)


def _grade_street(first: list[str], second: list[str]) -> Levels:
    likeness = _similarity(first, second)
    return np.select([likeness >= 0.92, likeness >= 0.8], [2, 3], 4).astype(np.uint8)


def _grade_city(first: list[str], second: list[str]) -> Levels:
    return np.where(_similarity(first, second) >= 0.88, 2, 3).astype(np.uint8)


_GRADERS: dict[str, Callable[[list[str], list[str]], Levels]] = {
    "given": _grade_name, "family": _grade_name, "birth": _grade_birth, "email": _grade_email,
    "phone": _grade_phone,
    "gov_id": _grade_code, "street": _grade_street, "city": _grade_city, "postcode": _grade_code,
}  # fmt: skip
