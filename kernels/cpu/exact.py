"""Exact solves of single rows in the eigenbasis of the Gramian: the primal, for rows longer than wide.

In that basis the part of a row's system that all rows share is diagonal, D = unobserved_weight Λ + λ. A row
of k entries U (k by f) with weights a and targets b has the system D + Uᵀ diag(a) U, assembled here in tiles
as in a GEMM, and the right-hand side Uᵀb. Rows with fewer entries are solved by lockstep.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shopsight.kernels.cpu.cholesky import factorize, solve
from shopsight.kernels.cpu.vector import FAST, HEIGHT, WIDTH, add_scaled, add_tile, fetch_ahead, gather_row

Array = np.ndarray[Any, Any]
_AHEAD = 6  # entries between the prefetch of a row of factors and its use
_CHUNK_FLOATS = 4096  # gathered at a time: two such blocks fill a level-1 cache of 32 KiB


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def solve_rows(
    begin: int,
    end: int,
    order: Array,
    indptr: Array,
    indices: Array,
    weight: Array,
    target: Array,
    regularization: Array,
    rotated: Array,
    spectrum: Array,
    out: Array,
    failed: Array,
) -> None:
    """Solve rows order[begin:end] into `out` [rows, size]; `failed` marks systems not definite in float32.

    `rotated` (flat, columns of `size`) and `spectrum` [size] are the factors and the shared diagonal, padded
    with zeros and ones to a multiple of the tile's width.
    """
    size = len(spectrum)
    system, right = np.empty(size * size, np.float32), np.empty(size, np.float32)
    for number in range(begin, end):
        row = order[number]
        assemble(indptr[row], indptr[row + 1], indices, weight, target, rotated, size, system, right)
        failed[row] = not solve_assembled(system, right, spectrum, regularization[row], out[row])


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def solve_assembled(system: Array, right: Array, spectrum: Array, regularization: float, x: Array) -> bool:
    """Add the shared diagonal and write the solution to `x`; False if indefinite. Overwrites its operands."""
    size = len(spectrum)
    inverses = np.empty(HEIGHT * size, np.float32)
    for i in range(size):
        system[i * size + i] += spectrum[i] + regularization
    if not factorize(system, size, inverses):
        return False
    solve(system, size, inverses, right, x)
    return True


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def assemble(
    first: int,
    last: int,
    indices: Array,
    weight: Array,
    target: Array,
    rotated: Array,
    size: int,
    system: Array,
    right: Array,
) -> None:
    """Write Uᵀ diag(a) U of entries first..last (its upper triangle of tiles) and Uᵀb."""
    chunk = max(HEIGHT, _CHUNK_FLOATS // size)
    block, scaled = np.empty(chunk * size, np.float32), np.empty(chunk * size, np.float32)
    system[:] = 0
    right[:] = 0
    count = 0
    for p in range(first, last):
        if p + _AHEAD < len(indices):
            fetch_ahead(rotated, indices[p + _AHEAD] * size, size)
        y, at = indices[p] * size, count * size
        if weight[p] == 0:
            add_scaled(target[p], rotated, y, right, 0, size)
            continue
        gather_row(weight[p], target[p], rotated, y, block, at, scaled, at, right, 0, size)
        count += 1
        if count == chunk:
            _add_chunk(scaled, block, count, size, system)
            count = 0
    if count:
        _add_chunk(scaled, block, count, size, system)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _add_chunk(scaled: Array, block: Array, count: int, size: int, system: Array) -> None:
    for i in range(0, size, HEIGHT):
        for j in range(i // WIDTH * WIDTH, size, WIDTH):
            at = i * size + j
            add_tile(scaled, i, size, block, j, size, system, at, size, count, np.float32(1))
