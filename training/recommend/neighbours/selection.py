"""Selection of the best items from scores, and of the strongest entries of sparse rows."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]


def best_items(scores: Float32, k: int, places: NDArray[np.int64]) -> tuple[Int32, Float32]:
    """Return the best k items of each row, (indices int32 [n, k], scores float32 [n, k]), best first.

    scores: float32 [n, items]; -inf for an item that is left out. places: int64 [items], a permutation that
    orders items with equal scores, 0 first. Places without an item have index -1 and score -inf. Raises
    ValueError where k is not in 1..items.
    """
    num_items = scores.shape[1]
    if not 1 <= k <= num_items:
        raise ValueError(f"k={k}: must lie between 1 and the number of items, {num_items}")
    ids = np.full((len(scores), k), -1, np.int32)
    values = np.full((len(scores), k), -np.inf, np.float32)
    _keep_best(np.ascontiguousarray(scores, dtype=np.float32), places, ids, values)
    return ids, values


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _keep_best(scores: Float32, places: NDArray[np.int64], ids: Int32, values: Float32) -> None:
    """Write the best items of each row to `ids` and `values` [n, k], which begin with -1 and -inf."""
    k = ids.shape[1]
    for row in range(len(scores)):
        held, best, score_of = 0, ids[row], values[row]
        for item in range(scores.shape[1]):
            score = scores[row, item]
            worst = score_of[k - 1]  # -inf until k items are held
            if score < worst or score == -np.inf:
                continue
            if score == worst and places[best[k - 1]] < places[item]:
                continue
            at = min(held, k - 1)
            held = min(held + 1, k)
            while at > 0 and (
                score_of[at - 1] < score
                or (score_of[at - 1] == score and places[best[at - 1]] > places[item])
            ):
                score_of[at], best[at] = score_of[at - 1], best[at - 1]
                at -= 1
            score_of[at], best[at] = score, item


def popularity_places(popularity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each item when items are ordered by popularity, int64 [items], 0 the first.

    Equal items keep the order of their numbers.
    """
    places = np.empty(len(popularity), np.int64)
    places[np.argsort(-popularity, kind="stable")] = np.arange(len(popularity))
    return places


def strongest(rows: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """Return CSR `rows` with the `most` largest values of each row, sorted by column.

    Of equal values the one in the earlier column stays.
    """
    lengths = np.diff(rows.indptr)
    if lengths.max(initial=0) <= most:
        kept = rows.copy()
        kept.sort_indices()
        return kept
    row = np.repeat(np.arange(rows.shape[0]), lengths)
    order = np.lexsort((rows.indices, -rows.data, row))
    place = np.arange(rows.nnz) - np.repeat(rows.indptr[:-1], lengths)
    chosen = order[place < most]
    chosen = chosen[np.lexsort((rows.indices[chosen], row[chosen]))]
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, most))])
    return sparse.csr_matrix((rows.data[chosen], rows.indices[chosen], indptr), rows.shape)
