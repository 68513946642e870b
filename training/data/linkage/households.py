"""Members of one household agree in nearly everything: what tells them apart, where it is reliable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.linkage.comparisons import (
    CLOSE,
    DIFFERENT,
    EXACT,
    FUZZY,
    SHORT_FORM,
    SWAPPED,
    Encoded,
    levels_of,
)

Mask = NDArray[np.bool_]
Pattern = NDArray[np.int64]

# A field is reliable if few of many pairs with an own key in common differ in it.
_MAX_UNRELIABLE, _MIN_EVIDENCE = 0.03, 50


@dataclass(frozen=True)
class Verdicts:
    """apart: pairs that cannot be one person; unsupported: pairs in which nothing personal agrees."""

    apart: Mask
    unsupported: Mask


def judge(pattern: Pattern) -> Verdicts:
    """Judge pairs that the model alone would join because a household shares address, landline and name.

    Twins, namesakes of two generations and couples with one mailbox are told apart by given name and birth
    date, and by each having a mail or phone of their own. Where pairs with an own key in common show that
    names or birth dates are often wrong, or there are too few such pairs to know, they decide nothing.
    """
    given, family, birth = (levels_of(pattern, name) for name in ("given", "family", "birth"))
    email, phone = levels_of(pattern, "email"), levels_of(pattern, "phone")
    own_number = (levels_of(pattern, "loyalty") == EXACT) | (levels_of(pattern, "gov_id") == EXACT)
    own_key = own_number | (email == EXACT)
    other_name, other_birth = given == DIFFERENT["given"], birth == DIFFERENT["birth"]
    same_birth = birth == EXACT
    other_reach = (email == DIFFERENT["email"]) | (phone == DIFFERENT["phone"])
    apart, unsupported = np.zeros(pattern.size, dtype=bool), np.zeros(pattern.size, dtype=bool)
    names_tell = _is_reliable(other_name[own_key & (given > 0)])
    births_tell = _is_reliable(other_birth[own_key & (birth > 0)])
    if births_tell:
        apart |= other_birth & ~own_key
    if births_tell and names_tell:
        apart |= (birth > EXACT) & other_name & ~own_number
    if names_tell:
        unlike = other_name | (given == FUZZY)
        apart |= other_name & (~same_birth | other_reach) & ~own_key
        apart |= unlike & ~same_birth & other_reach & ~own_key
        agrees = np.isin(given, (EXACT, CLOSE, SHORT_FORM, SWAPPED)) & (family != DIFFERENT["family"])
        unsupported |= ~agrees & ~same_birth & ~own_key & (phone != EXACT)
        unsupported |= other_name & ~same_birth & ~own_number
    return Verdicts(apart, unsupported)


def used_by_several(encoded: Encoded, pattern: Pattern, left: NDArray[np.int64], name: str) -> Mask:
    """Which values of a key (by code) two different people use: a family's mailbox, a landline."""
    codes = encoded.codes[name]
    other_name = levels_of(pattern, "given") == DIFFERENT["given"]
    birth = levels_of(pattern, "birth")
    mail_differs = levels_of(pattern, "email") == DIFFERENT["email"]
    two_people = other_name & ((birth == DIFFERENT["birth"]) | ((birth == 0) & mail_differs))
    if name == "phone":
        two_people |= (birth == DIFFERENT["birth"]) & mail_differs
    flags = np.zeros(max(len(encoded.texts[name]), 1), dtype=bool)
    flags[codes[left[two_people & (levels_of(pattern, name) == EXACT)]]] = True
    return flags


def _is_reliable(differs: Mask) -> bool:
    return differs.size >= _MIN_EVIDENCE and float(differs.mean()) < _MAX_UNRELIABLE
