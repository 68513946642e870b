"""Rules that keep members of one household apart, who agree in nearly all fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.identity.linkage.comparisons import (
    AGREEING,
    DIFFERENT,
    EXACT,
    OTHER_BIRTH,
    Encoded,
    levels_of,
)
from shopsight.training.data.identity.linkage.names import FUZZY
from shopsight.training.data.identity.linkage.placeholders import is_shared_mailbox

Mask = NDArray[np.bool_]
Pattern = NDArray[np.int64]

SHAREABLE = ("email", "phone", "loyalty")
# Records contradict themselves too often to tell people apart if this share of that many known pairs do.
_MAX_UNRELIABLE, _MIN_EVIDENCE = 0.03, 50


@dataclass(frozen=True)
class Verdicts:
    """apart: pairs that cannot be one person; unsupported: pairs in which nothing personal agrees;
    is_told: whether names and dates of birth are good enough to tell people apart at all.
    """

    apart: Mask
    unsupported: Mask
    is_told: bool = True


def judge(pattern: Pattern) -> Verdicts:
    """Judge pairs that the model alone would join because a household or a firm shares what it reads.

    Another given name (no slip, no short form), another date of birth and another generation speak against a
    pair whatever else agrees and however little data there is: couples, siblings, twins, namesakes of two
    generations, flatmates, colleagues. Only a government number outweighs them, and an own mail address or
    loyalty number outweighs another date of birth within a generation. They lose their say only where the
    records are proved to be garbled: by government numbers, or in a file without any key of a person.
    """
    if _are_garbled(pattern):
        nothing = np.zeros(pattern.size, dtype=bool)
        return Verdicts(nothing, nothing, is_told=False)
    given, family, birth = (levels_of(pattern, name) for name in ("given", "family", "birth"))
    is_state_number = levels_of(pattern, "gov_id") == EXACT
    own_key = is_state_number | (levels_of(pattern, "loyalty") == EXACT)
    own_key |= levels_of(pattern, "email") == EXACT
    other_name, other_birth = given == DIFFERENT["given"], birth >= OTHER_BIRTH
    agrees = np.isin(given, AGREEING)
    apart = other_name | (birth == DIFFERENT["birth"]) | (other_birth & ~(own_key & agrees))
    apart &= ~is_state_number
    own_reach = own_key | (levels_of(pattern, "phone") == EXACT)
    same_birth = birth == EXACT
    unsupported = ~(agrees & (family != DIFFERENT["family"])) & ~same_birth & ~own_reach
    unsupported |= (given == FUZZY) & ~same_birth & ~own_key
    return Verdicts(apart, unsupported & ~apart)


def _are_garbled(pattern: Pattern) -> bool:
    """Whether names are often replaced in records that are known to be of one person.

    Relatives share mailboxes, phones and cards, so that these prove nothing. Without any of them a family
    name that differs beside the same given name, birth and street is counted: relatives would keep it.
    """
    state_number = levels_of(pattern, "gov_id") == EXACT
    if state_number.sum() >= _MIN_EVIDENCE:
        return _often(levels_of(pattern, "given")[state_number])
    if any(levels_of(pattern, name).any() for name in SHAREABLE):
        return False
    exact = [levels_of(pattern, name) == EXACT for name in ("given", "birth", "street")]
    return _often(levels_of(pattern, "family")[np.logical_and.reduce(exact)])


def _often(names: NDArray[np.uint8]) -> bool:
    stated = names[names > 0]
    return stated.size >= _MIN_EVIDENCE and float((stated == DIFFERENT["given"]).mean()) >= _MAX_UNRELIABLE


def used_by_several(encoded: Encoded, pattern: Pattern, left: NDArray[np.int64], name: str) -> Mask:
    """Which values of a key (by code) two different people use, or look like it: a mailbox, a landline."""
    given, birth = levels_of(pattern, "given"), levels_of(pattern, "birth")
    two_people = (given == DIFFERENT["given"]) | (birth == DIFFERENT["birth"])
    if name == "phone":
        two_people |= (birth >= OTHER_BIRTH) & (levels_of(pattern, "email") == DIFFERENT["email"])
    codes = encoded.codes[name]
    flags = np.zeros(max(len(encoded.texts[name]), 1), dtype=bool)
    flags[codes[left[two_people & (levels_of(pattern, name) == EXACT)]]] = True
    if name == "email" and encoded.texts[name]:
        flags |= is_shared_mailbox(pl.Series(encoded.texts[name], dtype=pl.String)).to_numpy()
    return flags
