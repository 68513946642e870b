"""Cut rows into blocks whose working memory stays within a limit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]


@njit(nogil=True, cache=True)
def cut(
    indptr: Array,
    indices: Array,
    num_columns: int,
    row_bytes: int,
    entry_bytes: int,
    column_bytes: int,
    room_bytes: int,
) -> Array:
    """Implement `shopsight.kernels.blocks.cut_rows`."""
    edges = np.empty(len(indptr), np.int64)
    last_block = np.full(num_columns, -1, np.int64)
    edges[0], num_edges, need, begin = 0, 1, 0, 0
    for row in range(len(indptr) - 1):
        own = row_bytes + entry_bytes * (indptr[row + 1] - indptr[row])
        for _attempt in range(2):
            added = own
            for p in range(indptr[row], indptr[row + 1]):
                if last_block[indices[p]] != num_edges:
                    last_block[indices[p]] = num_edges
                    added += column_bytes
            if row == begin or need + added <= room_bytes:
                need += added
                break
            edges[num_edges] = row  # the block ends before this row, which is counted again
            num_edges, need, begin = num_edges + 1, 0, row
    edges[num_edges] = len(indptr) - 1
    return edges[: num_edges + (len(indptr) > 1)]
