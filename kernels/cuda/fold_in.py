"""Fold-in on the GPU against factors that are kept in the eigenbasis of their Gramian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.cuda import als, runtime
from shopsight.kernels.cuda.basis import eigenbasis
from shopsight.kernels.cuda.layout import Layout, to_device, to_host
from shopsight.kernels.cuda.plan import load_interactions
from shopsight.kernels.rows import Factors, Rows


class KeptFactors:
    """Implements `kernels.fold_in.FoldIn`."""

    def __init__(
        self, factors: Factors, unobserved_weight: float, gramian: NDArray[np.float64] | None
    ) -> None:
        self._device, self._layout = runtime.device(), Layout.of(factors)
        y = to_device(self._device, self._layout, factors)
        self._basis = eigenbasis(self._device, self._layout, y, unobserved_weight, gramian)
        self._rotated = als.rotate_in_place(self._device, self._layout, y, self._basis)

    def solve(self, rows: Rows) -> Factors:
        """Return the rows' factors [rows, f], rotated back; only the rows and the factors are copied."""
        device, layout = self._device, self._layout
        side = load_interactions(device, layout, rows, use_cg=False)
        x = device.xp.zeros((side.num_rows, layout.stored), layout.dtype)
        failed = device.xp.zeros(side.num_rows, np.int8)
        als.solve_rows(device, layout, side, self._rotated, self._basis, x, failed, 0)
        solved = to_host(device, layout, als.rotate_back(device, layout, x, self._basis))
        als.refuse_failed(rows, failed if device.xp is np else failed.get())
        return solved
