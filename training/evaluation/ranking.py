"""Accuracy of ranked lists: recall, hit rate, NDCG, MRR and MAP, one value per user.

Every figure takes `recommended`, int [users, k] in descending order of preference with -1 for an empty place,
and `relevant`, CSR [users, items], of which the pattern counts. A user without relevant items has NaN in
every figure, so that nobody is counted as a failure who could not succeed. docs/evaluation.md compares the
definitions with those of other libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Int = NDArray[np.int32] | NDArray[np.int64]
Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
_BLOCK_CELLS = 1 << 18  # places of lists that are looked up at a time: a few MiB of temporary arrays


def ranking_figures(recommended: Int, relevant: csr_matrix, *, capped: bool = True) -> dict[str, Float64]:
    """Return every figure of this file by name, float64 [users] each, from one pass over the lists.

    The names are recall, hit_rate, ndcg, mrr and map; capped is that of `recall_at_k`. Raises ValueError as
    `check_lists`.
    """
    judged = _Judged.of(recommended, relevant)
    return {
        "recall": judged.recall(capped),
        "hit_rate": judged.hit_rate(),
        "ndcg": judged.ndcg(),
        "mrr": judged.reciprocal_rank(),
        "map": judged.average_precision(capped),
    }


def recall_at_k(recommended: Int, relevant: csr_matrix, *, capped: bool = True) -> Float64:
    """Return hits / min(k, relevant items) of each user, float64 [users].

    If not capped, the denominator is the number of relevant items. The capped denominator is the number of
    hits of a perfect list of length k (Liang et al., 2018, "Variational Autoencoders for Collaborative
    Filtering"). Raises ValueError as `check_lists`.
    """
    return _Judged.of(recommended, relevant).recall(capped)


def hit_rate_at_k(recommended: Int, relevant: csr_matrix) -> Float64:
    """Return 1 for a user with a hit, 0 for one without, float64 [users].

    Raises ValueError as `check_lists`.
    """
    return _Judged.of(recommended, relevant).hit_rate()


def ndcg_at_k(recommended: Int, relevant: csr_matrix) -> Float64:
    """Return the normalised discounted cumulative gain of each user, float64 [users].

    Relevance is binary, the discount is 1 / log2(rank + 1), and the ideal list has min(k, relevant items)
    hits (Järvelin, Kekäläinen, 2002). Raises ValueError as `check_lists`.
    """
    return _Judged.of(recommended, relevant).ndcg()


def mrr_at_k(recommended: Int, relevant: csr_matrix) -> Float64:
    """Return 1 / rank of the first hit of each user, 0 without one, float64 [users].

    Source: Voorhees (1999), "The TREC-8 Question Answering Track Report". Raises ValueError as `check_lists`.
    """
    return _Judged.of(recommended, relevant).reciprocal_rank()


def map_at_k(recommended: Int, relevant: csr_matrix, *, capped: bool = True) -> Float64:
    """Return the average precision of each user, float64 [users]: the mean of the precisions at the hits.

    Their sum is divided by min(k, relevant items), or by all relevant items if not capped. The mean over
    users is MAP (Buckley, Voorhees, 2000). Raises ValueError as `check_lists`.
    """
    return _Judged.of(recommended, relevant).average_precision(capped)


def best_items(scores: NDArray[Any], k: int, *, hidden: csr_matrix | None = None) -> NDArray[np.int32]:
    """Return the k best items of each user by a dense matrix of scores, int32 [users, k].

    scores: float [users, items]. hidden: CSR [users, items], the items to leave out. Items of equal score
    come in ascending order of their index, as in `shopsight.kernels.topk`. Items that are hidden or have a
    score of -inf are not listed; places that stay empty are -1. Raises ValueError for a NaN, and for a k
    outside 1 to items.
    """
    num_users, num_items = scores.shape
    if not 1 <= k <= num_items:
        raise ValueError(f"k={k}: must be 1 to the number of items, {num_items}")
    lists = np.empty((num_users, k), np.int32)
    for rows in blocks(num_users, num_items):
        block = np.array(scores[rows], dtype=np.float64)
        if np.isnan(block).any():
            user, item = np.argwhere(np.isnan(block))[0]
            raise ValueError(
                f"scores[{rows.start + user}, {item}] is NaN and has no rank; use -inf to leave an item out"
            )
        if hidden is not None:
            block[hidden[rows].nonzero()] = -np.inf
        order = np.argsort(-block, axis=1, kind="stable")[:, :k]
        lists[rows] = np.where(np.isinf(np.take_along_axis(block, order, axis=1)), -1, order)
    return lists


def first_mentions(recommended: Int) -> Bool:
    """Return which places hold an item that no earlier place of the same list holds, bool [users, k]."""
    first: Bool = np.greater_equal(recommended, 0)
    ascending: NDArray[np.int64] = np.sort(recommended, axis=1)
    repeated = np.flatnonzero(((ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] >= 0)).any(axis=1))
    if len(repeated):
        order = np.argsort(recommended[repeated], axis=1, kind="stable")
        again = np.zeros((len(repeated), recommended.shape[1]), dtype=bool)
        same = ascending[repeated, 1:] == ascending[repeated, :-1]
        np.put_along_axis(again, order[:, 1:], same, axis=1)
        first[repeated] &= ~again
    return first


def blocks(num_users: int, cells_per_user: int) -> Iterator[slice]:
    """Yield consecutive slices of users, so that a temporary array of one block stays at a few MiB."""
    step = max(1, _BLOCK_CELLS // max(1, cells_per_user))
    for begin in range(0, num_users, step):
        yield slice(begin, min(begin + step, num_users))


def check_lists(recommended: Int, num_users: int, num_items: int) -> None:
    """Raise ValueError unless lists are integers [num_users, k] below `num_items` with k of 1 or more."""
    if recommended.ndim != 2 or not np.issubdtype(recommended.dtype, np.integer):
        raise ValueError(
            f"recommended: {recommended.dtype} {recommended.shape} is no integer array [users, k]; "
            "give the items' column numbers, -1 for an empty place"
        )
    if recommended.shape[1] == 0:
        raise ValueError(
            "recommended: the lists have no places; recommend at least one item (k of 1 or more)"
        )
    if len(recommended) != num_users:
        raise ValueError(
            f"recommended has {len(recommended)} users, where {num_users} are judged; "
            "give one list per judged user"
        )
    if recommended.size and (recommended.max() >= num_items or recommended.min() < -1):
        user, place = np.argwhere((recommended >= num_items) | (recommended < -1))[0]
        raise ValueError(
            f"recommended[{user}, {place}] = {recommended[user, place]}: no item, there are {num_items}; "
            "use the columns of the matrix, -1 for an empty place"
        )


def distinct(relevant: csr_matrix) -> csr_matrix:
    """Return the matrix with duplicate entries merged and ascending columns."""
    if relevant.has_canonical_format:
        return relevant
    relevant = relevant.copy()
    relevant.sum_duplicates()
    return relevant


def shares(part: NDArray[Any], whole: NDArray[Any]) -> Float64:
    """Return part / whole, float64 [n]; NaN where whole is 0."""
    undefined = np.full(len(part), np.nan)
    np.divide(part, whole, out=undefined, where=whole > 0)
    return undefined


@dataclass(frozen=True)
class _Judged:
    """What the figures are made of: `sums` of `_sum_hits`, float64 [4, users], and the sizes."""

    sums: Float64
    num_relevant: NDArray[np.int64]
    k: int

    @staticmethod
    def of(recommended: Int, relevant: csr_matrix) -> _Judged:
        relevant = distinct(relevant)
        check_lists(recommended, *relevant.shape)
        num_users, k = recommended.shape
        sums = np.zeros((4, num_users))
        _sum_hits(recommended, relevant.indptr, relevant.indices, _discount(k), sums)
        return _Judged(sums, np.diff(relevant.indptr).astype(np.int64), k)

    def recall(self, capped: bool) -> Float64:
        return shares(self.sums[0], self._denominator(capped))

    def hit_rate(self) -> Float64:
        return shares(self.sums[0] > 0, self.num_relevant > 0)

    def ndcg(self) -> Float64:
        ideal = np.concatenate([[0.0], np.cumsum(_discount(self.k))])
        return shares(self.sums[1], ideal[self._denominator(capped=True)])

    def reciprocal_rank(self) -> Float64:
        return shares(self.sums[2], self.num_relevant > 0)

    def average_precision(self, capped: bool) -> Float64:
        return shares(self.sums[3], self._denominator(capped))

    def _denominator(self, capped: bool) -> NDArray[np.int64]:
        return np.minimum(self.k, self.num_relevant) if capped else self.num_relevant


def _discount(k: int) -> Float64:
    return np.asarray(1.0 / np.log2(np.arange(2, k + 2)))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum_hits(lists: Int, indptr: Int, indices: Int, discount: Float64, sums: Float64) -> None:
    """Write the number of hits, their gain, 1 / rank of the first, and the sum of the precisions to `sums`.

    lists: [users, k]. indptr, indices: CSR with ascending columns. sums: [4, users], zero.
    """
    num_users, k = lists.shape
    for user in range(num_users):
        for place in range(k):
            item = lists[user, place]
            low, high = indptr[user], indptr[user + 1]
            while low < high:
                middle = (low + high) // 2
                if indices[middle] < item:
                    low = middle + 1
                else:
                    high = middle
            if low == indptr[user + 1] or indices[low] != item:
                continue
            repeated = False
            for earlier in range(place):
                repeated |= lists[user, earlier] == item
            if repeated:
                continue
            if sums[0, user] == 0:
                sums[2, user] = 1.0 / (place + 1)
            sums[0, user] += 1
            sums[1, user] += discount[place]
            sums[3, user] += sums[0, user] / (place + 1)
