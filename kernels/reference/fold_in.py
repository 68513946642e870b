"""Fold-in in float64: factors of rows not seen in training. Imports no other file of the project."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def fold_in(
    indptr: Array,
    indices: Array,
    weight: Array,
    target: Array,
    factors: Array,
    regularization: Array,
    unobserved_weight: float,
    gramian: Array | None = None,
) -> Array:
    """Return the solution of each row's normal equations, float64 [rows, f]; zeros for a row without entries.

    Shapes: indptr [rows + 1]; indices, weight, target [entries]; factors [columns, f]; regularization
    [rows]; gramian [f, f] is factorsᵀ·factors if the caller has it. The objective is that of
    `kernels.rows.Rows`. Raises LinAlgError naming the first row whose system is not positive definite.
    """
    y = np.asarray(factors, dtype=np.float64)
    if gramian is None:
        gramian = y.T @ y
    shared = unobserved_weight * np.asarray(gramian, dtype=np.float64)
    x = np.zeros((len(indptr) - 1, y.shape[1]))
    for row in range(len(x)):
        entries = slice(indptr[row], indptr[row + 1])
        observed = y[indices[entries]]
        if len(observed):
            system = shared + (observed.T * np.asarray(weight[entries], dtype=np.float64)) @ observed
            system[np.diag_indices_from(system)] += float(regularization[row])
            x[row] = _solve(system, observed.T @ np.asarray(target[entries], dtype=np.float64), row)
    return x


def _solve(system: Array, right: Array, row: int) -> Array:
    try:
        np.linalg.cholesky(system)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(f"row {row}: its system is not positive definite") from None
    return np.asarray(np.linalg.solve(system, right))
