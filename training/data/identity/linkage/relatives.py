"""Estimates how often pairs without dates of birth are relatives, from pairs with dates of birth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.identity.linkage.comparisons import (
    AGREEING,
    DIFFERENT,
    EXACT,
    OTHER_BIRTH,
    levels_of,
)
from shopsight.training.data.identity.linkage.names import CLOSE, SHORT_FORM

Pattern = NDArray[np.int64]
Numbers = NDArray[np.float64]

# Rows: what agrees (a number, the mail, the phone, the phone beside two mails, the home, the home beside two
# mails, none of these). Columns: both names agree, the family names differ, the given name is short or
# missing.
# A prior worth _PRIOR_PAIRS pairs.
_PRIOR = np.array(
    [
        [0.001, 0.005, 0.005],
        [0.001, 0.009, 0.005],
        [0.005, 0.10, 0.03],
        [0.009, 0.20, 0.10],
        [0.050, 0.30, 0.30],
        [0.350, 0.50, 0.50],
        [0.050, 0.30, 0.30],
    ]
)
_PRIOR_PAIRS = 20.0
_LIKELY = 0.9  # a pair that would be joined if nobody knew of births


@dataclass(frozen=True)
class Relatives:
    """rate, variance: by kind of evidence (see kinds_of), of the share of pairs that are two people."""

    rate: Numbers
    variance: Numbers

    def among(self, pattern: Pattern) -> Numbers:
        """The share of two people among pairs like each of these; 0 where dates of birth agree."""
        return np.where(levels_of(pattern, "birth") == 0, self.rate[kinds_of(pattern)], 0.0)


def kinds_of(pattern: Pattern) -> NDArray[np.int64]:
    """The kind of evidence of each pair: a place in the flattened table of priors."""
    number = (levels_of(pattern, "loyalty") == EXACT) | (levels_of(pattern, "gov_id") == EXACT)
    email, phone = levels_of(pattern, "email"), levels_of(pattern, "phone") == EXACT
    two_mails = email == DIFFERENT["email"]
    home = np.isin(levels_of(pattern, "street"), (EXACT, CLOSE)) | (levels_of(pattern, "postcode") == EXACT)
    keys = [number, email == EXACT, phone & ~two_mails, phone, home & ~two_mails, home]
    given = levels_of(pattern, "given")
    full = np.isin(given, AGREEING) & (given != SHORT_FORM)
    names = np.select([levels_of(pattern, "family") == DIFFERENT["family"], full], [1, 0], 2)
    kinds: NDArray[np.int64] = np.select(keys, list(range(len(keys))), len(keys)) * _PRIOR.shape[1] + names
    return kinds


def count_relatives(pattern: Pattern, without_birth: Numbers, possible: NDArray[np.bool_]) -> Relatives:
    """Count, by kind, the pairs that would be joined without their dates of birth and differ in them.

    without_birth [n]: the probability of a match that leaves births out; possible [n]: pairs that nothing but
    the birth keeps apart. Strangers that the model foresees are taken off. The posterior of a Beta
    distribution with a weak prior.
    """
    birth = levels_of(pattern, "birth")
    seen = possible & (birth > 0) & (without_birth >= _LIKELY)
    kinds, size = kinds_of(pattern[seen]), _PRIOR.size
    strangers = np.bincount(kinds, weights=1 - without_birth[seen], minlength=size)
    wrong = np.bincount(kinds[birth[seen] >= OTHER_BIRTH], minlength=size)
    wrong = np.maximum(wrong - strangers, 0.0) + _PRIOR_PAIRS * _PRIOR.ravel()
    total = np.bincount(kinds, minlength=size) + _PRIOR_PAIRS
    rate = wrong / total
    return Relatives(rate, rate * (1 - rate) / (total + 1))


def none_counted() -> Relatives:
    """Relatives left out, where dates of birth are not good enough to tell."""
    return Relatives(np.zeros(_PRIOR.size), np.zeros(_PRIOR.size))
