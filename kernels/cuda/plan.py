"""Choose the kernel of each row by its number of entries, once, and keep the choice on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda.launches import cg_capacities, dual_capacities, partial_floats, require_fit
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runtime import Device
from shopsight.kernels.rows import Rows

PRIMAL = 0
_EMPTY, _LONG = -1, -2
SEGMENT = 2048  # entries of a long row that one block takes: about 0.1 ms on an H100
WORKSPACE_BYTES = 256 * 2**20  # for the partial matrices of long rows


@dataclass(frozen=True)
class Bin:
    """The rows of one launch, longest first, on the device; capacity is their most entries, or PRIMAL."""

    capacity: int
    rows: Any


@dataclass(frozen=True)
class LongRows:
    """Rows cut into segments [n, 2] of (begin, end), each with the number of its weighted entries.

    first_segment is the index of each row's first one.
    """

    rows: Any
    first_segment: Any
    segments: Any
    weighted: Any


@dataclass(frozen=True)
class Interactions:
    """One side's entries (`kernels.rows.Rows`) on the device, and its rows grouped into launches.

    Each row's entries of weight 0 come after the others, of which there are `weighted` (int32 [rows]).
    signed: whether any weight is negative.
    """

    num_rows: int
    signed: bool
    indptr: Any
    weighted: Any
    columns: Any
    weights: Any
    targets: Any
    regularization: Any
    bins: tuple[Bin, ...]
    long_rows: tuple[LongRows, ...]
    empty_rows: Any


def load_interactions(device: Device, layout: Layout, rows: Rows, use_cg: bool) -> Interactions:
    """Copy one side to the device; longest rows come first, so that the blocks of a launch end together.

    Raises ValueError if the GPU has too little shared memory for so many factors.
    """
    require_fit(device, layout)
    asarray = device.xp.asarray
    rows, weighted = weighted_first(rows)
    kind = assign_rows(layout, rows, use_cg, device.shared_bytes)
    order = np.argsort(-np.diff(rows.indptr), kind="stable").astype(np.int32)
    kinds = sorted(set(kind[kind >= 0].tolist()), key=lambda capacity: -capacity if capacity else -(2**31))
    return Interactions(
        num_rows=rows.num_rows,
        signed=bool((rows.weight < 0).any()),
        indptr=asarray(rows.indptr),
        weighted=asarray(weighted),
        columns=asarray(rows.indices),
        weights=asarray(rows.weight),
        targets=asarray(rows.target),
        regularization=asarray(rows.regularization),
        bins=tuple(Bin(capacity, asarray(order[kind[order] == capacity])) for capacity in kinds),
        long_rows=tuple(_cut(device, layout, rows.indptr, weighted, order[kind[order] == _LONG])),
        empty_rows=asarray(np.flatnonzero(kind == _EMPTY)),
    )


def weighted_first(rows: Rows) -> tuple[Rows, npt.NDArray[np.int32]]:
    """Return rows whose entries of weight 0 come last, otherwise in order, and how many others each has."""
    has_weight = rows.weight != 0
    running = np.concatenate([[0], np.cumsum(has_weight)])
    weighted = np.diff(running[rows.indptr])
    if has_weight.all():
        return rows, weighted.astype(np.int32)
    degrees = np.diff(rows.indptr)
    # An entry's place: after those of its kind before it; without a weight, after all weighted ones too.
    before = np.arange(len(has_weight)) - running[:-1]  # entries of weight 0 before each, over all rows
    first = rows.indptr[:-1] - running[rows.indptr[:-1]]  # the same before each row
    begin, offset = np.repeat(rows.indptr[:-1], degrees), np.repeat(first, degrees)
    place = begin + np.where(
        has_weight,
        running[:-1] - np.repeat(running[rows.indptr[:-1]], degrees),
        np.repeat(weighted, degrees) + before - offset,
    )
    order = np.empty_like(place)
    order[place] = np.arange(len(place))
    moved = rows._replace(indices=rows.indices[order], weight=rows.weight[order], target=rows.target[order])
    return moved, weighted.astype(np.int32)


def assign_rows(layout: Layout, rows: Rows, use_cg: bool, shared_bytes: int) -> npt.NDArray[np.int64]:
    """Return for each row its capacity, PRIMAL, or the mark of an empty or a long row, int64 [rows].

    The dual takes rows of fewer weighted entries than factors, unless they are cut as long. It needs weights
    of at least 0 and a positive regularization; other rows take the primal.
    """
    degrees = np.diff(rows.indptr)
    counted = degrees if use_cg else np.diff(np.concatenate([[0], np.cumsum(rows.weight != 0)])[rows.indptr])
    capacities = np.array((cg_capacities if use_cg else dual_capacities)(layout, shared_bytes), np.int64)
    limit = capacities.max(initial=0)
    if not use_cg:
        limit = min(limit, layout.num_factors - 1)
    kind = np.full(len(degrees), PRIMAL, np.int64)
    short = (degrees > 0) & (counted <= limit)
    if not use_cg:
        short &= degrees <= SEGMENT
        negative = np.flatnonzero(rows.weight < 0)
        short[np.searchsorted(rows.indptr, negative, side="right") - 1] = False
        short &= rows.regularization > 0
    kind[short] = capacities[np.searchsorted(capacities, counted[short])] if len(capacities) else PRIMAL
    kind[(kind == PRIMAL) & (degrees > SEGMENT)] = _LONG
    kind[degrees == 0] = _EMPTY
    return kind


def _cut(
    device: Device,
    layout: Layout,
    indptr: npt.NDArray[Any],
    weighted: npt.NDArray[np.int32],
    rows: npt.NDArray[Any],
) -> list[LongRows]:
    """Return long rows in groups whose partial matrices fit the workspace, each cut into equal segments."""
    asarray = device.xp.asarray
    room = WORKSPACE_BYTES // (4 * partial_floats(layout))
    pieces = -(-np.diff(indptr)[rows] // SEGMENT)
    groups: list[LongRows] = []
    begin = 0
    while begin < len(rows):
        end = begin + max(1, int(np.searchsorted(np.cumsum(pieces[begin:]), room, side="right")))
        first = np.concatenate([[0], np.cumsum(pieces[begin:end])]).astype(np.int32)
        edges = [
            np.linspace(indptr[row], indptr[row + 1], int(count) + 1).astype(np.int64)
            for row, count in zip(rows[begin:end], pieces[begin:end], strict=True)
        ]
        segments = np.concatenate([np.stack([e[:-1], e[1:]], axis=1) for e in edges])
        last = np.repeat(indptr[rows[begin:end]] + weighted[rows[begin:end]], pieces[begin:end])
        within = np.clip(last - segments[:, 0], 0, segments[:, 1] - segments[:, 0]).astype(np.int32)
        groups.append(LongRows(asarray(rows[begin:end]), asarray(first), asarray(segments), asarray(within)))
        begin = end
    return groups
