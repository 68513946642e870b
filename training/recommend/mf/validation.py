"""Validation of a factorisation: recall and NDCG over a full ranking of the items."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from shopsight.training.evaluation.ranking import ranking_figures
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.epochs import Fitted
from shopsight.training.recommend.mf.half_steps import extended
from shopsight.training.recommend.mf.retrieval import best_items, item_blocks


def validate(
    state: Fitted, matrix: sparse.csr_matrix, held_out: sparse.csr_matrix, config: MFConfig
) -> dict[str, float]:
    """Return recall (hits / held-out items of the user) and NDCG at `validation_k`, over all unseen items.

    Both are means over users with held-out items, at most `validation_users` of them, sampled by the seed.
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    if len(users) > config.validation_users:
        users = np.sort(
            np.random.default_rng(config.seed).choice(users, config.validation_users, replace=False)
        )
    num_items = matrix.shape[1]
    k = min(config.validation_k, num_items)
    ids, _ = best_items(
        extended(state.user_factors.take(users), config),
        item_blocks(state.item_factors, config, state.item_bias),
        num_items,
        k,
        config.backend,
        seen=matrix[users],
    )
    figures = ranking_figures(ids, held_out[users], capped=False)
    return {name: float(figures[name].mean()) for name in ("recall", "ndcg")}
