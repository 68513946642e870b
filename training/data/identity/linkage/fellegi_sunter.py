"""The Fellegi-Sunter model (Fellegi and Sunter 1969) with parameters estimated by EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.identity.linkage.comparisons import (
    DIFFERENT,
    EXACT,
    FIELDS,
    SHARED,
    Encoded,
    compare,
    levels_of,
)
from shopsight.training.data.identity.linkage.names import SWAPPED

Weights = dict[str, NDArray[np.float64]]

_SAMPLE_PAIRS = 500_000
_MAX_ROUNDS = 100
# Of the pairs that agree in a personal key at least one in a thousand is taken for a coincidence.
_COINCIDENCE = 1e-3
_SWAPPED_SHARE = 0.03
# What two records of one person look like before any data are seen, by field and level from 1 on; it counts
# as much as this many pairs, so that a shop without doubles cannot teach that relatives are one person.
_PRIOR_PAIRS = 30.0
_PRIOR = {
    "given": (0.82, 0.06, 0.06, 0.02, 0.02, 0.02),
    "family": (0.86, 0.06, 0.02, 0.01, 0.01, 0.04),
    "birth": (0.93, 0.03, 0.02, 0.015, 0.005),
    "email": (0.70, 0.04, 0.06, 0.20),
    "phone": (0.70, 0.06, 0.04, 0.20),
    "loyalty": (0.90, 0.02, 0.08),
    "gov_id": (0.94, 0.04, 0.02),
    "street": (0.74, 0.08, 0.04, 0.14),
    "city": (0.82, 0.06, 0.12),
    "postcode": (0.82, 0.04, 0.14),
    "state": (0.93, 0.07),
}


@dataclass(frozen=True)
class FellegiSunter:
    """Probabilities of each level given a match (m) and given none (u), by field, and the share of matches.

    Index 0 is the level "nothing to compare", which says nothing.
    """

    m: Weights
    u: Weights
    match_share: float
    rounds: int

    def log_odds(self, pattern: NDArray[np.int64]) -> NDArray[np.float64]:
        """Natural log odds of a match for packed patterns, prior included."""
        odds = np.full(pattern.size, np.log(self.match_share) - np.log1p(-self.match_share))
        for name in FIELDS:
            odds += self.log_odds_of(pattern, name)
        return odds

    def log_odds_of(self, pattern: NDArray[np.int64], name: str) -> NDArray[np.float64]:
        """What one field adds to the log odds."""
        return _log_ratio(self.m[name], self.u[name])[levels_of(pattern, name)]


def estimate(
    encoded: Encoded,
    pattern: NDArray[np.int64],
    vetoed: NDArray[np.bool_],
    shared: dict[str, NDArray[np.bool_]],
    seed: int = 0,
) -> FellegiSunter:
    """Estimate the model without labels from the candidate pairs' patterns.

    Pairs outside the blocks are taken for non-matches. u starts from all pairs (exact agreement counted,
    the rest from random pairs) and gives up the matches that EM finds among them; m starts from a Dirichlet
    prior. Expectation maximisation after Winkler (1988); `vetoed` pairs take no part.
    """
    distinct, counts = np.unique(pattern[~vetoed], return_counts=True)
    num_pairs = encoded.height * (encoded.height - 1) / 2
    rates = _rates_of_all_pairs(encoded, shared, seed)
    m = {name: _smoothed(np.zeros(DIFFERENT[name] + 1), name) for name in FIELDS}
    for shares in m.values():
        shares[0] = 1.0
    u = {name: np.maximum(rates[name], 1e-12) for name in FIELDS}
    share = min(0.5, 1.0 / max(encoded.height, 2))
    model, rounds = FellegiSunter(m, u, share, 0), 0
    levels = {name: levels_of(distinct, name) for name in FIELDS}
    for rounds in range(1, _MAX_ROUNDS + 1):
        matches = counts / (1.0 + np.exp(-np.clip(model.log_odds(distinct), -500, 500)))
        new_share = float(np.clip(matches.sum() / max(num_pairs, 1.0), 1e-12, 0.5))
        m, u = {}, {}
        for name in FIELDS:
            found = np.bincount(levels[name], weights=matches, minlength=DIFFERENT[name] + 1)
            m[name] = _smoothed(found.astype(np.float64), name)
            left = rates[name] - new_share * m[name]
            u[name] = np.maximum(left / (1 - new_share), np.maximum(_COINCIDENCE * rates[name], 1e-12))
            m[name][0] = u[name][0] = 1.0
        # Two names equal by chance, one record with them swapped: too rare for a sample.
        u["given"][SWAPPED] = u["given"][EXACT] * u["family"][EXACT] * _SWAPPED_SHARE
        settled = abs(np.log(new_share / model.match_share)) < 1e-4 and rounds > 3
        model = FellegiSunter(m, u, new_share, rounds)
        if settled:
            break
    return model


def _log_ratio(m: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.log(np.maximum(m, 1e-9)) - np.log(np.maximum(u, 1e-12))
    return ratio


def _smoothed(found: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Shares of the levels, the prior pairs added."""
    shares = np.zeros(DIFFERENT[name] + 1)
    known = found[1:] + _PRIOR_PAIRS * np.array(_PRIOR[name])
    shares[1:] = known / known.sum()
    return shares


def _rates_of_all_pairs(
    encoded: Encoded, shared: dict[str, NDArray[np.bool_]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """How often each level occurs among all pairs that have something to compare."""
    rng = np.random.default_rng(seed)
    num = min(_SAMPLE_PAIRS, encoded.height * 40)
    left, right = rng.integers(0, encoded.height, (2, num))
    left, right = left[left != right], right[left != right]
    pattern = compare(encoded, np.minimum(left, right), np.maximum(left, right))
    rates = {}
    for name in FIELDS:
        counts = np.bincount(levels_of(pattern, name), minlength=DIFFERENT[name] + 1).astype(np.float64)
        rate = counts + 0.05
        rate[0] = 0.0
        rate /= rate.sum()
        codes = encoded.codes[name]
        sizes = np.bincount(codes[codes >= 0], minlength=1).astype(np.float64)
        all_pairs = max(sizes.sum() * (sizes.sum() - 1), 1.0)
        agreeing = sizes * (sizes - 1) / all_pairs
        if name in shared:
            rate[SHARED] = agreeing[: shared[name].size][shared[name][: agreeing.size]].sum()
            rate[EXACT] = agreeing.sum() - rate[SHARED]
        else:
            rate[EXACT] = agreeing.sum()
        rate[0] = 1.0
        rates[name] = rate
    return rates
