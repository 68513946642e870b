"""Selection of the best items from scores, and of the strongest entries of sparse rows."""

from __future__ import annotations

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
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.int32)  # the sum turns -0 into 0
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # integers in the order of the floats
    keys = (ascending.astype(np.int64) << 32) - places
    top = np.argpartition(keys, num_items - k, axis=1)[:, num_items - k :]
    order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
    ids = np.take_along_axis(top, order, axis=1).astype(np.int32)
    values = np.take_along_axis(scores, ids, axis=1)
    return np.where(np.isneginf(values), np.int32(-1), ids), values


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
