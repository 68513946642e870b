"""Replace or add rows of a fitted factorisation, for `partial_fit` and `partial_fit_items`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from shopsight.training.recommend.mf.inputs import row_numbers

Array = np.ndarray[Any, Any]


def new_row_numbers(numbers: ArrayLike, num_rows: int, name: str) -> tuple[NDArray[np.int64], int]:
    """Return distinct row numbers, int64 [n], and the new number of rows; new rows must leave no gap."""
    rows = row_numbers(numbers, 2**31, name)
    if len(np.unique(rows)) != len(rows):
        raise ValueError(f"{name}: must be distinct row numbers")
    total = max(num_rows, int(rows.max(initial=-1)) + 1)
    if total - num_rows != np.count_nonzero(rows >= num_rows):
        raise ValueError(f"{name}: new {name} must follow {num_rows - 1} without a gap")
    return rows, total


def with_rows(values: Array, rows: NDArray[np.int64], fresh: Array, num_rows: int) -> Array:
    """Return `values` with these rows replaced, in place unless rows are added."""
    if num_rows > len(values):
        added = np.zeros((num_rows - len(values), *values.shape[1:]), values.dtype)
        values = np.concatenate([values, added])
    values[rows] = fresh
    return values


def with_interactions(
    matrix: sparse.csr_matrix, rows: NDArray[np.int64], fresh: sparse.csr_matrix, num_rows: int
) -> tuple[sparse.csr_matrix, int]:
    """Return `matrix` with these rows replaced, and the number of fresh entries that are new or changed."""
    padding = sparse.csr_matrix((num_rows - matrix.shape[0], matrix.shape[1]), dtype=np.float32)
    grown = sparse.vstack([matrix, padding], format="csr")
    present = sparse.csr_matrix((np.ones_like(fresh.data), fresh.indices, fresh.indptr), shape=fresh.shape)
    num_new = int(present.multiply(grown[rows] != fresh).nnz)
    source = np.arange(num_rows)
    source[rows] = num_rows + np.arange(len(rows))
    return sparse.vstack([grown, fresh], format="csr")[source], num_new
