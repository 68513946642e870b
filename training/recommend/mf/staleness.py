"""Staleness of the items of a factorisation since the fit, and whether to fit again.

The error reported is that of a single half step; a full fit gains about twice as much. Measured for 3000
users and 800 items, 24 factors, when a share of the users gets new rows (recall@20 of those users):

    users | same tastes: error, full fit lowers by, recall | tastes drift for half the items: the same
      10% |   0.6%   1.3%   .303 old items .282 refitted   |    0.8%   2.0%   .128 old items .143 refitted
      20% |   1.2%   2.6%   .306           .287            |    1.8%   4.8%   .122           .193
      40% |   2.1%   5.0%   .311           .295            |    5.2%  12.1%   .130           .255
      80% |   4.4%  10.0%   .305           .293            |   15.9%  28.8%   .125           .276
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from shopsight.kernels.rows import Factors, Float32
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.half_steps import Fixed, extended, normal_equations, observations

REFIT_ERROR = 0.03
REFIT_SHARE = 0.5
_NUM_SAMPLED = 256


@dataclass(frozen=True)
class Staleness:
    """new_share: interactions added or changed since the fit, as a share of all interactions.

    error: the cost of stale items: the decrease of the objective by one half step of the items, as a share of
    what the updated items explain, less the same figure right after the fit.
    """

    new_share: float
    error: float

    @property
    def should_refit(self) -> bool:
        """Whether error passes REFIT_ERROR or, as a precaution, new_share passes REFIT_SHARE."""
        return self.error > REFIT_ERROR or self.new_share > REFIT_SHARE

    def __str__(self) -> str:
        advice = "fit again" if self.should_refit else "no need to fit again yet"
        return (
            f"{self.new_share:.1%} of the interactions are new, stale items cost {self.error:.1%} "
            f"of what they explain: {advice}"
        )


def item_error(
    user_items: sparse.csr_matrix,
    users: Fixed,
    item_factors: Factors,
    item_bias: Float32,
    config: MFConfig,
) -> float:
    """Return the decrease of the objective by a half step of the items, over what the updated items explain.

    With y the factors of an item, y* those after its half step and A the matrix of its normal equations, the
    objective decreases by (y - y*)ᵀA(y - y*), and y* explains y*ᵀAy* relative to zero factors. Both are
    summed over at most 256 items, sampled in proportion to their interactions and weighted by the inverse of
    their probability. The cost is f² for each interaction of the sampled items, in float64.
    """
    counts = np.bincount(user_items.indices, minlength=user_items.shape[1])
    items, weights = _sampled(counts)
    if not len(items):
        return 0.0
    columns = user_items[:, items].T.tocsr()
    columns.sort_indices()
    lost = explained = 0.0
    for number, item in enumerate(items):
        row = observations(columns[number], config, users)
        system, right = normal_equations(row, users, config)
        updated = np.linalg.solve(system, right)
        current = extended(item_factors[item : item + 1], config, item_bias[item : item + 1])[0].astype(
            np.float64
        )
        lost += weights[number] * float((current - updated) @ system @ (current - updated))
        explained += weights[number] * float(updated @ right)
    return float(lost / explained) if explained > 0 else 0.0


def _sampled(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return items sampled at even steps along the interactions, and the inverse of their probabilities."""
    total = int(counts.sum())
    if total == 0:
        return np.empty(0, np.int64), np.empty(0)
    steps = (np.arange(_NUM_SAMPLED) + 0.5) * total / _NUM_SAMPLED
    items = np.unique(np.searchsorted(np.cumsum(counts), steps, side="right"))
    return items, 1 / np.minimum(1, counts[items] * _NUM_SAMPLED / total)
