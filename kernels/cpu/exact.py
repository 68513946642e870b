"""Exact solves of single rows in the eigenbasis of the Gramian: primal for long rows, dual for short.

In that basis the part of a row's system that all rows share is diagonal, D = unobserved_weight Λ + λ. A row
of k entries U (k by f) with weights a and targets b then has the system D + Uᵀ diag(a) U, and by Woodbury's
identity its solution is also D⁻¹Uᵀz with z = h (I + h U D⁻¹ Uᵀ h)⁻¹ (b / h), h = √a: a system of size k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from kernels.cpu.cholesky import factorize, solve
from kernels.cpu.vector import (
    FAST,
    HEIGHT,
    WIDTH,
    add_scaled,
    add_tile,
    dot,
    fetch_ahead,
    gather_row,
    set_product,
    set_scaled,
    transpose_8x8,
)

Array = np.ndarray[Any, Any]
_AHEAD = 6  # entries between asking for a row of factors and using it
_CHUNK_FLOATS = 4096  # entries gathered at a time: two such blocks fill a level-1 cache of 32 KiB


@njit(nogil=True, cache=True)
def dual_is_cheaper(num_entries: int, num_factors: int) -> bool:
    """Compare multiply-adds: k²f + k³/3 (sizes rounded up to tiles) against kf² + f³/3."""
    k = (num_entries + WIDTH - 1) // WIDTH * WIDTH
    f = num_factors
    return 3 * k * k * f + k * k * k + 6 * k * f < 3 * num_entries * f * f + f * f * f


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def solve_rows(
    begin: int,
    end: int,
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
    """Solve rows begin..end into `out` [rows, size]; `failed` marks those that float32 could not.

    `rotated` (flat, columns of `size`) and `spectrum` [size] are the factors and the shared diagonal, padded
    with zeros and ones to a multiple of the tile's width.
    """
    size = len(spectrum)
    chunk = max(HEIGHT, _CHUNK_FLOATS // size)
    system = np.empty(size * size, np.float32)
    block = np.empty((max(chunk, size) + WIDTH) * size, np.float32)
    scaled = np.empty((max(chunk, size) + WIDTH) * size, np.float32)
    diagonal, right = np.empty(size, np.float32), np.empty(size, np.float32)
    inverses = np.empty(HEIGHT * size, np.float32)
    inverse, held = np.empty(size, np.float32), np.float32(-1)
    smallest, largest = np.float32(0), np.float32(0)
    for row in range(begin, end):
        first, last = indptr[row], indptr[row + 1]
        entries, a, b = indices[first:last], weight[first:last], target[first:last]
        coming = indices[first + _AHEAD : last + _AHEAD]  # this row's and, near its end, the next one's
        x = out[row]
        if len(entries) == 0:
            x[:] = 0
            continue
        if regularization[row] != held:  # as a rule it is the same for many rows
            held = regularization[row]
            smallest, largest = np.float32(np.inf), np.float32(0)
            for i in range(size):
                diagonal[i] = spectrum[i] + held
                inverse[i] = np.float32(1) / diagonal[i]
                smallest, largest = min(smallest, diagonal[i]), max(largest, diagonal[i])
        lightest = a[0]
        for value in a:
            lightest = min(lightest, value)
        if lightest >= 0 and smallest > 1e-12 * largest and dual_is_cheaper(len(entries), size):
            fine = _solve_dual(entries, coming, a, b, rotated, inverse, x, system, block, scaled, inverses)
        else:
            fine = _solve_primal(
                entries,
                coming,
                a,
                b,
                rotated,
                diagonal,
                x,
                system,
                block,
                scaled,
                right,
                inverses,
                chunk,
            )
        failed[row] = not fine


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _solve_primal(
    entries: Array,
    coming: Array,
    a: Array,
    b: Array,
    rotated: Array,
    diagonal: Array,
    x: Array,
    system: Array,
    block: Array,
    scaled: Array,
    right: Array,
    inverses: Array,
    chunk: int,
) -> bool:
    size = len(diagonal)
    system[:] = 0
    right[:] = 0
    for first in range(0, len(entries), chunk):
        count = min(chunk, len(entries) - first)
        for p in range(count):
            y = entries[first + p] * size
            if first + p < len(coming):
                fetch_ahead(rotated, coming[first + p] * size, size)
            gather_row(
                a[first + p], b[first + p], rotated, y, block, p * size, scaled, p * size, right, 0, size
            )
        for i in range(0, size, HEIGHT):
            for j in range(i // WIDTH * WIDTH, size, WIDTH):
                at = i * size + j
                add_tile(scaled, i, size, block, j, size, system, at, size, count, np.float32(1))
    for i in range(size):
        system[i * size + i] += diagonal[i]
    if not factorize(system, size, size, inverses):
        return False
    solve(system, size, size, inverses, right, x)
    return True


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _solve_dual(
    entries: Array,
    coming: Array,
    a: Array,
    b: Array,
    rotated: Array,
    inverse: Array,
    x: Array,
    system: Array,
    block: Array,
    scaled: Array,
    inverses: Array,
) -> bool:
    """`scaled` holds hU (k by f), then D⁻¹ times its transpose; `block` the transpose (f by k)."""
    size, count = len(inverse), len(entries)
    width = (count + WIDTH - 1) // WIDTH * WIDTH
    right, answer = np.empty(width, np.float32), np.empty(width, np.float32)
    x[:] = 0
    num_weightless = 0
    for p in range(count):  # an entry of weight zero has z = b, and shifts the others' right-hand sides
        if a[p] == 0:
            num_weightless += 1
            add_scaled(b[p], rotated, entries[p] * size, x, 0, size)
    if num_weightless:
        set_product(x, 0, inverse, 0, x, 0, size)
    for p in range(count):
        h, y = np.sqrt(a[p]), entries[p] * size
        if p < len(coming):
            fetch_ahead(rotated, coming[p] * size, size)
        right[p] = b[p] / h if h > 0 else np.float32(0)
        if num_weightless and h > 0:
            right[p] -= h * dot(rotated, y, x, 0, size)
        set_scaled(h, rotated, y, scaled, p * size, size)
    right[count:] = 0
    scaled[count * size : width * size] = 0
    for p in range(0, width, 8):
        for i in range(0, size, 8):
            transpose_8x8(scaled, p * size + i, size, block, i * width + p, width)
    for i in range(size):
        set_scaled(inverse[i], block, i * width, scaled, i * width, width)
    system[: width * width] = 0
    for p in range(0, count, HEIGHT):
        for q in range(p // WIDTH * WIDTH, width, WIDTH):
            at = p * width + q
            add_tile(scaled, p, width, block, q, width, system, at, width, size, np.float32(1))
    for p in range(width):
        system[p * width + p] += np.float32(1)
    if not factorize(system, width, count, inverses):
        return False
    solve(system, width, count, inverses, right, answer)
    block[:size] = 0
    for p in range(count):
        if a[p] > 0:
            add_scaled(np.sqrt(a[p]) * answer[p], rotated, entries[p] * size, block, 0, size)
    set_product(block, 0, inverse, 0, block, 0, size)
    add_scaled(np.float32(1), block, 0, x, 0, size)
    return True
