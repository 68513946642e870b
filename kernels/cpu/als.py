"""Alternating least squares on the CPU."""

from __future__ import annotations

import numpy as np

from shopsight.kernels.cpu.basis import (
    Float64,
    eigenbasis,
    gramian_of,
    multiply,
    padded,
    rotate_to_eigenbasis,
)
from shopsight.kernels.cpu.side import Side
from shopsight.kernels.rows import Factors, Float32, Rows


def half_step(
    rows: Rows,
    factors: Factors,
    unobserved_weight: float,
    solver: str,
    num_cg_steps: int,
    initial: Factors | None,
    gramian: Float64 | None = None,
) -> Factors:
    """Implement `shopsight.kernels.als.half_step`."""
    rotated, basis, spectrum = rotate_to_eigenbasis(factors, unobserved_weight, gramian)
    if initial is None:
        x = np.zeros((rows.num_rows, len(spectrum)), np.float32)
    else:
        x = multiply(initial.astype(np.float32, copy=False), basis)
    Side(rows, factors.shape[1], solver).solve(rotated, spectrum, num_cg_steps, x)
    return multiply(x, basis.T).astype(factors.dtype, copy=False)


class AlsTraining:
    """Implements `shopsight.kernels.als.Alternation`: both sides over many epochs.

    Scores do not change when both factor matrices are rotated alike. Each half step therefore rotates the
    fixed side into the eigenbasis of its Gramian and solves the other side there; `result` rotates both back.
    """

    def __init__(
        self,
        user_rows: Rows,
        item_rows: Rows,
        user_factors: Factors,
        item_factors: Factors,
        unobserved_weight: float,
        solver: str,
        num_cg_steps: int,
    ) -> None:
        num_factors = user_factors.shape[1]
        self._unobserved_weight, self._solver, self._num_steps = unobserved_weight, solver, num_cg_steps
        self._sides = [Side(rows, num_factors, solver) for rows in (user_rows, item_rows)]
        self._dtype = user_factors.dtype
        self._start_from(user_factors, item_factors)

    def _start_from(self, user_factors: Factors, item_factors: Factors) -> None:
        num_factors = user_factors.shape[1]
        padding = ((0, 0), (0, padded(num_factors) - num_factors))
        self._factors: list[Factors] = [np.pad(x, padding) for x in (user_factors, item_factors)]
        self._rotation = np.eye(num_factors)
        self._gramian = self._gramian_of(1)

    def run_epoch(self) -> None:
        """Solve the users against the items, then the items against the users."""
        num_factors = len(self._rotation)
        for solved, fixed in ((0, 1), (1, 0)):
            basis, spectrum = eigenbasis(self._gramian, self._unobserved_weight, num_factors)
            self._rotation = self._rotation @ basis[:, :num_factors].astype(np.float64)
            y = self._rotate(fixed, basis)
            x = self._rotate(solved, basis) if self._solver == "cg" else self._as_float32(solved)
            self._factors[fixed] = y.astype(self._dtype, copy=False)
            self._sides[solved].solve(y, spectrum, self._num_steps, x)
            self._factors[solved] = x.astype(self._dtype, copy=False)
            self._gramian = self._gramian_of(solved)
            if not np.isfinite(self._gramian.trace()):
                raise FloatingPointError(f"{('user', 'item')[solved]} factors are not finite when squared")

    def result(self) -> tuple[Factors, Factors]:
        """Return user and item factors in the basis in which they were given."""
        num_factors = len(self._rotation)
        back = self._rotation.T.astype(np.float32)
        users, items = (
            multiply(x[:, :num_factors].astype(np.float32, copy=False), back).astype(self._dtype, copy=False)
            for x in self._factors
        )
        return users, items

    def go_on_from_result(self) -> None:
        """Replace the factors by those that `result` returns, as a new training would begin with them."""
        self._start_from(*self.result())

    def _rotate(self, side: int, basis: Float32) -> Float32:
        """Return the padded factors times `basis`, whose rows have no padding."""
        x = self._as_float32(side)
        return multiply(x[:, : len(basis)], basis) if self._unobserved_weight else x

    def _as_float32(self, side: int) -> Float32:
        return self._factors[side].astype(np.float32, copy=False)

    def _gramian_of(self, side: int) -> Float64:
        return gramian_of(self._as_float32(side)[:, : len(self._rotation)])
