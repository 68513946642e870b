"""Similarity levels of two names: equal, typo, short form, initial, or a different name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray

from shopsight.training.data.identity.linkage.given_names import COMMON_NAMES
from shopsight.training.data.identity.linkage.nicknames import same_nickname
from shopsight.training.data.identity.linkage.text_likeness import edits, similarities

Levels = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
Texts = list[str]

CLOSE, SHORT_FORM, FUZZY, SWAPPED, OTHER = 2, 3, 4, 5, 6
_SLIP_LIKENESS, _FUZZY_LIKENESS, _OTHER_SCRIPT_LIKENESS = 0.92, 0.8, 0.55
_HAN = re.compile(r"[\u3400-\u9fff]")
# One name spelled in several ways: Jon and John, Erik and Eric, Sofia and Sophia, Müller and Mueller.
_SPELLINGS = (
    ("ph", "f"), ("ck", "k"), ("ae", "a"), ("oe", "o"), ("ue", "u"), ("c", "k"), ("y", "i"), ("z", "s"),
    ("w", "v"), ("j", "i"),
)  # fmt: skip
# A man's and a woman's form of one name, by ending: Daniel and Daniela, Mario and Maria, Simon and Simone.
_FORMS = (("", "a"), ("", "e"), ("", "ine"), ("", "ina"), ("", "ette"), ("", "na"), ("", "ne"), ("", "ie"),
          ("", "le"), ("o", "a"), ("us", "a"), ("e", "a"), ("i", "a"), ("er", "ra"), ("os", "a"),
          ("s", ""), ("er", "ia"))  # fmt: skip
_TWO_FORMS = frozenset(_FORMS) | {(other, one) for one, other in _FORMS}
_SHORTEST_STEM = 3
_PREFIX, _FORM = 1, 2
_MAX_64_BITS = 2**64 - 1


@dataclass(frozen=True)
class NameTable:
    """What is compared of each distinct name, worked out once; every array is [num_names].

    latin: the name in Latin letters; letters: a number of the letters of the name, in whatever order, such
    that the numbers of two names add up to that of both; spelling, beginning: numbers, equal for names that
    one way of spelling makes equal and for those with equal first three letters.
    """

    latin: NDArray[np.object_]
    length: Numbers
    letters: NDArray[np.uint64]
    spelling: Numbers
    beginning: Numbers
    is_han: Mask
    is_common: Mask
    is_short: Mask


def name_table(names: Texts) -> NameTable:
    """Prepare folded names for `grade_names`."""
    latin = [name if name.isascii() else anyascii(name).lower().replace("'", "") for name in names]
    written = np.empty(len(latin), dtype=object)
    written[:] = latin
    return NameTable(
        latin=written,
        length=np.array([len(name) for name in latin], dtype=np.int64),
        letters=np.array([_letters(name) for name in names], dtype=np.uint64),
        spelling=_codes([_spelling(name) for name in latin]),
        beginning=_codes([name[:3] for name in latin]),
        is_han=np.array([bool(_HAN.search(name)) for name in names], dtype=bool),
        is_common=np.array([name in COMMON_NAMES for name in latin], dtype=bool),
        # Only names of several words, or of one letter, abbreviate.
        is_short=np.array([len(name.split(" ", 1)[0]) < 2 or " " in name for name in latin], dtype=bool),
    )


def grade_names(table: NameTable, a: Numbers, b: Numbers, established: Mask) -> Levels:
    """Grade pairs of unequal names, by CLOSE to OTHER; 0 where two scripts cannot be compared.

    a, b [n]: places in the table; established [n]: whether both names are carried by several people of the
    data, so that the one is hardly a slip for the other. Likeness after Jaro and Winkler (1990) and by
    optimal string alignment.
    """
    first, second = table.latin[a].tolist(), table.latin[b].tolist()
    likeness = similarities(first, second, _OTHER_SCRIPT_LIKENESS)
    near = edits(first, second, 1) <= 1
    lengths = np.minimum(table.length[a], table.length[b])
    slips = (likeness >= _SLIP_LIKENESS) | (near & (lengths >= 4))
    levels = np.select([slips, likeness >= _FUZZY_LIKENESS], [CLOSE, FUZZY], OTHER).astype(np.uint8)
    short = same_nickname(first, second)
    short |= _where(table.is_short[a] | table.is_short[b], _abbreviates, first, second)
    endings = _endings(table.beginning[a] == table.beginning[b], first, second)
    levels[near & (lengths <= 3) & (lengths >= 2)] = FUZZY
    levels[(endings == _PREFIX) & (lengths >= 3) & (levels > CLOSE)] = SHORT_FORM
    levels[endings == _FORM] = FUZZY
    levels[(table.is_common[a] & table.is_common[b]) | established] = OTHER
    levels[short] = SHORT_FORM
    levels[table.spelling[a] == table.spelling[b]] = CLOSE
    # Chinese characters have several readings, and Japanese ones others: a doubt, unless nothing agrees.
    crossed = table.is_han[a] != table.is_han[b]
    levels[crossed & (levels >= FUZZY) & (likeness >= _OTHER_SCRIPT_LIKENESS)] = 0
    return levels


def _codes(texts: Texts) -> Numbers:
    """Return a number for each text, equal for equal texts."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def _where(mask: Mask, holds: Callable[[str, str], bool], first: Texts, second: Texts) -> Mask:
    """Return what `holds` of the pairs in the mask; false of the others."""
    found = np.zeros(mask.size, dtype=bool)
    rows = np.flatnonzero(mask)
    found[rows] = [holds(first[row], second[row]) for row in rows]
    return found


def _letters(name: str) -> int:
    return sum(_letter(letter) for letter in name if letter != " ") & _MAX_64_BITS


@cache
def _letter(letter: str) -> int:
    """Return a number of 64 bits that no sum of other letters' numbers equals but by chance."""
    return int.from_bytes(blake2b(letter.encode(), digest_size=8).digest(), "little")


def _spelling(name: str) -> str:
    for written, plain in _SPELLINGS:
        name = name.replace(written, plain)
    name = re.sub(r"(?<=.)h", "", name)
    return re.sub(r"(.)\1+", r"\1", name).replace(" ", "")


def _abbreviates(a: str, b: str) -> bool:
    """Whether one is an initial of the other, or some of its given names."""
    words, others = a.split(), b.split()
    if not words or not others:
        return False
    if len(words[0]) == 1 or len(others[0]) == 1:
        return words[0][0] == others[0][0]
    few, many = sorted((set(words), set(others)), key=len)
    return len(few) < len(many) and few < many


def _endings(alike_begun: Mask, first: Texts, second: Texts) -> Levels:
    """Return _PREFIX where one name begins the other, _FORM where they are two forms of one name, else 0."""
    found = np.zeros(alike_begun.size, dtype=np.uint8)
    for row in np.flatnonzero(alike_begun).tolist():
        a, b = first[row], second[row]
        start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        if start >= _SHORTEST_STEM and (a[start:], b[start:]) in _TWO_FORMS:
            found[row] = _FORM
        elif start in (len(a), len(b)):
            found[row] = _PREFIX
    return found
