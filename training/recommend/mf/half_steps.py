"""One side of a factorisation solved given the other: all rows at once, or by blocks of rows.

With explicit ratings the bias of a row is solved as one more factor, whose counterpart on the other side is
1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shopsight.kernels.als import half_step
from shopsight.kernels.blocks import cut_rows
from shopsight.kernels.rows import Factors, Float32, Int32, Rows
from shopsight.training.artifacts.factor_store import FactorStore
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.memory import BlockCosts, readable
from shopsight.training.recommend.mf.objective import rows_of


@dataclass(frozen=True)
class Fixed:
    """The side held fixed: factors [columns, f], bias float32 [columns], mean rating; gramian if known."""

    factors: FactorStore
    bias: Float32
    mean: float
    gramian: NDArray[np.float64] | None = None


def observations(matrix: sparse.csr_matrix, config: MFConfig, fixed: Fixed) -> Rows:
    """Return the kernels' rows of `matrix` [rows, columns]; ratings less their mean and the columns' bias."""
    if config.objective != "explicit":
        return rows_of(matrix, config)
    centred = matrix.data - np.float32(fixed.mean)
    ratings = sparse.csr_matrix((centred, matrix.indices, matrix.indptr), shape=matrix.shape)
    return rows_of(ratings, config, fixed.bias)


def extended(factors: Factors, config: MFConfig, bias: Float32 | None = None) -> Factors:
    """Return factors with the bias, or its counterpart 1, as one more factor if ratings are explicit."""
    if config.objective != "explicit":
        return factors
    last = np.ones((len(factors), 1), factors.dtype) if bias is None else bias[:, None].astype(factors.dtype)
    return np.hstack([factors, last])


def separated(solved: Factors, config: MFConfig) -> tuple[Factors, Float32]:
    """Return factors and bias of rows that were solved with `extended` factors."""
    if config.objective != "explicit":
        return solved, np.zeros(len(solved), np.float32)
    return np.ascontiguousarray(solved[:, :-1]), solved[:, -1].astype(np.float32)


def solve_at_once(
    matrix: sparse.csr_matrix,
    fixed: Fixed,
    config: MFConfig,
    initial: tuple[Factors, Float32] | None = None,
) -> tuple[Factors, Float32]:
    """Return factors and bias of every row; exact, unless `initial` is given for `config.solver`."""
    if config.solver == "exact":
        initial = None
    solved = half_step(
        observations(matrix, config, fixed),
        extended(fixed.factors.array(), config),
        config.missing_weight,
        solver="exact" if initial is None else config.solver,
        num_cg_steps=config.num_cg_steps,
        initial=None if initial is None else extended(initial[0], config, initial[1]),
        gramian=fixed.gramian,
        backend=config.backend,
    )
    return separated(solved, config)


class BlockedSide:
    """One side's interactions, cut into blocks of neighbouring rows that fit `room_bytes`.

    For each block the factors of its distinct columns are gathered, so that the device solves a small
    problem; the Gramian of all columns is passed with it. For a row too wide for a block the normal equations
    are summed over pieces, in host memory.
    """

    def __init__(self, matrix: sparse.csr_matrix, config: MFConfig, room_bytes: int, name: str) -> None:
        self._matrix, self._config, self._name = matrix, config, name
        self._costs, self._room_bytes = BlockCosts.of(config), room_bytes
        self._edges = cut_rows(
            matrix.indptr.astype(np.int64, copy=False),
            matrix.indices.astype(np.int32, copy=False),
            matrix.shape[1],
            row_bytes=self._costs.row_bytes,
            entry_bytes=self._costs.entry_bytes,
            column_bytes=self._costs.column_bytes,
            room_bytes=room_bytes,
        )

    @property
    def num_blocks(self) -> int:
        """The number of blocks."""
        return len(self._edges) - 1

    def solve(
        self, fixed: Fixed, solved: FactorStore, initial: tuple[FactorStore, Float32] | None = None
    ) -> Float32:
        """Write the factors of every row to `solved`; returns their bias. Exact without `initial`.

        Raises ValueError or ArithmeticError naming the block, and MemoryError naming a row that does not fit.
        """
        bias = np.zeros(self._matrix.shape[0], np.float32)
        for begin, end in pairwise(self._edges.tolist()):
            start = None
            if initial is not None and self._config.solver != "exact":
                start = initial[0].read(begin, end), initial[1][begin:end]
            try:
                factors, bias[begin:end] = self._solve_block(begin, end, fixed, start)
            except (ValueError, ArithmeticError) as error:
                words = f"{self._name}s {begin} to {end - 1}, where row 0 is {self._name} {begin}: {error}"
                raise type(error)(words) from None
            solved.write(begin, factors)
        return bias

    def _solve_block(
        self, begin: int, end: int, fixed: Fixed, start: tuple[Factors, Float32] | None
    ) -> tuple[Factors, Float32]:
        config, part = self._config, self._matrix[begin:end]
        if end == begin + 1 and self._costs.need(1, part.nnz, part.nnz) > self._room_bytes:
            return self._solve_wide(begin, part, fixed)
        columns, local = compact(part.indices, part.shape[1])
        solved = half_step(
            observations(part, config, fixed)._replace(indices=local),
            np.ascontiguousarray(extended(fixed.factors.take(columns), config)),
            config.missing_weight,
            solver="exact" if start is None else config.solver,
            num_cg_steps=config.num_cg_steps,
            initial=None if start is None else extended(start[0], config, start[1]),
            gramian=fixed.gramian,
            backend=config.backend,
        )
        return separated(solved, config)

    def _solve_wide(self, row: int, part: sparse.csr_matrix, fixed: Fixed) -> tuple[Factors, Float32]:
        if self._costs.need(1, part.nnz, 0) > self._room_bytes:
            raise MemoryError(
                f"{self._name} {row} has {part.nnz} interactions, which do not fit the "
                f"{readable(self._room_bytes)} of a block; raise memory_limit_gib, or drop this {self._name}"
            )
        rows = observations(part, self._config, fixed)
        width = self._room_bytes - self._costs.need(1, part.nnz, 0)
        step = max(64, min(2**16, width // self._costs.column_bytes))
        system, right = normal_equations(rows, fixed, self._config, step)
        np.linalg.cholesky(system)  # raises where the system is not positive definite
        solved = np.linalg.solve(system, right)[None].astype(fixed.factors.dtype)
        return separated(solved, self._config)


def normal_equations(
    row: Rows, fixed: Fixed, config: MFConfig, step: int = 2**14
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the system [f, f] and right side [f] of a row, float64, summed over pieces of `step` entries."""
    num_factors = fixed.factors.shape[1] + (config.objective == "explicit")
    system, right = np.zeros((num_factors, num_factors)), np.zeros(num_factors)
    if fixed.gramian is not None:
        system += config.missing_weight * fixed.gramian
    system[np.diag_indices_from(system)] += float(row.regularization[0])
    for begin in range(0, len(row.indices), step):
        piece = slice(begin, begin + step)
        y = extended(fixed.factors.take(row.indices[piece].astype(np.int64)), config).astype(np.float32)
        system += (y.T * row.weight[piece]) @ y
        right += row.target[piece] @ y
    return system, right


def compact(indices: Int32, num_columns: int) -> tuple[NDArray[np.int64], Int32]:
    """Return the distinct columns, ascending, and for each index its position among them."""
    present = np.zeros(num_columns, np.bool_)
    present[indices] = True
    columns = np.flatnonzero(present)
    position = np.empty(num_columns, np.int32)
    position[columns] = np.arange(len(columns), dtype=np.int32)
    return columns, position[indices]
