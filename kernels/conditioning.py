"""Rows whose systems float32 cannot solve: found by a bound on their condition, solved again in float64."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.reference.fold_in import fold_in as solve_in_float64
from shopsight.kernels.rows import Factors, Int64, Rows

MAX_CONDITION = 1e6  # float32 keeps a tenth of the result up to here, in the worst case


class HardRows:
    """The rows that need float64 when they are solved against `factors`.

    factors: [columns, f] in a type of STORAGES, kept and not copied. gramian: factorsᵀ·factors, float64
    [f, f], if the caller has it. Little is computed from them before a row looks hard.
    """

    def __init__(
        self, factors: Factors, unobserved_weight: float, gramian: NDArray[np.float64] | None = None
    ) -> None:
        self._factors, self._unobserved_weight, self._gramian = factors, unobserved_weight, gramian

    def found_in(self, rows: Rows) -> Int64:
        """Return the numbers of the rows whose condition may exceed MAX_CONDITION, ascending.

        The bound is (λ + w₀ s_max + Σ |w| |y|²) / (λ + w₀ s_min), with s the eigenvalues of the Gramian;
        where a weight is negative, the divisor is λ alone. A looser bound without eigenvalues comes first.
        """
        filled = np.flatnonzero(np.diff(rows.indptr) > 0)
        if not len(filled):
            return filled
        held = rows.regularization[filled].astype(np.float64)
        weights = _sums(np.abs(rows.weight).astype(np.float64), rows.indptr)[filled]
        shared = self._unobserved_weight * self._total
        if ((held + shared + weights * self._longest) <= MAX_CONDITION * held).all():
            return filled[:0]
        least, largest = self._spectrum
        entries = np.abs(rows.weight).astype(np.float64) * self._squares[rows.indices]
        top = held + self._unobserved_weight * largest + _sums(entries, rows.indptr)[filled]
        bottom = held + (self._unobserved_weight * least if rows.weight.min(initial=0) >= 0 else 0.0)
        return filled[top > MAX_CONDITION * bottom]

    def solved(self, rows: Rows, answer: Factors) -> Factors:
        """Return `answer` [rows, f] with the hard rows solved in float64; changes it in place.

        A row that is singular in float64 as well keeps its answer.
        """
        for row in self.found_in(rows):
            entries = slice(rows.indptr[row], rows.indptr[row + 1])
            count = np.array([0, entries.stop - entries.start])
            one = rows.indices[entries], rows.weight[entries], rows.target[entries]
            held = rows.regularization[row : row + 1]
            try:
                found = solve_in_float64(
                    count, *one, self._wide, held, self._unobserved_weight, self._whole_gramian
                )
            except np.linalg.LinAlgError:
                continue
            answer[row] = found[0]
        return answer

    @cached_property
    def _wide(self) -> NDArray[np.float64]:
        return self._factors.astype(np.float64)

    @cached_property
    def _squares(self) -> NDArray[np.float64]:
        wide = self._factors.astype(np.float32, copy=False)
        squares: NDArray[np.float64] = np.einsum("nf,nf->n", wide, wide, dtype=np.float64)
        return squares

    @cached_property
    def _total(self) -> float:
        return float(self._squares.sum())

    @cached_property
    def _longest(self) -> float:
        return float(self._squares.max())

    @cached_property
    def _whole_gramian(self) -> NDArray[np.float64]:
        return self._wide.T @ self._wide if self._gramian is None else self._gramian

    @cached_property
    def _spectrum(self) -> tuple[float, float]:
        values = np.linalg.eigvalsh(self._whole_gramian)
        return max(float(values[0]), 0.0), max(float(values[-1]), 0.0)


def _sums(values: NDArray[np.float64], indptr: Int64) -> NDArray[np.float64]:
    """Return the sum of each row's values; rounding of the running sum does not matter to a bound."""
    running = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(running[indptr[1:]] - running[indptr[:-1]])
