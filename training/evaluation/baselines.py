"""Baselines of the recommender: popularity, and EASE, a strong linear model in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack

Float32 = NDArray[np.float32]
_BLOCK = 1024


class Popularity:
    """Ranks the same items for every user, by the number of users who have them."""

    def fit(self, user_items: sparse.csr_matrix) -> Popularity:
        """Count the users of each item of a CSR matrix [users, items]; returns self."""
        counts = np.bincount(user_items.indices, minlength=user_items.shape[1])
        self.num_users: Float32 = counts.astype(np.float32)
        return self

    def scores(self, users: NDArray[np.int64]) -> Float32:
        """Return the number of users of each item, float32 [len(users), items], the same in every row."""
        return np.tile(self.num_users, (len(users), 1))


class EASE:
    """EASE: a ridge regression of each item on all others (Steck, 2019).

    The weights are B = I - P diag(1 / P_jj) with P = (XᵀX + λI)⁻¹, and the scores X·B. With more items than
    users the same scores are computed from the smaller K = (XXᵀ + λI)⁻¹, since XP = KX (Woodbury); then only
    users of the fitted matrix can be scored. One square float32 matrix of the smaller side is factorised and
    inverted in place. Source: "Embarrassingly Shallow Autoencoders for Sparse Data".
    """

    def __init__(self, regularization: float) -> None:
        if not (np.isfinite(regularization) and regularization > 0):
            raise ValueError(f"regularization={regularization}: must be finite and above 0")
        self.regularization = regularization

    def fit(self, user_items: sparse.csr_matrix) -> EASE:
        """Fit to a CSR matrix [users, items]; returns self.

        Raises ValueError for a matrix without users or items, and ArithmeticError if the system is not
        positive definite in float32.
        """
        if 0 in user_items.shape:
            raise ValueError(f"user_items: shape {user_items.shape} has no users or no items")
        x = sparse.csr_matrix(user_items, dtype=np.float32)
        self._matrix = x
        self._by_users = x.shape[0] < x.shape[1]
        self._inverse = inverse_of_gramian(x if self._by_users else x.T.tocsr(), self.regularization)
        if self._by_users:
            self._diagonal = (1 - _quadratic_forms(self._inverse, x)) / np.float32(self.regularization)
        else:
            self._diagonal = self._inverse.diagonal().copy()
        return self

    def scores(self, users: NDArray[np.int64]) -> Float32:
        """Return the scores of fitted users, given by their rows, float32 [len(users), items]."""
        x = self._matrix[users]
        return self._less_own(x, self._inverse[users] @ self._matrix) if self._by_users else self.scores_of(x)

    def scores_of(self, user_items: sparse.csr_matrix) -> Float32:
        """Return the scores of any rows (CSR [rows, items]), float32 [rows, items].

        Raises ValueError when there were fewer users than items: then only fitted users can be scored.
        """
        if self._by_users:
            raise ValueError(
                "user_items: fewer users than items were fitted; ask for `scores` of fitted users"
            )
        return self._less_own(user_items, user_items @ self._inverse)

    def _less_own(self, x: sparse.csr_matrix, spread: Float32) -> Float32:
        """Return X·B = X - XP diag(1 / P_jj), float32 [rows, items]; `spread` is XP."""
        return np.asarray(x.toarray() - spread / self._diagonal, dtype=np.float32)


def inverse_of_gramian(rows: sparse.csr_matrix, regularization: float) -> Float32:
    """Return (rows·rowsᵀ + λI)⁻¹, float32 [rows, rows], computed in place in one matrix of that size."""
    n = rows.shape[0]
    square = np.empty((n, n), np.float32)
    columns = rows.T.tocsc()
    for begin in range(0, n, _BLOCK):
        square[begin : begin + _BLOCK] = (rows[begin : begin + _BLOCK] @ columns).toarray()
    square[np.diag_indices(n)] += np.float32(regularization)
    # the transpose of a C-ordered symmetric matrix is the same matrix in Fortran order, as LAPACK needs
    factor, failed = lapack.spotrf(square.T, lower=True, clean=False, overwrite_a=True)
    if failed:
        raise ArithmeticError(f"{n} rows: not positive definite in float32; raise the regularization")
    lapack.spotri(factor, lower=True, overwrite_c=True)
    _mirror_upper(square)
    return square


def _mirror_upper(square: Float32) -> None:
    """Copy the elements above the diagonal to below it."""
    for begin in range(0, len(square), _BLOCK):
        end = min(begin + _BLOCK, len(square))
        square[end:, begin:end] = square[begin:end, end:].T
        corner = np.triu(square[begin:end, begin:end])
        square[begin:end, begin:end] = corner + np.triu(corner, 1).T


def _quadratic_forms(inverse: Float32, x: sparse.csr_matrix) -> Float32:
    """Return xⱼᵀ·inverse·xⱼ for each column xⱼ of x, float32 [columns]."""
    total = np.zeros(x.shape[1])
    for begin in range(0, x.shape[0], _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        total += x[rows].multiply(inverse[rows] @ x).sum(axis=0).A1
    return total.astype(np.float32)
