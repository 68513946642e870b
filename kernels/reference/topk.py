"""Top-k by sorting every score, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def topk(
    user_factors: Array,
    item_factors: Array,
    k: int,
    exclude_indptr: Array | None = None,
    exclude_indices: Array | None = None,
    exclude_items: Array | None = None,
) -> tuple[Array, Array]:
    """Return item indices int32 [users, k] and scores float64 [users, k], best first, equal scores by index.

    Arguments are those of `kernels.topk.topk`. A place without an item left has index -1 and score -inf.
    """
    scores = np.asarray(user_factors, dtype=np.float64) @ np.asarray(item_factors, dtype=np.float64).T
    if exclude_items is not None:
        scores[:, exclude_items] = -np.inf
    if exclude_indptr is not None and exclude_indices is not None:
        for user in range(len(scores)):
            scores[user, exclude_indices[exclude_indptr[user] : exclude_indptr[user + 1]]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best_scores = np.take_along_axis(scores, best, axis=1)
    return np.where(np.isneginf(best_scores), -1, best).astype(np.int32), best_scores
