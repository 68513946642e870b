"""Similarity levels of two names: equal, typo, short form, initial, or a different name."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA, JaroWinkler

from shopsight.training.data.identity.linkage.given_names import COMMON_NAMES
from shopsight.training.data.identity.linkage.nicknames import same_nickname

Levels = NDArray[np.uint8]
Numbers = NDArray[np.int64]
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


def grade_names(first: Texts, second: Texts, established: NDArray[np.bool_]) -> Levels:
    """Grade pairs of unequal folded names, by CLOSE to OTHER; 0 where two scripts cannot be compared.

    established [n]: whether both names are carried by several people of the data, so that the one is hardly a
    slip for the other. Likeness after Jaro and Winkler (1990) and by optimal string alignment.
    """
    names, a, b = _numbered(first, second)
    is_han = np.array([bool(_HAN.search(name)) for name in names], dtype=bool)
    crossed = is_han[a] != is_han[b]
    latin = _in_latin(names)
    first, second = [latin[i] for i in a], [latin[i] for i in b]
    likeness = process.cpdist(first, second, scorer=JaroWinkler.similarity, dtype=np.float32)
    edits = process.cpdist(first, second, scorer=OSA.distance, dtype=np.int32)
    length = np.array([len(name) for name in latin], dtype=np.int64)
    lengths = np.minimum(length[a], length[b])
    slips = (likeness >= _SLIP_LIKENESS) | ((edits <= 1) & (lengths >= 4))
    levels = np.select([slips, likeness >= _FUZZY_LIKENESS], [CLOSE, FUZZY], OTHER).astype(np.uint8)
    spelling = _codes([_spelling(name) for name in latin])
    is_common = np.array([name in COMMON_NAMES for name in latin], dtype=bool)
    # Only names of several words, or of one letter, abbreviate; prefixes and forms share three letters.
    is_short = np.array([len(name.split(" ", 1)[0]) < 2 or " " in name for name in latin], dtype=bool)
    beginning = _codes([name[:3] for name in latin])
    alike_begun = beginning[a] == beginning[b]
    short = same_nickname(first, second) | _where(is_short[a] | is_short[b], _abbreviates, first, second)
    forms = _where(alike_begun, _two_forms, first, second)
    prefix = (lengths >= 3) & _where(alike_begun, _begins, first, second)
    levels[(edits <= 1) & (lengths <= 3) & (lengths >= 2)] = FUZZY
    levels[prefix & (levels > CLOSE)] = SHORT_FORM
    levels[forms] = FUZZY
    levels[(is_common[a] & is_common[b]) | established] = OTHER
    levels[short] = SHORT_FORM
    levels[spelling[a] == spelling[b]] = CLOSE
    # Chinese characters have several readings, and Japanese ones others: a doubt, unless nothing agrees.
    levels[crossed & (levels >= FUZZY) & (likeness >= _OTHER_SCRIPT_LIKENESS)] = 0
    return levels


def _numbered(first: Texts, second: Texts) -> tuple[Texts, Numbers, Numbers]:
    """Return the distinct names, and each side of the pairs as numbers of them."""
    number: dict[str, int] = {}
    numbers = _codes([*first, *second], number)
    return list(number), numbers[: len(first)], numbers[len(first) :]


def _codes(texts: Texts, number: dict[str, int] | None = None) -> Numbers:
    """Return a number for each text, equal for equal texts."""
    known = {} if number is None else number
    return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def _where(
    mask: NDArray[np.bool_], holds: Callable[[str, str], bool], first: Texts, second: Texts
) -> NDArray[np.bool_]:
    """Return what `holds` of the pairs in the mask; false of the others."""
    found = np.zeros(mask.size, dtype=bool)
    rows = np.flatnonzero(mask)
    found[rows] = [holds(first[row], second[row]) for row in rows]
    return found


def _in_latin(names: Texts) -> Texts:
    return [name if name.isascii() else anyascii(name).lower().replace("'", "") for name in names]


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


def _two_forms(a: str, b: str) -> bool:
    return any(
        len(x) > len(one) + 2 and x.removesuffix(one) + other == y
        for one, other in _FORMS
        for x, y in ((a, b), (b, a))
        if x.endswith(one)
    )


def _begins(a: str, b: str) -> bool:
    return a.startswith(b) or b.startswith(a)
