"""Factors kept on the GPU for folding in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.cuda import als, runtime
from shopsight.kernels.cuda.basis import eigenbasis
from shopsight.kernels.cuda.layout import Layout, to_device, to_host
from shopsight.kernels.cuda.plan import load_interactions
from shopsight.kernels.rows import Factors, Rows


class KeptFactors:
    """The contract is `kernels.fold_in.FoldIn`; the host has `factors` for rows that float32 cannot solve."""

    def __init__(
        self, factors: Factors, unobserved_weight: float, gramian: NDArray[np.float64] | None
    ) -> None:
        self._device, self._layout = runtime.device(), Layout.of(factors)
        self._host, self._unobserved_weight = factors, unobserved_weight
        y = to_device(self._device, self._layout, factors)
        self._basis = eigenbasis(self._device, self._layout, y, unobserved_weight, gramian)
        self._turned = als.turn(self._device, self._layout, y, self._basis)

    def solve(self, rows: Rows) -> Factors:
        """The rows' factors, turned back; only the rows go to the device and only the answer comes back."""
        device, layout = self._device, self._layout
        side = load_interactions(device, layout, rows, use_cg=False)
        x = device.xp.zeros((side.num_rows, layout.stored), layout.dtype)
        failed = device.xp.zeros(side.num_rows, np.int8)
        als.solve_rows(device, layout, side, self._turned, self._basis, x, failed, 0)
        solved = to_host(device, layout, als.turn_back(device, layout, x, self._basis))
        for row in np.flatnonzero(failed if device.xp is np else failed.get()):
            solved[row] = als.solve_carefully(rows, int(row), self._host, self._unobserved_weight)
        return solved
