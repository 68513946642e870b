"""How stale the items of a factorisation have become since the fit, and whether it is time to fit again.

What a full fit would gain is about twice the error told here, which is that of a single half step. Seen for
3000 users and 800 items, 24 factors, when a share of the users gets new rows (recall@20 of those users):

    users | same tastes: error, full fit lowers by, recall | tastes drift for half the items: the same
      10% |   0.6%   1.3%   .303 standing  .282 fitted     |    0.8%   2.0%   .128 standing  .143 fitted
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
    """new_share: interactions added or changed since the fit, as a share of those there are now.

    error: what the standing items cost: by how much one half step of the items would lower the objective, as
    a share of all that the moved items explain, less the same figure right after the fit.
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
            f"{self.new_share:.1%} of the interactions are new, standing items cost {self.error:.1%} "
            f"of what they explain: {advice}"
        )


def item_error(
    user_items: sparse.csr_matrix,
    users: Fixed,
    item_factors: Factors,
    item_bias: Float32,
    config: MFConfig,
) -> float:
    """How far one half step of the items would lower the objective, over what the moved items explain.

    With y the item's factors, y* those of its half step and A its normal equations, the objective falls by
    (y - y*)ᵀA(y - y*), of the y*ᵀAy* that lie between y* and no factors at all. Both are summed over at most
    256 items, drawn evenly along the interactions and weighed by the inverse of their chance to be drawn.
    Costs the interactions of the drawn items times f², in float64.
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
        moved = np.linalg.solve(system, right)
        stood = extended(item_factors[item : item + 1], config, item_bias[item : item + 1])[0].astype(
            np.float64
        )
        lost += weights[number] * float((stood - moved) @ system @ (stood - moved))
        explained += weights[number] * float(moved @ right)
    return float(lost / explained) if explained > 0 else 0.0


def _sampled(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items at even steps along the interactions, and the inverse of each one's chance."""
    total = int(counts.sum())
    if total == 0:
        return np.empty(0, np.int64), np.empty(0)
    steps = (np.arange(_NUM_SAMPLED) + 0.5) * total / _NUM_SAMPLED
    items = np.unique(np.searchsorted(np.cumsum(counts), steps, side="right"))
    return items, 1 / np.minimum(1, counts[items] * _NUM_SAMPLED / total)
