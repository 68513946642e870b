"""Preconditioned conjugate gradients on single rows, in the eigenbasis of the Gramian.

There the part of the system that all rows share is diagonal, so that a step needs no product with the
Gramian, and the preconditioner (the diagonal of the row's system) contains that part exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shopsight.kernels.cpu.vector import FAST, add_scaled, dot, fetch_ahead, set_product, set_scaled
from shopsight.kernels.reference.als import CG_TOLERANCE

Array = np.ndarray[Any, Any]
_AHEAD = 6
_MAX_GATHERED = 1024  # longer rows do not fit the level-2 cache and are read in place


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def improve_rows(
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
    num_steps: int,
    out: Array,
    failed: Array,
) -> None:
    """Take `num_steps` steps for rows order[begin:end], starting from and writing to `out` [rows, size].

    The other arguments are those of `exact.solve_rows`. Entries of weight zero are part of the right-hand
    side alone and are not read again. `failed` marks rows whose system has a direction of negative curvature.
    """
    size = len(spectrum)
    block = np.empty(_MAX_GATHERED * size, np.float32)
    residual, scaled, search = (
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
    )
    product, diagonal, jacobi = (
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
    )
    longest = 0
    for number in range(begin, end):
        longest = max(longest, indptr[order[number] + 1] - indptr[order[number]])
    places, a = np.empty(longest, np.int64), np.empty(longest, np.float32)
    for number in range(begin, end):
        row = order[number]
        x = out[row]
        gathered = indptr[row + 1] - indptr[row] <= _MAX_GATHERED
        source = block if gathered else rotated
        residual[:] = 0
        for i in range(size):
            diagonal[i] = spectrum[i] + regularization[row]
            jacobi[i] = diagonal[i]
        count = 0
        for p in range(indptr[row], indptr[row + 1]):
            y = indices[p] * size
            if p + _AHEAD < len(indices):
                fetch_ahead(rotated, indices[p + _AHEAD] * size, size)
            if weight[p] == 0:
                add_scaled(target[p], rotated, y, residual, 0, size)
                continue
            u = count * size if gathered else y
            if gathered:
                set_scaled(np.float32(1), rotated, y, block, u, size)
            places[count], a[count] = u, weight[p]
            count += 1
            add_scaled(target[p] - weight[p] * dot(source, u, x, 0, size), source, u, residual, 0, size)
            set_product(source, u, source, u, scaled, 0, size)
            add_scaled(weight[p], scaled, 0, jacobi, 0, size)
        for i in range(size):
            residual[i] -= diagonal[i] * x[i]
            jacobi[i] = np.float32(1) / jacobi[i] if jacobi[i] > 0 else np.float32(1)
        # Divided by the largest residual, no square overflows or underflows, at any scale of the targets.
        unit = np.float32(0)
        for i in range(size):
            unit = max(unit, abs(residual[i]))
        if unit > 0:
            for i in range(size):
                residual[i] /= unit
        set_product(jacobi, 0, residual, 0, search, 0, size)
        slope = dot(residual, 0, search, 0, size)
        least = np.float32(CG_TOLERANCE) * slope
        for _ in range(num_steps):
            if slope <= least:
                break
            set_product(diagonal, 0, search, 0, product, 0, size)
            for p in range(count):
                u = places[p]
                if not gathered and p + _AHEAD < count:
                    fetch_ahead(rotated, places[p + _AHEAD], size)
                add_scaled(a[p] * dot(source, u, search, 0, size), source, u, product, 0, size)
            curvature = dot(search, 0, product, 0, size)
            if not curvature > 0:
                failed[row] = True
                break
            step = slope / curvature
            add_scaled(unit * step, search, 0, x, 0, size)
            add_scaled(-step, product, 0, residual, 0, size)
            set_product(jacobi, 0, residual, 0, scaled, 0, size)
            before, slope = slope, dot(residual, 0, scaled, 0, size)
            set_scaled(slope / before, search, 0, search, 0, size)
            add_scaled(np.float32(1), scaled, 0, search, 0, size)
