"""Factors kept for folding in on the CPU: already turned into the eigenbasis, which is all that rows need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.als import eigenbasis, multiply, solve_side
from kernels.rows import Factors, Rows


class KeptFactors:
    """The contract is `kernels.fold_in.FoldIn`."""

    def __init__(
        self, factors: Factors, unobserved_weight: float, gramian: NDArray[np.float64] | None
    ) -> None:
        self._dtype = factors.dtype
        y = factors.astype(np.float32, copy=False)
        self._basis, self._spectrum = eigenbasis(y, unobserved_weight, gramian)
        self._rotated = multiply(y, self._basis)

    def solve(self, rows: Rows) -> Factors:
        """The rows' factors, turned back."""
        solved = solve_side(rows, self._rotated, self._spectrum, "exact", 0, None)
        return multiply(solved, self._basis.T).astype(self._dtype, copy=False)
