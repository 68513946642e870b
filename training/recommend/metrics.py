"""How good ranked lists are: recall, ndcg and coverage, a value a customer so that intervals can be drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Int = NDArray[np.int32] | NDArray[np.int64]
Float64 = NDArray[np.float64]


def hits(recommended: Int, relevant: csr_matrix) -> NDArray[np.bool_]:
    """Tell which places of ranked lists are relevant: recommended int [users, k], -1 where a slot is empty.

    relevant: CSR [users, items], its pattern counts. Returns bool [users, k].
    """
    width = relevant.shape[1] + 1
    rows = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr))
    wanted = np.sort(rows * width + relevant.indices + 1)
    asked = np.arange(len(recommended))[:, None] * width + recommended.astype(np.int64) + 1
    at = np.searchsorted(wanted, asked)
    found = np.zeros(asked.shape, dtype=bool)
    inside = at < len(wanted)
    found[inside] = wanted[at[inside]] == asked[inside]
    return found


def recall_at_k(recommended: Int, relevant: csr_matrix) -> Float64:
    """Return hits / min(k, relevant items) of each user, float64 [users]; 0 for a user with none relevant.

    The denominator is what a perfect list of length k reaches (Liang et al., 2018).
    """
    num_relevant: NDArray[np.int64] = np.diff(relevant.indptr)
    reachable = np.minimum(recommended.shape[1], num_relevant)
    return np.asarray(hits(recommended, relevant).sum(axis=1) / np.maximum(reachable, 1), dtype=np.float64)


def ndcg_at_k(recommended: Int, relevant: csr_matrix) -> Float64:
    """Return the normalised discounted cumulative gain of each user (Järvelin, Kekäläinen, 2002).

    Binary relevance, discount 1 / log2(rank + 1), float64 [users]; 0 for a user with none relevant.
    """
    k = recommended.shape[1]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    reachable = np.minimum(k, np.diff(relevant.indptr))
    gain = hits(recommended, relevant) @ discount
    return np.asarray(gain / np.maximum(ideal[reachable], discount[-1]), dtype=np.float64)


def coverage(recommended: Int, num_items: int) -> float:
    """Return the share of the items that appear in anybody's list."""
    shown = np.unique(recommended[recommended >= 0])
    return len(shown) / max(num_items, 1)
