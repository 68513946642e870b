"""Exact solves of short rows, eight at a time in lockstep, in the eigenbasis of the Gramian.

There the part of a row's system that all rows share is diagonal, D = unobserved_weight Λ + λ. A row of k
entries U (k by f) with weights a and targets b has the system D + Uᵀ diag(a) U; by Woodbury's identity its
solution is also D^-½ Bᵀ (I + B Bᵀ)⁻¹ r, with B = diag(√a) U D^-½ and r = b / √a: a system of size k.

Entries of weight zero take no part in that system: their sum g = Σ b y shifts r by -B D^-½ g and is added
before the last D^-½. Both enter as one more row below B, so that the last row of the Cholesky factor is the
forward substitution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from kernels.cpu.lanes import (
    LANES,
    SIDE,
    add_products,
    eliminate_block,
    factorize_block,
    fetch_lanes,
    gather_lanes,
    substitute_block,
)
from kernels.cpu.vector import FAST, WIDTH, add_rows, set_product

Array = np.ndarray[Any, Any]
_LEAST_PIVOT = np.float32(0.25)  # I + B Bᵀ has none below one: float32 has lost what falls far short of it
_NO_PIVOT = np.float32(1e30)  # of the row that is no row: its own pivot is never used


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def solve_lockstep(
    begin: int,
    end: int,
    order: Array,
    most: int,
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
    """Solve rows order[begin:end] into `out`; at most `most` entries of a row have weight, none below zero.

    `begin` is a multiple of LANES; the rest as `exact.solve_rows`.
    """
    size, room = len(spectrum), (most + SIDE) // SIDE * SIDE
    longest = 0
    for number in range(begin, end):
        longest = max(longest, indptr[order[number] + 1] - indptr[order[number]])
    light, light_target = np.empty(longest, np.int64), np.empty(longest, np.float32)
    system, inverses = np.empty(room * room * LANES, np.float32), np.empty(room * 2 * LANES, np.float32)
    block, least = np.empty(room * WIDTH * LANES, np.float32), np.empty(LANES, np.float32)
    total, own, minus = (
        np.empty(LANES * size, np.float32),
        np.arange(LANES) * size,
        np.full(LANES, np.float32(-1)),
    )
    inverse, scale = np.empty(LANES * size, np.float32), np.zeros(size * LANES, np.float32)
    held, counts = np.full(LANES, np.float32(-1)), np.empty(2 * LANES, np.int64)
    places, factor = np.zeros(2 * room * LANES, np.int64), np.empty(2 * room * LANES, np.float32)
    right = np.empty(2 * room * LANES, np.float32)  # of two groups: this one, and the next one to ask for
    now, then = 0, room * LANES
    k = _collect(
        begin, end, order, indptr, indices, weight, target, size, places, factor, right, now, counts, 0
    )
    for first in range(begin, end, LANES):
        next_k, mine, others = 0, (now > 0) * LANES, (then > 0) * LANES
        if first + LANES < end:
            next_k = _collect(
                first + LANES,
                end,
                order,
                indptr,
                indices,
                weight,
                target,
                size,
                places,
                factor,
                right,
                then,
                counts,
                others,
            )
        num_lanes = min(LANES, end - first)
        any_light = False
        total[:] = 0
        for lane in range(num_lanes):
            row = order[first + lane]
            if indptr[row + 1] - indptr[row] > counts[mine + lane]:
                any_light = True
                n = 0
                for p in range(indptr[row], indptr[row + 1]):
                    if weight[p] == 0:
                        light[n], light_target[n] = indices[p] * size, target[p]
                        n += 1
                _add_all(rotated, light, light_target, 0, 1, n, total, lane * size, size)
            if regularization[row] != held[lane]:  # as a rule it is the same for many rows
                held[lane] = regularization[row]
                _invert_diagonal(held[lane], spectrum, lane, inverse, scale)
        if k:
            side = (k + SIDE) // SIDE * SIDE
            _start(system, side, k, right, now, block)
            _assemble(
                rotated,
                places,
                now,
                factor,
                scale,
                k,
                then,
                next_k,
                side,
                size,
                system,
                block,
                total,
                own,
                minus,
                any_light,
            )
            least[:] = _NO_PIVOT
            _solve(system, side, inverses, least)
            last = (side - 1) * side * LANES
            for at in range(k * LANES):
                factor[now + at] *= system[last + at]
        for lane in range(num_lanes):
            row, n = order[first + lane], counts[mine + lane]
            if n:
                failed[row] = not least[lane] > _LEAST_PIVOT
                _add_all(rotated, places, factor, now + lane, LANES, n, total, lane * size, size)
            set_product(total, lane * size, inverse, lane * size, out[row], 0, size)
        now, then, k = then, now, next_k


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _collect(
    first: int,
    end: int,
    order: Array,
    indptr: Array,
    indices: Array,
    weight: Array,
    target: Array,
    size: int,
    places: Array,
    factor: Array,
    right: Array,
    base: int,
    counts: Array,
    counts_at: int,
) -> int:
    """Lay the entries that weigh of up to LANES rows side by side; gives the longest row's number of them."""
    k = 0
    counts[counts_at : counts_at + LANES] = 0
    for lane in range(min(LANES, end - first)):
        row = order[first + lane]
        at = base + lane
        for p in range(indptr[row], indptr[row + 1]):
            if weight[p] > 0:
                places[at], factor[at], right[at] = indices[p] * size, weight[p], target[p]
                at += LANES
        counts[counts_at + lane] = (at - base) // LANES
        k = max(k, counts[counts_at + lane])
    for lane in range(LANES):
        for n in range(counts[counts_at + lane], k):
            at = base + n * LANES + lane
            places[at], factor[at], right[at] = 0, 0, 0
    for at in range(base, base + k * LANES):
        h = np.sqrt(factor[at])
        factor[at] = h
        right[at] = right[at] / h if h > 0 else np.float32(0)
    return k


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _invert_diagonal(regularization: float, spectrum: Array, lane: int, inverse: Array, scale: Array) -> None:
    """D⁻¹ of a lane in its own row, D^-½ across the lanes."""
    size = len(spectrum)
    for i in range(size):
        value = np.float32(1) / (spectrum[i] + regularization)
        inverse[lane * size + i] = value
        scale[i * LANES + lane] = np.sqrt(value)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _add_all(
    table: Array,
    places: Array,
    factors: Array,
    at: int,
    step: int,
    count: int,
    out: Array,
    out_at: int,
    size: int,
) -> None:
    column = 0
    while column + 64 <= size:
        add_rows(table, column, 64, places, factors, at, step, count, out, out_at + column)
        column += 64
    while column < size:
        add_rows(table, column, 16, places, factors, at, step, count, out, out_at + column)
        column += 16


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _start(system: Array, side: int, k: int, right: Array, right_at: int, block: Array) -> None:
    """The unit matrix above the right-hand side, and nothing yet in the rows of B that no entry fills."""
    step, last = side * LANES, side - 1
    for i in range(side):
        system[i * step : i * step + (i // SIDE * SIDE + SIDE) * LANES] = 0
        system[i * step + i * LANES : i * step + (i + 1) * LANES] = 1
    system[last * step : last * step + k * LANES] = right[right_at : right_at + k * LANES]
    system[last * step + last * LANES : last * step + side * LANES] = _NO_PIVOT
    block[k * WIDTH * LANES : side * WIDTH * LANES] = 0


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _assemble(
    rotated: Array,
    places: Array,
    now: int,
    factor: Array,
    scale: Array,
    k: int,
    then: int,
    next_k: int,
    side: int,
    size: int,
    system: Array,
    block: Array,
    total: Array,
    own: Array,
    minus: Array,
    any_light: bool,
) -> None:
    """Add B Bᵀ, WIDTH columns of B at a time, and ask for the next group's factors meanwhile."""
    step, width, last = side * LANES, WIDTH * LANES, side - 1
    for column in range(0, size, WIDTH):
        at = column * LANES
        for p in range(k):
            if p < next_k:
                fetch_lanes(rotated, column, places, then + p * LANES)
            gather_lanes(
                rotated, column, places, now + p * LANES, factor, now + p * LANES, scale, at, block, p * width
            )
        if any_light:
            gather_lanes(total, column, own, 0, minus, 0, scale, at, block, last * width)
        for i in range(0, side, SIDE):
            for j in range(0, i + 1, SIDE):
                out_at = i * step + j * LANES
                add_products(block, i * width, width, block, j * width, width, system, out_at, step, WIDTH)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _solve(system: Array, side: int, inverses: Array, least: Array) -> None:
    """Leave the solution in the system's last row."""
    step, last = side * LANES, (side - 1) * side * LANES
    for i in range(0, side, SIDE):
        at = i * 2 * LANES
        factorize_block(system, i * step, step, i, inverses, at, least, 0)
        for j in range(i + SIDE, side, SIDE):
            eliminate_block(system, j * step, i * step, step, i, inverses, at)
    system[last + (side - 1) * LANES : last + side * LANES] = 0
    for i in range(side - SIDE, -1, -SIDE):
        substitute_block(system, i * step, step, i, inverses, i * 2 * LANES, system, last)
