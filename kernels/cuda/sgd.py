"""Matrix factorisation of explicit ratings by stochastic gradient descent on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda import runtime
from shopsight.kernels.cuda.layout import Layout, to_device, to_host
from shopsight.kernels.cuda.runs import THREADS, Parts, draw_order, grid, load_runs
from shopsight.kernels.cuda.runtime import Kernel


class SgdTraining:
    """Implements `shopsight.kernels.sgd.train` on the device; a pass does not wait for the device.

    16-bit factors are rounded stochastically. Results are not bit-reproducible: groups of lanes that update
    one item at the same time overwrite each other.
    """

    def __init__(
        self,
        indptr: npt.NDArray[Any],
        items: npt.NDArray[Any],
        ratings: npt.NDArray[Any],
        user_factors: npt.NDArray[Any],
        item_factors: npt.NDArray[Any],
        user_bias: npt.NDArray[Any],
        item_bias: npt.NDArray[Any],
        mean: float,
    ) -> None:
        self._device = runtime.device()
        self._layout = Layout.of(user_factors)
        asarray = self._device.xp.asarray
        self._runs = load_runs(self._device, indptr)
        self._parts = Parts(self._device, self._layout, self._runs)
        self._entries = (asarray(items, dtype=np.int32), asarray(ratings, dtype=np.float32))
        self._factors = tuple(to_device(self._device, self._layout, x) for x in (user_factors, item_factors))
        self._biases = tuple(self._device.xp.array(b, dtype=np.float32) for b in (user_bias, item_bias))
        self._mean = np.float32(mean)
        self._errors = self._device.xp.zeros(len(self._runs), np.float32)

    def run_pass(
        self,
        rate: float,
        regularization: float,
        bias_rate: float,
        bias_regularization: float,
        seed: int,
        epoch: int,
    ) -> None:
        """Take one step for every rating; `seed` and `epoch` determine the order of the runs."""
        random = np.random.default_rng([seed, epoch])
        kernel = Kernel("sgd.cu", "sgd_pass", self._layout.defines)
        runs, order = self._runs, draw_order(len(self._runs), random)
        rates = tuple(np.float32(x) for x in (rate, regularization, bias_rate, bias_regularization))
        state = (*self._factors, *self._biases, runs.user, runs.begin, runs.count, runs.part)
        state += (self._parts.factors, self._parts.bias, *self._entries)
        rounding = np.uint64(random.integers(2**63))
        arguments = (*state, *order, self._mean, *rates, rounding, self._errors)
        self._device.launch(kernel, grid(self._layout, len(runs)), THREADS, 0, arguments)
        self._parts.merge(self._factors[0], self._biases[0], int(rounding))

    def squared_error(self) -> float:
        """Return the last pass's sum of squared errors, each taken before its step. Waits for the device."""
        return float(self._errors.astype(np.float64).sum())

    def result(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Return user factors, item factors, user bias and item bias. Waits for the device."""
        users, items = (to_host(self._device, self._layout, x) for x in self._factors)
        user_bias, item_bias = (b if self._device.xp is np else b.get() for b in self._biases)
        return users, items, user_bias, item_bias
