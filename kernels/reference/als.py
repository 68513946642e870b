"""Alternating least squares in float64: exact solves and plain conjugate gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopsight.kernels.reference.fold_in import fold_in
from shopsight.kernels.rows import Rows

Array = np.ndarray[Any, Any]
CG_TOLERANCE = 1e-14  # conjugate gradients stop at this fraction of the first rᵀM⁻¹r: float32's precision


def half_step(rows: Rows, factors: Array, unobserved_weight: float) -> Array:
    """Return the exact minimiser of every row, float64 [rows, f]; arguments as of `kernels.als.half_step`."""
    return fold_in(
        rows.indptr, rows.indices, rows.weight, rows.target, factors, rows.regularization, unobserved_weight
    )


def improve(rows: Rows, factors: Array, unobserved_weight: float, num_steps: int, start: Array) -> Array:
    """Return the factors, float64 [rows, f], after `num_steps` conjugate-gradient steps from `start`.

    `start` is [rows, f]; rows without entries get zeros. The preconditioner is the diagonal of the row's
    system in the eigenbasis of factorsᵀ·factors. Source: Takács, Pilászy, Tikk (2011).
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
        x[row] = _cg(system, right, x[row], num_steps) if len(observed) else 0
    return np.asarray(x @ basis.T)


def _cg(system: Array, right: Array, x: Array, num_steps: int) -> Array:
    residual = right - system @ x
    search = conditioned = residual / np.diag(system)
    least = CG_TOLERANCE * (residual @ conditioned)
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
    """Return the objective of one side's rows (kernels/rows.py) at these factors, less constants."""
    x, y = np.asarray(user_factors, dtype=np.float64), np.asarray(item_factors, dtype=np.float64)
    row_of = np.repeat(np.arange(len(x)), np.diff(user_rows.indptr))
    scores = np.einsum("nf,nf->n", x[row_of], y[user_rows.indices])
    unobserved = unobserved_weight * np.sum((x.T @ x) * (y.T @ y))
    observed = user_rows.weight @ scores**2 - 2 * (user_rows.target @ scores)
    return float(unobserved + observed + user_rows.regularization @ np.sum(x * x, axis=1))


def condition(rows: Rows, factors: Array, unobserved_weight: float) -> Array:
    """Return the condition number of every row's system, float64 [rows], in the 2-norm."""
    y = np.asarray(factors, dtype=np.float64)
    shared = unobserved_weight * (y.T @ y)
    conditions = np.ones(rows.num_rows)
    for row in range(rows.num_rows):
        entries = slice(rows.indptr[row], rows.indptr[row + 1])
        observed = y[rows.indices[entries]]
        system = shared + (observed.T * rows.weight[entries]) @ observed
        conditions[row] = np.linalg.cond(system + rows.regularization[row] * np.eye(y.shape[1]))
    return conditions


def rounding_error(rows: Rows, factors: Array, unobserved_weight: float, solution: Array) -> Array:
    """Return the Euclidean distance, float64 [rows], that a float32 solve may have from `solution` [rows, f].

    A perturbation of A·x = b changes x by at most |A⁻¹|·(|dA|·|x| + |db|). The rounding errors of a sum are
    assumed to be independent: they grow with the square root of its length, and the norm of a matrix of them
    is the square root of its order times its largest entry. Those of b follow its partial sums, which exceed
    b where terms cancel. Sources: Higham and Mary (2019), "A New Approach to Probabilistic Rounding Error
    Analysis", SIAM J. Sci. Comput. 41(5);
    Higham, "Accuracy and Stability of Numerical Algorithms", theorem 10.3 for Cholesky.
    """
    y, unit = np.asarray(factors, dtype=np.float64), float(np.finfo(np.float32).eps) / 2
    shared, num_factors = unobserved_weight * (y.T @ y), y.shape[1]
    allowed = np.zeros(rows.num_rows)
    for row in range(rows.num_rows):
        entries = slice(rows.indptr[row], rows.indptr[row + 1])
        observed, weight = y[rows.indices[entries]], rows.weight[entries].astype(np.float64)
        regularization = float(rows.regularization[row])
        system = shared + (observed.T * weight) @ observed + regularization * np.eye(num_factors)
        summed = np.max(np.diag(shared) + np.abs(weight) @ observed**2) + regularization
        formed = np.sqrt(len(observed) + num_factors + 2) * summed
        factorised = np.sqrt(3 * num_factors + 1) * np.diag(system).max()
        terms = rows.target[entries].astype(np.float64)[:, None] * observed
        right = 2 * (np.linalg.norm(np.cumsum(terms, axis=0)) + np.linalg.norm(terms))
        size = np.linalg.norm(solution[row])
        moved = np.sqrt(num_factors) * (formed + factorised) * size + right
        allowed[row] = unit * (moved / np.linalg.eigvalsh(system)[0] + np.sqrt(num_factors) * size)
    return allowed
