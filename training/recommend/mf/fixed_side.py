"""The fixed side of a fitted factorisation: fold in rows of the other side, and explain scores."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shopsight.kernels.backend import resolve
from shopsight.kernels.fold_in import FoldIn
from shopsight.kernels.rows import Factors, Float32, Int32
from shopsight.training.artifacts.factor_store import InMemory, gramian_of
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.half_steps import (
    BlockedSide,
    Fixed,
    extended,
    normal_equations,
    observations,
    separated,
)
from shopsight.training.recommend.mf.memory import plan_memory


class FixedSide:
    """Factors of one side, with their Gramian and a copy on the device, for repeated fold-in.

    The first fold-in copies the factors to the device, where they stay; if they do not fit, each fold-in runs
    by blocks.
    """

    def __init__(self, factors: Factors, bias: Float32, mean: float, config: MFConfig) -> None:
        self._factors, self._bias, self._mean, self._config = factors, bias, mean, config

    def fold_in(self, matrix: sparse.csr_matrix) -> tuple[Factors, Float32]:
        """Return factors and bias of the rows of `matrix` (canonical), by an exact half step."""
        config = self._config
        if matrix.shape[1] != len(self._factors):
            raise ValueError(f"{matrix.shape[1]} columns must be the {len(self._factors)} that were fitted")
        plan = plan_memory(matrix.shape, matrix.nnz, config, resolve(config.backend))
        if plan.home == "device":
            return separated(self._session.solve(observations(matrix, config, self._fixed)), config)
        solved = InMemory(np.empty((matrix.shape[0], self._factors.shape[1]), self._factors.dtype))
        bias = BlockedSide(matrix, config, plan.room_bytes, "user").solve(self._fixed, solved)
        return solved.array(), bias

    def explain(self, row: sparse.csr_matrix, item: int) -> tuple[Int32, NDArray[np.float64]]:
        """Return the items of a single row, and the contribution of each to the row's score of `item`."""
        config = self._config
        rows = observations(row, config, self._fixed)
        system, _ = normal_equations(rows, self._fixed, config)
        scored = extended(self._factors[item : item + 1], config)[0].astype(np.float64)
        seen = extended(self._factors[rows.indices], config).astype(np.float64)
        return rows.indices, rows.target * (seen @ np.linalg.solve(system, scored))

    @cached_property
    def _fixed(self) -> Fixed:
        items = InMemory(self._factors)
        gramian = gramian_of(items) if self._config.missing_weight else None
        return Fixed(items, self._bias, self._mean, gramian)

    @cached_property
    def _session(self) -> FoldIn:
        config = self._config
        return FoldIn(
            np.ascontiguousarray(extended(self._factors, config)),
            config.missing_weight,
            gramian=self._fixed.gramian,
            backend=config.backend,
        )
