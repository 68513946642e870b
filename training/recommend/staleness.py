"""How stale the items of a factorisation have become since the fit, and whether it is time to fit again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kernels.rows import Factors, Float32
from training.recommend.half_steps import Fixed, extended, normal_equations, observations
from training.recommend.objective import MFConfig

REFIT_ERROR = 0.05
REFIT_SHARE = 0.2
_NUM_SAMPLED = 256


@dataclass(frozen=True)
class Staleness:
    """new_share: interactions added, changed or taken away since the fit, as a share of those there are now.

    error: what the standing items cost, as a share of what items explain: how much further the objective
    would fall in one half step of the items, less the same figure right after the fit.
    """

    new_share: float
    error: float

    @property
    def should_refit(self) -> bool:
        """Whether error passes REFIT_ERROR, or new_share, which sees what no sample may, REFIT_SHARE."""
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
    return lost / explained if explained > 0 else 0.0


def _sampled(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items at even steps along the interactions, and the inverse of each one's chance."""
    total = int(counts.sum())
    if total == 0:
        return np.empty(0, np.int64), np.empty(0)
    steps = (np.arange(_NUM_SAMPLED) + 0.5) * total / _NUM_SAMPLED
    items = np.unique(np.searchsorted(np.cumsum(counts), steps, side="right"))
    return items, 1 / np.minimum(1, counts[items] * _NUM_SAMPLED / total)
