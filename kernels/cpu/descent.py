"""What SGD and BPR share on the CPU: padded factors, and the concurrent groups of a phase."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shopsight.kernels.backend import resolve
from shopsight.kernels.cpu.basis import padded
from shopsight.kernels.reference.passes import NUM_GROUPS
from shopsight.kernels.rows import Factors


class FlatFactors:
    """A float32 copy of factors, padded for the vector code; 16-bit types are rounded after every pass."""

    def __init__(self, factors: Factors) -> None:
        self.num_rows, self._num_factors = factors.shape
        self._dtype = factors.dtype
        self.size = padded(self._num_factors)
        self.flat = np.zeros(self.num_rows * self.size, np.float32)
        self.flat.reshape(self.num_rows, self.size)[:, : self._num_factors] = factors

    def store(self) -> None:
        """Round the copy to the storage type."""
        if self._dtype != np.float32:
            self.flat[:] = self.flat.astype(self._dtype)

    def matrix(self) -> Factors:
        """Return the factors in the storage type, without the padding."""
        matrix = self.flat.reshape(self.num_rows, self.size)[:, : self._num_factors]
        return np.array(matrix, dtype=self._dtype, order="C")


def run_phases(task: Callable[[int, int], float]) -> float:
    """Return the sum of `task(group of users, group of items)` over all phases; groups run on all threads."""
    total = 0.0
    with ThreadPoolExecutor(resolve("cpu").num_threads) as pool:
        for phase in range(NUM_GROUPS):
            wanted = [(group + phase) % NUM_GROUPS for group in range(NUM_GROUPS)]
            total += sum(pool.map(task, range(NUM_GROUPS), wanted))
    return total
