"""Checks of the input of a factorisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from shopsight.training.recommend.mf.objective import canonical


def checked_input(
    user_items: sparse.csr_matrix, validation: sparse.csr_matrix | None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
    """Return canonical copies of both; raises TypeError or ValueError naming matrix, row and rule."""
    matrix = checked_matrix(user_items, "user_items")
    if 0 in matrix.shape:
        raise ValueError(f"user_items: shape {matrix.shape} has no users or no items")
    if validation is None:
        return matrix, None
    held_out = checked_matrix(validation, "validation")
    if held_out.shape != matrix.shape:
        raise ValueError(f"validation: shape {held_out.shape} must be user_items' {matrix.shape}")
    if held_out.nnz == 0:
        raise ValueError("validation: holds no interaction; leave it out or hold some back")
    _check_apart(matrix, held_out)
    return matrix, held_out


def _check_apart(matrix: sparse.csr_matrix, held_out: sparse.csr_matrix) -> None:
    """Refuse held-out entries that are fitted to: they are masked as seen and could not be recommended."""
    fitted, held = (
        sparse.csr_matrix((np.ones(part.nnz, np.int8), part.indices, part.indptr), shape=part.shape)
        for part in (matrix, held_out)
    )
    shared = fitted.multiply(held).tocoo()
    if shared.nnz:
        raise ValueError(
            f"validation: {shared.nnz:,} of its {held_out.nnz:,} interactions are in user_items too, the "
            f"first in row {shared.row[0]}, column {shared.col[0]}; what is fitted to cannot be held out: "
            "take them out of one of the two"
        )


def checked_matrix(matrix: sparse.csr_matrix, name: str = "user_items") -> sparse.csr_matrix:
    """Return `canonical(matrix)` after checks of what would otherwise be read out of bounds."""
    if sparse.issparse(matrix) and matrix.format == "csr" and len(matrix.indices):
        low, high = int(matrix.indices.min()), int(matrix.indices.max())
        if low < 0 or high >= matrix.shape[1]:
            wrong = low if low < 0 else high
            raise ValueError(f"{name}: column {wrong} lies outside 0..{matrix.shape[1] - 1}")
        if (
            matrix.indptr[0] != 0
            or matrix.indptr[-1] != len(matrix.indices)
            or (np.diff(matrix.indptr) < 0).any()
        ):
            raise ValueError(f"{name}: indptr must rise from 0 to len(indices)={len(matrix.indices)}")
    return canonical(matrix, name)


def row_numbers(values: ArrayLike, size: int, name: str) -> NDArray[np.int64]:
    """Return row numbers as int64 [n]; raises TypeError or ValueError unless they are in 0..size - 1."""
    given = np.atleast_1d(np.asarray(values))
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise TypeError(f"{name}: must be row numbers (whole numbers, one-dimensional), not {given.dtype}")
    outside = (given < 0) | (given >= size)
    if outside.any():
        raise ValueError(f"{name}: every row must lie in 0..{size - 1}, not {given[outside][0]}")
    return given.astype(np.int64)
