"""Fold-in on the CPU against factors that are kept in the eigenbasis of their Gramian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.cpu.basis import multiply, rotate_to_eigenbasis
from shopsight.kernels.cpu.side import Side
from shopsight.kernels.rows import Factors, Rows


class KeptFactors:
    """Implements `shopsight.kernels.fold_in.FoldIn`."""

    def __init__(
        self, factors: Factors, unobserved_weight: float, gramian: NDArray[np.float64] | None
    ) -> None:
        self._dtype = factors.dtype
        self._rotated, self._basis, self._spectrum = rotate_to_eigenbasis(factors, unobserved_weight, gramian)

    def solve(self, rows: Rows) -> Factors:
        """Return the rows' factors [rows, f], rotated back."""
        x = np.empty((rows.num_rows, len(self._spectrum)), np.float32)
        Side(rows, len(self._basis), "exact").solve(self._rotated, self._spectrum, 0, x)
        return multiply(x, self._basis.T).astype(self._dtype, copy=False)
