"""Counts of pairs of items by blocks, their scaling by popularity, and the checks of both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.selection import Float32

_BLOCK_CELLS = 16 * 2**20  # of counts at once


def common_customers(weights: sparse.csr_matrix) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield (first item, rows of XᵀX without its diagonal), CSR, for blocks of items of X [customers, items].

    A block has so many items that its rows would not exceed 16 Mi cells if they were dense.
    """
    num_items = weights.shape[1]
    columns = weights.T.tocsr()
    step = max(1, _BLOCK_CELLS // num_items)
    for begin in range(0, num_items, step):
        counts = sparse.csr_matrix(columns[begin : begin + step] @ weights)
        own = counts.indices == begin + np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        counts.data[own] = 0
        counts.eliminate_zeros()
        yield begin, counts


def popularity_factors(
    histories: Histories, source_exponent: float, target_exponent: float
) -> tuple[Float32, Float32]:
    """Return n^-source and n^-target of the customers n of each item, float32 [items] each."""
    count = np.maximum(histories.popularity(), 1).astype(np.float64)
    return (count**-source_exponent).astype(np.float32), (count**-target_exponent).astype(np.float32)


def scaled_rows_and_columns(
    matrix: sparse.csr_matrix, by_row: Float32, by_column: Float32
) -> sparse.csr_matrix:
    """Return CSR `matrix` with every value multiplied by the factors of its row and its column."""
    data = matrix.data * np.repeat(by_row, np.diff(matrix.indptr)) * by_column[matrix.indices]
    return sparse.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), matrix.shape)


def checked_exponents(source_exponent: float, target_exponent: float) -> tuple[float, float]:
    """Return both; raises ValueError for one that is not finite."""
    for name, value in (("source_exponent", source_exponent), ("target_exponent", target_exponent)):
        if not np.isfinite(value):
            raise ValueError(f"{name}={value}: must be finite")
    return source_exponent, target_exponent


def checked_count(value: int, name: str) -> int:
    """Return the value; raises ValueError unless it is at least 1."""
    if value < 1:
        raise ValueError(f"{name}={value}: must be at least 1")
    return value
