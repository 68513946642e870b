"""Exact solves of short rows, eight at a time in lockstep, in the eigenbasis of the Gramian.

There the part of a row's system that all rows share is diagonal, D = unobserved_weight Λ + λ. A row of k
entries U (k by f) with weights a and targets b has the system D + Uᵀ diag(a) U; by Woodbury's identity its
solution is also D^-½ Bᵀ (I + B Bᵀ)⁻¹ r, with B = diag(√a) U D^-½ and r = b / √a: a system of size k.

Entries of weight zero are not part of that system: their sum g = Σ b y shifts r by -B D^-½ g and is added
before the last D^-½. The shifted r is stored as one more row of the system, so that the last row of its
Cholesky factor is the forward substitution.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from shopsight.kernels.cpu.lanes import (
    LANES,
    SIDE,
    add_products,
    eliminate_block,
    factorize_block,
    fetch_lanes,
    gather_lanes,
    substitute_block,
)
from shopsight.kernels.cpu.vector import FAST, WIDTH, add_rows, set_product
from shopsight.kernels.rows import Rows

Array = np.ndarray[Any, Any]
_LEAST_PIVOT = np.float32(0.25)  # exact pivots of I + B Bᵀ are at least 1: below this, float32 is not enough
_NO_PIVOT = np.float32(1e30)  # of the added row, whose own pivot is not used


class Group(NamedTuple):
    """The entries of positive weight of LANES rows, [entry, lane] flat, and how many each lane has."""

    places: Array
    factor: Array
    right: Array
    counts: Array


class Scratch(NamedTuple):
    """The working memory of one thread, allocated once."""

    system: Array
    inverses: Array
    least: Array
    block: Array
    total: Array
    unweighted: Array
    unweighted_target: Array
    stored_regularization: Array
    inverse: Array
    scale: Array
    lane_starts: Array
    minus_one: Array


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def solve_lockstep(
    begin: int,
    end: int,
    order: Array,
    max_entries: int,
    rows: Rows,
    rotated: Array,
    spectrum: Array,
    out: Array,
    failed: Array,
) -> None:
    """Solve rows order[begin:end] into `out`; a row has at most `max_entries` positive weights, no negative.

    `begin` is a multiple of LANES; the other arguments are those of `exact.solve_rows`.
    """
    size, room = len(spectrum), (max_entries + SIDE) // SIDE * SIDE
    longest = 0
    for number in range(begin, end):
        longest = max(longest, rows.indptr[order[number] + 1] - rows.indptr[order[number]])
    scratch = _make_scratch(size, room, longest)
    group, next_group = _make_group(room), _make_group(room)
    k = _collect(begin, end, order, rows, size, group)
    for first in range(begin, end, LANES):
        next_k = _collect(first + LANES, end, order, rows, size, next_group)
        num_lanes = min(LANES, end - first)
        any_unweighted = False
        scratch.total[:] = 0
        for lane in range(num_lanes):
            row = order[first + lane]
            if rows.indptr[row + 1] - rows.indptr[row] > group.counts[lane]:
                any_unweighted = True
                _add_unweighted(row, lane, rows, rotated, size, scratch)
            if (
                rows.regularization[row] != scratch.stored_regularization[lane]
            ):  # it is often the same for many rows
                _store_diagonal(rows.regularization[row], lane, spectrum, scratch)
        if k:
            _assemble(rotated, group, k, next_group, next_k, any_unweighted, size, scratch)
            _solve(k, scratch, group.factor)
        for lane in range(num_lanes):
            row, n = order[first + lane], group.counts[lane]
            if n:
                failed[row] = not scratch.least[lane] > _LEAST_PIVOT
                _add_all(
                    rotated, group.places, group.factor, lane, LANES, n, scratch.total, lane * size, size
                )
            set_product(scratch.total, lane * size, scratch.inverse, lane * size, out[row], 0, size)
        group, next_group, k = next_group, group, next_k


@njit(nogil=True, cache=True)
def _make_group(room: int) -> Group:
    floats = np.empty((2, room * LANES), np.float32)
    return Group(np.zeros(room * LANES, np.int64), floats[0], floats[1], np.empty(LANES, np.int64))


@njit(nogil=True, cache=True)
def _make_scratch(size: int, room: int, longest: int) -> Scratch:
    return Scratch(
        system=np.empty(room * room * LANES, np.float32),
        inverses=np.empty(room * 2 * LANES, np.float32),
        least=np.empty(LANES, np.float32),
        block=np.empty(room * WIDTH * LANES, np.float32),
        total=np.empty(LANES * size, np.float32),
        unweighted=np.empty(longest, np.int64),
        unweighted_target=np.empty(longest, np.float32),
        stored_regularization=np.full(LANES, np.float32(-1)),
        inverse=np.empty(LANES * size, np.float32),
        scale=np.zeros(size * LANES, np.float32),
        lane_starts=np.arange(LANES) * size,
        minus_one=np.full(LANES, np.float32(-1)),
    )


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _collect(first: int, end: int, order: Array, rows: Rows, size: int, group: Group) -> int:
    """Copy the entries of positive weight of up to LANES rows to `group`; returns the most of a row."""
    places, factor, right, counts = group
    k = 0
    counts[:] = 0
    for lane in range(min(LANES, end - first)):
        row = order[first + lane]
        at = lane
        for p in range(rows.indptr[row], rows.indptr[row + 1]):
            if rows.weight[p] > 0:
                places[at], factor[at], right[at] = rows.indices[p] * size, rows.weight[p], rows.target[p]
                at += LANES
        counts[lane] = at // LANES
        k = max(k, counts[lane])
    for lane in range(LANES):
        for n in range(counts[lane], k):
            at = n * LANES + lane
            places[at], factor[at], right[at] = 0, 0, 0
    for at in range(k * LANES):
        h = np.sqrt(factor[at])
        factor[at] = h
        right[at] = right[at] / h if h > 0 else np.float32(0)
    return k


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _add_unweighted(row: int, lane: int, rows: Rows, rotated: Array, size: int, scratch: Scratch) -> None:
    """Add a row's entries of weight zero to its lane's total."""
    n = 0
    for p in range(rows.indptr[row], rows.indptr[row + 1]):
        if rows.weight[p] == 0:
            scratch.unweighted[n], scratch.unweighted_target[n] = rows.indices[p] * size, rows.target[p]
            n += 1
    _add_all(
        rotated, scratch.unweighted, scratch.unweighted_target, 0, 1, n, scratch.total, lane * size, size
    )


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _store_diagonal(regularization: float, lane: int, spectrum: Array, scratch: Scratch) -> None:
    """Store a lane's D⁻¹ as a row of its own and its D^-½ interleaved with the other lanes'."""
    scratch.stored_regularization[lane] = regularization
    size = len(spectrum)
    for i in range(size):
        value = np.float32(1) / (spectrum[i] + regularization)
        scratch.inverse[lane * size + i] = value
        scratch.scale[i * LANES + lane] = np.sqrt(value)


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
def _assemble(
    rotated: Array,
    group: Group,
    k: int,
    next_group: Group,
    next_k: int,
    any_unweighted: bool,
    size: int,
    scratch: Scratch,
) -> None:
    """Write I + B Bᵀ, WIDTH columns of B at a time, and prefetch the factors of the next group."""
    system, block, scale = scratch.system, scratch.block, scratch.scale
    side, width = (k + SIDE) // SIDE * SIDE, WIDTH * LANES
    step, last = side * LANES, side - 1
    for i in range(side):
        system[i * step : i * step + (i // SIDE * SIDE + SIDE) * LANES] = 0
        system[i * step + i * LANES : i * step + (i + 1) * LANES] = 1
    system[last * step : last * step + k * LANES] = group.right[: k * LANES]
    system[last * step + last * LANES : last * step + side * LANES] = _NO_PIVOT
    block[k * width : side * width] = 0
    for column in range(0, size, WIDTH):
        at = column * LANES
        for p in range(k):
            if p < next_k:
                fetch_lanes(rotated, column, next_group.places, p * LANES)
            lane = p * LANES
            gather_lanes(rotated, column, group.places, lane, group.factor, lane, scale, at, block, p * width)
        if any_unweighted:
            gather_lanes(
                scratch.total,
                column,
                scratch.lane_starts,
                0,
                scratch.minus_one,
                0,
                scale,
                at,
                block,
                last * width,
            )
        for i in range(0, side, SIDE):
            for j in range(0, i + 1, SIDE):
                out_at = i * step + j * LANES
                add_products(block, i * width, width, block, j * width, width, system, out_at, step, WIDTH)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _solve(k: int, scratch: Scratch, factor: Array) -> None:
    """Solve, leave the solution in the system's last row, and multiply `factor` by it."""
    system, inverses, least = scratch.system, scratch.inverses, scratch.least
    side = (k + SIDE) // SIDE * SIDE
    step, last = side * LANES, (side - 1) * side * LANES
    least[:] = _NO_PIVOT
    for i in range(0, side, SIDE):
        at = i * 2 * LANES
        factorize_block(system, i * step, step, i, inverses, at, least, 0)
        for j in range(i + SIDE, side, SIDE):
            eliminate_block(system, j * step, i * step, step, i, inverses, at)
    system[last + (side - 1) * LANES : last + side * LANES] = 0
    for i in range(side - SIDE, -1, -SIDE):
        substitute_block(system, i * step, step, i, inverses, i * 2 * LANES, system, last)
    for at in range(k * LANES):
        factor[at] *= system[last + at]
