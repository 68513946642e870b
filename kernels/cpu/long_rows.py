"""Rows too long for one thread: their sums over entries are computed in parts on all threads.

A part has a fixed number of entries and the sums of the parts are added in a fixed order, so that the result
does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shopsight.kernels.cpu.exact import assemble, solve_assembled
from shopsight.kernels.cpu.schedule import run_balanced
from shopsight.kernels.cpu.vector import FAST, add_scaled, dot, fetch_ahead, set_product
from shopsight.kernels.reference.als import CG_TOLERANCE
from shopsight.kernels.rows import Float32, Int64, Rows

Array = np.ndarray[Any, Any]
PART = 32768  # entries
_AHEAD = 12  # entries between the prefetch of a row of factors and its use


class LongRows:
    """The rows `numbers` of one side, cut into parts once for all half steps."""

    def __init__(self, rows: Rows, numbers: Int64) -> None:
        self._rows, self._numbers = rows, numbers
        pieces = [
            (owner, first, min(first + PART, int(rows.indptr[row + 1])))
            for owner, row in enumerate(numbers)
            for first in range(int(rows.indptr[row]), int(rows.indptr[row + 1]), PART)
        ]
        self._parts = np.array(pieces, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._numbers)

    def solve(self, rotated: Float32, spectrum: Float32, out: Float32, failed: Array) -> None:
        """Solve the rows exactly; the arguments are those of `exact.solve_rows`."""
        size, parts = len(spectrum), self._parts
        systems = np.empty((len(parts), size * size), np.float32)
        rights = np.empty((len(parts), size), np.float32)
        data = self._rows[1:4]

        def task(begin: int, end: int) -> None:
            for part in range(begin, end):
                assemble(*parts[part, 1:], *data, rotated, size, systems[part], rights[part])

        def finish(begin: int, end: int) -> None:
            for owner in range(begin, end):
                row, own = self._numbers[owner], parts[:, 0] == owner
                system, right = _sum_in_order(systems[own]), _sum_in_order(rights[own])
                failed[row] = not solve_assembled(
                    system, right, spectrum, self._rows.regularization[row], out[row]
                )

        run_balanced(task, parts[:, 2] - parts[:, 1])
        run_balanced(finish, np.ones(len(self._numbers)))

    def improve(
        self, rotated: Float32, spectrum: Float32, num_steps: int, out: Float32, failed: Array
    ) -> None:
        """Take conjugate-gradient steps; the arguments are those of `cg.improve_rows`."""
        x, regularization = out[self._numbers], self._rows.regularization[self._numbers]
        diagonal = spectrum + regularization[:, None]
        residual, jacobi = self._sums(_start_part, rotated, x)
        residual -= diagonal * x
        jacobi += diagonal
        jacobi = np.where(jacobi > 0, 1 / jacobi, np.float32(1))
        unit = np.abs(residual).max(axis=1, keepdims=True)
        residual /= np.where(unit > 0, unit, np.float32(1))
        search = jacobi * residual
        slope = np.sum(residual * search, axis=1)
        least = np.float32(CG_TOLERANCE) * slope
        active = slope > least
        for _ in range(num_steps):
            product = self._sums(_multiply_part, rotated, search)[0] + diagonal * search
            curvature = np.sum(search * product, axis=1)
            failed[self._numbers[active & ~(curvature > 0)]] = True
            active &= curvature > 0
            step = np.divide(slope, curvature, out=np.zeros_like(slope), where=active)[:, None]
            x += unit * step * search
            residual -= step * product
            scaled = jacobi * residual
            before, slope = slope, np.sum(residual * scaled, axis=1)
            active &= slope > least
            search = (
                scaled + np.divide(slope, before, out=np.zeros_like(slope), where=active)[:, None] * search
            )
        out[self._numbers] = x

    def _sums(self, add_part: Any, rotated: Float32, x: Float32) -> tuple[Float32, Float32]:
        parts, size = self._parts, x.shape[1]
        sums = np.zeros((len(parts), 2, size), np.float32)

        def task(begin: int, end: int) -> None:
            for part in range(begin, end):
                owner, first, last = parts[part]
                add_part(first, last, *self._rows[1:4], rotated, x[owner], *sums[part])

        run_balanced(task, parts[:, 2] - parts[:, 1])
        added = np.zeros((2, *x.shape), np.float32)
        for (owner, _, _), part in zip(parts, sums, strict=True):
            added[:, owner] += part
        return added[0], added[1]


def _sum_in_order(parts: Float32) -> Float32:
    total: Float32 = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _start_part(
    first: int,
    last: int,
    indices: Array,
    weight: Array,
    target: Array,
    rotated: Array,
    x: Array,
    residual: Array,
    jacobi: Array,
) -> None:
    """Add Uᵀ(b - a Ux) and the diagonal of Uᵀ diag(a) U."""
    size = len(x)
    squares = np.empty(size, np.float32)
    for p in range(first, last):
        y = indices[p] * size
        if p + _AHEAD < last:
            fetch_ahead(rotated, indices[p + _AHEAD] * size, size)
        add_scaled(target[p] - weight[p] * dot(rotated, y, x, 0, size), rotated, y, residual, 0, size)
        set_product(rotated, y, rotated, y, squares, 0, size)
        add_scaled(weight[p], squares, 0, jacobi, 0, size)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _multiply_part(
    first: int,
    last: int,
    indices: Array,
    weight: Array,
    target: Array,  # noqa: ARG001 - the shape of `_start_part`
    rotated: Array,
    search: Array,
    product: Array,
    spare: Array,  # noqa: ARG001
) -> None:
    """Add Uᵀ diag(a) U search."""
    size = len(search)
    for p in range(first, last):
        y = indices[p] * size
        if p + _AHEAD < last:
            fetch_ahead(rotated, indices[p + _AHEAD] * size, size)
        add_scaled(weight[p] * dot(rotated, y, search, 0, size), rotated, y, product, 0, size)
