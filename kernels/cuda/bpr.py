"""Bayesian personalised ranking on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda import runtime
from shopsight.kernels.cuda.layout import Layout, to_device, to_host
from shopsight.kernels.cuda.runs import THREADS, Parts, draw_order, grid, load_runs
from shopsight.kernels.cuda.runtime import Kernel


class BprTraining:
    """Implements `shopsight.kernels.bpr.train` on the device; a pass does not wait for the device.

    16-bit factors are rounded stochastically. Results are not bit-reproducible: groups of lanes that update
    one item at the same time overwrite each other.
    """

    def __init__(
        self,
        indptr: npt.NDArray[Any],
        items: npt.NDArray[Any],
        user_factors: npt.NDArray[Any],
        item_factors: npt.NDArray[Any],
    ) -> None:
        self._device = runtime.device()
        self._layout = Layout.of(user_factors)
        asarray = self._device.xp.asarray
        self._runs = load_runs(self._device, indptr)
        self._parts = Parts(self._device, self._layout, self._runs)
        self._indptr = asarray(indptr, dtype=np.int64)
        self._items = asarray(items, dtype=np.int32)
        self._factors = tuple(to_device(self._device, self._layout, x) for x in (user_factors, item_factors))
        self._num_entries = len(items)
        self._correct = self._device.xp.zeros(len(self._runs), np.int32)

    def run_pass(self, rate: float, regularization: float, seed: int, epoch: int) -> None:
        """Take one step for every interaction; negatives depend on `seed`, `epoch` and its position alone."""
        kernel = Kernel("bpr.cu", "bpr_pass", self._layout.defines)
        runs, order = self._runs, draw_order(len(self._runs), np.random.default_rng([seed, epoch]))
        data = (*self._factors, self._indptr, runs.user, runs.begin, runs.count, runs.part)
        data += (self._parts.factors, self._items)
        rates = (np.float32(rate), np.float32(regularization))
        draws = (np.uint64(seed), np.uint64(epoch * self._num_entries))
        arguments = (*data, np.int32(len(self._factors[1])), *order, *rates, *draws, self._correct)
        self._device.launch(kernel, grid(self._layout, len(runs)), THREADS, 0, arguments)
        self._parts.merge(self._factors[0], None, seed + epoch)

    def num_correct(self) -> int:
        """Return how many interactions scored above their negative in the last pass. Waits for the device."""
        return int(self._correct.sum())

    def result(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return user factors and item factors. Waits for the device."""
        users, items = (to_host(self._device, self._layout, x) for x in self._factors)
        return users, items
