"""Evaluation of ranked lists: recall, NDCG and coverage; one value per user, for intervals over users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Int = NDArray[np.int32] | NDArray[np.int64]
Float64 = NDArray[np.float64]


def hits(recommended: Int, relevant: csr_matrix) -> NDArray[np.bool_]:
    """Return which places of ranked lists hold a relevant item, bool [users, k].

    recommended: int [users, k], -1 for an empty place. relevant: CSR [users, items], of which the pattern
    counts. An item that occurs twice in a list counts once.
    """
    width = relevant.shape[1] + 1
    rows = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr))
    wanted = np.sort(rows * width + relevant.indices + 1)
    asked = np.arange(len(recommended))[:, None] * width + recommended.astype(np.int64) + 1
    at = np.searchsorted(wanted, asked)
    found = np.zeros(asked.shape, dtype=bool)
    inside = at < len(wanted)
    found[inside] = wanted[at[inside]] == asked[inside]
    return found & ~_named_before(recommended)


def recall_at_k(recommended: Int, relevant: csr_matrix) -> Float64:
    """Return hits / min(k, relevant items) of each user, float64 [users]; NaN for a user with none relevant.

    Arguments are those of `hits`. The denominator is the number of hits of a perfect list of length k
    (Liang et al., 2018, "Variational Autoencoders for Collaborative Filtering").
    """
    relevant = _distinct(relevant)
    reachable = np.minimum(recommended.shape[1], np.diff(relevant.indptr))
    return _shares(hits(recommended, relevant).sum(axis=1), reachable)


def ndcg_at_k(recommended: Int, relevant: csr_matrix) -> Float64:
    """Return the normalised discounted cumulative gain of each user (Järvelin, Kekäläinen, 2002).

    Arguments are those of `hits`. Relevance is binary and the discount 1 / log2(rank + 1). Returns float64
    [users]; NaN for a user with none relevant.
    """
    relevant, k = _distinct(relevant), recommended.shape[1]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    reachable = np.minimum(k, np.diff(relevant.indptr))
    return _shares(hits(recommended, relevant) @ discount, ideal[reachable])


def coverage(recommended: Int, num_items: int) -> float | None:
    """Return the share of the items that are in any list; None if there is no item or no list.

    recommended: int [users, k], -1 for an empty place.
    """
    if not num_items or not len(recommended):
        return None
    return len(np.unique(recommended[recommended >= 0])) / num_items


def _distinct(relevant: csr_matrix) -> csr_matrix:
    """Return the matrix with duplicate entries merged."""
    if relevant.has_canonical_format:
        return relevant
    relevant = relevant.copy()
    relevant.sum_duplicates()
    return relevant


def _named_before(recommended: Int) -> NDArray[np.bool_]:
    """Return which places repeat an item of an earlier place of the list, bool [users, k]."""
    order = np.argsort(recommended, axis=1, kind="stable")
    ascending = np.take_along_axis(recommended, order, axis=1)
    again = np.zeros(recommended.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
    return again


def _shares(part: NDArray[Any], whole: NDArray[Any]) -> Float64:
    undefined = np.full(len(part), np.nan)
    np.divide(part, whole, out=undefined, where=whole > 0)
    return undefined
