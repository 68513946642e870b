"""Similarity levels of two names: equal, typo, short form, initial, or a different name."""

from __future__ import annotations

import re

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA, JaroWinkler

from shopsight.training.data.identity.linkage.given_names import COMMON_NAMES
from shopsight.training.data.identity.linkage.nicknames import same_nickname

Levels = NDArray[np.uint8]
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
    crossed = np.array(
        [bool(_HAN.search(a)) != bool(_HAN.search(b)) for a, b in zip(first, second, strict=True)], bool
    )
    first, second = _in_latin(first), _in_latin(second)
    likeness = process.cpdist(first, second, scorer=JaroWinkler.similarity, dtype=np.float32)
    edits = process.cpdist(first, second, scorer=OSA.distance, dtype=np.int32)
    pairs = list(zip(first, second, strict=True))
    lengths = np.array([min(len(a), len(b)) for a, b in pairs], dtype=np.int64)
    slips = (likeness >= _SLIP_LIKENESS) | ((edits <= 1) & (lengths >= 4))
    levels = np.select([slips, likeness >= _FUZZY_LIKENESS], [CLOSE, FUZZY], OTHER).astype(np.uint8)
    alike = np.array([_spelling(a) == _spelling(b) for a, b in pairs], dtype=bool)
    short = same_nickname(first, second) | np.array([_abbreviates(a, b) for a, b in pairs], dtype=bool)
    common = np.array([a in COMMON_NAMES and b in COMMON_NAMES for a, b in pairs], dtype=bool)
    forms = np.array([_two_forms(a, b) for a, b in pairs], dtype=bool)
    prefix = np.array([len(min(a, b, key=len)) >= 3 and _begins(a, b) for a, b in pairs], dtype=bool)
    levels[(edits <= 1) & (lengths <= 3) & (lengths >= 2)] = FUZZY
    levels[prefix & (levels > CLOSE)] = SHORT_FORM
    levels[forms] = FUZZY
    levels[common | established] = OTHER
    levels[short] = SHORT_FORM
    levels[alike] = CLOSE
    # Chinese characters have several readings, and Japanese ones others: a doubt, unless nothing agrees.
    levels[crossed & (levels >= FUZZY) & (likeness >= _OTHER_SCRIPT_LIKENESS)] = 0
    return levels


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
