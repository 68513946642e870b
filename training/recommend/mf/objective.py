"""The objective of a factorisation: from interactions and settings to the rows of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from shopsight.kernels.rows import Float32, Rows
from shopsight.training.recommend.mf.config import MFConfig


def canonical(user_items: Any, name: str = "user_items") -> sparse.csr_matrix:
    """Return a CSR float32 copy, sorted, duplicates summed; raises TypeError or ValueError with the fault."""
    if not sparse.issparse(user_items) or user_items.format != "csr":
        raise TypeError(
            f"{name}: must be a scipy CSR matrix, not {type(user_items).__name__}; call .tocsr() first"
        )
    if user_items.dtype.kind not in "fiub":
        raise TypeError(f"{name}: values of dtype {user_items.dtype} must be numbers")
    matrix = sparse.csr_matrix(user_items, dtype=np.float32, copy=True)
    if not np.isfinite(matrix.data).all():
        row = int(np.searchsorted(matrix.indptr, np.flatnonzero(~np.isfinite(matrix.data))[0], "right") - 1)
        raise ValueError(f"{name}: row {row} has a NaN or infinite value; drop or replace it")
    matrix.sum_duplicates()
    return matrix


def rows_of(matrix: sparse.csr_matrix, config: MFConfig, other_bias: Float32 | None = None) -> Rows:
    """Return the observations of one side for the kernels; `matrix` is canonical, [rows, columns].

    A value of zero or less means "seen and not wanted": its weight is its absolute value and its target 0.
    For explicit ratings `matrix` has them less their mean, and `other_bias` [columns] is subtracted as well.
    """
    value = matrix.data * np.float32(config.alpha)
    counts = np.diff(matrix.indptr).astype(np.float64)
    if config.objective == "explicit":
        weight, target = np.ones_like(value), matrix.data
        if other_bias is not None:
            target = target - other_bias[matrix.indices]
    else:
        weight, target = np.abs(value), np.maximum(value, 0)
        if config.objective == "confidence":
            weight = weight - np.float32(config.unobserved_weight)
    frequency = counts + config.missing_weight * matrix.shape[1]
    penalty = config.regularization * np.maximum(frequency, 1) ** config.regularization_exponent
    return Rows(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        weight.astype(np.float32),
        target.astype(np.float32),
        penalty.astype(np.float32),
    )
