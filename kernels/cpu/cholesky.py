"""A Cholesky factor and its solves for systems of a few hundred unknowns, inside compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from kernels.cpu.vector import FAST, HEIGHT, WIDTH, add_scaled, add_tile, dot, set_scaled

Array = np.ndarray[Any, Any]


@njit(nogil=True, cache=True, fastmath=FAST)
def factorize(system: Array, size: int, num_rows: int, inverse_diagonal: Array) -> bool:
    """Replace a symmetric matrix by its upper factor U, UᵀU = A, and keep 1 / diag(U) beside.

    `system` is flat float32, `size` rows of `size`, a multiple of WIDTH; only the upper triangle is read,
    what lies below becomes zero. Rows from `num_rows` on are those of the unit matrix, and are left alone.
    Returns False where A is not positive definite in float32.
    """
    for top in range(0, num_rows, HEIGHT):
        begin = top // WIDTH * WIDTH
        for column in range(begin, size, WIDTH):
            at = top * size + column
            add_tile(system, top, size, system, column, size, system, at, size, top, np.float32(-1))
        for row in range(top, top + HEIGHT):
            at = row * size + begin
            for above in range(top, row):
                factor = system[above * size + row]
                add_scaled(-factor, system, above * size + begin, system, at, size - begin)
            pivot = system[row * size + row]
            if not pivot > np.float32(1e-30):
                return False
            inverse = np.float32(1) / np.sqrt(pivot)
            inverse_diagonal[row] = inverse
            set_scaled(inverse, system, at, system, at, size - begin)
            for column in range(begin, row):
                system[row * size + column] = np.float32(0)
    return True


@njit(nogil=True, cache=True, fastmath=FAST)
def solve(
    upper: Array, size: int, num_rows: int, inverse_diagonal: Array, right: Array, answer: Array
) -> None:
    """Write the first `num_rows` of the solution of UᵀU·answer = right; `right` is used up."""
    for i in range(num_rows):
        value = right[i] * inverse_diagonal[i]
        answer[i] = value
        begin = i // WIDTH * WIDTH
        add_scaled(-value, upper, i * size + begin, right, begin, size - begin)
    right[:size] = 0
    for i in range(num_rows - 1, -1, -1):
        begin = i // WIDTH * WIDTH
        total = dot(upper, i * size + begin, right, begin, size - begin)
        right[i] = (answer[i] - total) * inverse_diagonal[i]
    answer[:num_rows] = right[:num_rows]
