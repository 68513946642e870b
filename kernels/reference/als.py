"""Alternating least squares in float64: exact solves and plain conjugate gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.reference.fold_in import fold_in
from kernels.rows import Rows

Array = np.ndarray[Any, Any]
SLOPE_LEFT = 1e-14  # of the first slope: conjugate gradients stop there, at float32's precision


def half_step(rows: Rows, factors: Array, unobserved_weight: float) -> Array:
    """The exact minimiser of every row, float64 [rows, f]."""
    return fold_in(
        rows.indptr, rows.indices, rows.weight, rows.target, factors, rows.regularization, unobserved_weight
    )


def improve(rows: Rows, factors: Array, unobserved_weight: float, num_steps: int, start: Array) -> Array:
    """`num_steps` conjugate gradients of every row from `start`, float64 [rows, f]; empty rows get zeros.

    The preconditioner is the diagonal of the row's system in the eigenbasis of factorsᵀ·factors.
    """
    y = np.asarray(factors, dtype=np.float64)
    values, basis = (
        np.linalg.eigh(y.T @ y) if unobserved_weight else (np.zeros(y.shape[1]), np.eye(y.shape[1]))
    )
    y, x = y @ basis, np.asarray(start, dtype=np.float64) @ basis
    for row in range(rows.num_rows):
        entries = slice(rows.indptr[row], rows.indptr[row + 1])
        observed, weight = y[rows.indices[entries]], rows.weight[entries].astype(np.float64)
        diagonal = unobserved_weight * values + float(rows.regularization[row])
        system = np.diag(diagonal) + (observed.T * weight) @ observed
        right = observed.T @ rows.target[entries].astype(np.float64)
        x[row] = _conjugate(system, right, x[row], num_steps) if len(observed) else 0
    return np.asarray(x @ basis.T)


def _conjugate(system: Array, right: Array, x: Array, num_steps: int) -> Array:
    residual = right - system @ x
    search = conditioned = residual / np.diag(system)
    least = SLOPE_LEFT * (residual @ conditioned)
    for _ in range(num_steps):
        slope = residual @ conditioned
        if slope <= least:
            break
        step = slope / (search @ system @ search)
        x, residual = x + step * search, residual - step * (system @ search)
        conditioned = residual / np.diag(system)
        search = conditioned + (residual @ conditioned) / slope * search
    return x


def loss(user_rows: Rows, user_factors: Array, item_factors: Array, unobserved_weight: float) -> float:
    """The objective of one side's rows (kernels/rows.py) at these factors, without constants."""
    x, y = np.asarray(user_factors, dtype=np.float64), np.asarray(item_factors, dtype=np.float64)
    row_of = np.repeat(np.arange(len(x)), np.diff(user_rows.indptr))
    scores = np.einsum("nf,nf->n", x[row_of], y[user_rows.indices])
    unobserved = unobserved_weight * np.sum((x.T @ x) * (y.T @ y))
    observed = user_rows.weight @ scores**2 - 2 * (user_rows.target @ scores)
    return float(unobserved + observed + user_rows.regularization @ np.sum(x * x, axis=1))


def condition(rows: Rows, factors: Array, unobserved_weight: float) -> Array:
    """The condition number of every row's system: how far a float32 solve may stray, float64 [rows]."""
    y = np.asarray(factors, dtype=np.float64)
    shared = unobserved_weight * (y.T @ y)
    conditions = np.ones(rows.num_rows)
    for row in range(rows.num_rows):
        entries = slice(rows.indptr[row], rows.indptr[row + 1])
        observed = y[rows.indices[entries]]
        system = shared + (observed.T * rows.weight[entries]) @ observed
        conditions[row] = np.linalg.cond(system + rows.regularization[row] * np.eye(y.shape[1]))
    return conditions
