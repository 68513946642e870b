"""Cholesky factorisation and triangular solves for systems of up to a few hundred unknowns.

Four rows are done at a time: the diagonal 4 by 4 block is factorised and inverted in registers, and all other
work is vector code that does not wait for square roots. For use inside compiled code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shopsight.kernels.cpu.vector import (
    FAST,
    HEIGHT,
    WIDTH,
    add_four_scaled,
    add_tile,
    dot,
    multiply_four_rows,
)

Array = np.ndarray[Any, Any]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def factorize(system: Array, size: int, inverses: Array) -> bool:
    """Replace a symmetric matrix A by its upper Cholesky factor U, UᵀU = A; False if A is not definite.

    `system` is flat float32, `size` rows of `size`, a multiple of WIDTH. Only the upper triangle is read; the
    lower one is overwritten. `inverses`, flat float32 of 4 · size, gets the inverse of the transposed
    diagonal block of every four rows. Definite means positive definite in float32.
    """
    for top in range(0, size, HEIGHT):
        begin = top // WIDTH * WIDTH
        for column in range(begin, size if top else 0, WIDTH):
            at = top * size + column
            add_tile(system, top, size, system, column, size, system, at, size, top, np.float32(-1))
        if not _invert_block(system, top * size + top, size, inverses, HEIGHT * top):
            return False
        multiply_four_rows(inverses, HEIGHT * top, system, top * size + begin, size, size - begin)
    return True


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def solve(upper: Array, size: int, inverses: Array, right: Array, answer: Array) -> None:
    """Write the solution of UᵀU·answer = right to `answer` [size]; `right` [size] is overwritten."""
    for top in range(0, size, HEIGHT):
        at, begin = HEIGHT * top, top // WIDTH * WIDTH
        r0, r1, r2, r3 = right[top], right[top + 1], right[top + 2], right[top + 3]
        w0 = inverses[at] * r0
        w1 = inverses[at + 4] * r0 + inverses[at + 5] * r1
        w2 = inverses[at + 8] * r0 + inverses[at + 9] * r1 + inverses[at + 10] * r2
        w3 = inverses[at + 12] * r0 + inverses[at + 13] * r1 + inverses[at + 14] * r2 + inverses[at + 15] * r3
        answer[top], answer[top + 1], answer[top + 2], answer[top + 3] = w0, w1, w2, w3
        add_four_scaled(-w0, -w1, -w2, -w3, upper, top * size + begin, size, right, begin, size - begin)
    right[:size] = 0
    for top in range(size - HEIGHT, -1, -HEIGHT):
        at, begin = HEIGHT * top, top // WIDTH * WIDTH
        row, count = top * size + begin, size - begin
        r0 = answer[top] - dot(upper, row, right, begin, count)
        r1 = answer[top + 1] - dot(upper, row + size, right, begin, count)
        r2 = answer[top + 2] - dot(upper, row + 2 * size, right, begin, count)
        r3 = answer[top + 3] - dot(upper, row + 3 * size, right, begin, count)
        right[top] = (
            inverses[at] * r0 + inverses[at + 4] * r1 + inverses[at + 8] * r2 + inverses[at + 12] * r3
        )
        right[top + 1] = inverses[at + 5] * r1 + inverses[at + 9] * r2 + inverses[at + 13] * r3
        right[top + 2] = inverses[at + 10] * r2 + inverses[at + 14] * r3
        right[top + 3] = inverses[at + 15] * r3
    answer[:size] = right[:size]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _invert_block(system: Array, at: int, size: int, inverses: Array, out: int) -> bool:
    """Write the inverse of the lower Cholesky factor of the 4 by 4 block at `at`; False if indefinite."""
    smallest = np.float32(1e-30)
    row1, row2 = at + size, at + 2 * size
    d0 = system[at]
    i0 = np.float32(1) / np.sqrt(d0)
    l10, l20, l30 = system[at + 1] * i0, system[at + 2] * i0, system[at + 3] * i0
    d1 = system[row1 + 1] - l10 * l10
    i1 = np.float32(1) / np.sqrt(d1)
    l21, l31 = (system[row1 + 2] - l10 * l20) * i1, (system[row1 + 3] - l10 * l30) * i1
    d2 = system[row2 + 2] - l20 * l20 - l21 * l21
    i2 = np.float32(1) / np.sqrt(d2)
    l32 = (system[row2 + 3] - l20 * l30 - l21 * l31) * i2
    d3 = system[at + 3 * size + 3] - l30 * l30 - l31 * l31 - l32 * l32
    if not (d0 > smallest and d1 > smallest and d2 > smallest and d3 > smallest):
        return False
    i3 = np.float32(1) / np.sqrt(d3)
    c10, c21, c32 = -l10 * i0 * i1, -l21 * i1 * i2, -l32 * i2 * i3
    c20, c31 = -(l20 * i0 + l21 * c10) * i2, -(l31 * i1 + l32 * c21) * i3
    inverses[out] = i0
    inverses[out + 4], inverses[out + 5] = c10, i1
    inverses[out + 8], inverses[out + 9], inverses[out + 10] = c20, c21, i2
    inverses[out + 12] = -(l30 * i0 + l31 * c10 + l32 * c20) * i3
    inverses[out + 13], inverses[out + 14], inverses[out + 15] = c31, c32, i3
    return True
