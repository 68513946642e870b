"""ALS on the GPU: rows binned by degree, each bin with the kernel that suits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kernels.cuda import runtime
from kernels.cuda.runtime import Device, Kernel

Solver = Literal["exact", "cg"]
MAX_FACTORS = 256
SEGMENT = 2048  # interactions of one block's share of a long row: about 0.1 ms on an H100
WORKSPACE_BYTES = 256 * 2**20  # of the partial matrices of long rows in flight
DUAL_CAPACITIES = (16, 32, 48, 64, 96, 128, 144, 192)
CG_CAPACITIES = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Shape:
    """How factors lie in memory: as counted, as stored (16-byte loads) and as padded in shared memory."""

    num_factors: int
    bits: int

    @property
    def stored(self) -> int:
        return -(-self.num_factors // 8) * 8

    @property
    def padded(self) -> int:
        return -(-self.num_factors // 32) * 32

    @property
    def dtype(self) -> Any:
        return np.float32 if self.bits == 32 else np.float16

    @property
    def defines(self) -> tuple[tuple[str, int], ...]:
        return (("FACTORS", self.num_factors), ("STORAGE", self.bits))


@dataclass(frozen=True)
class Bin:
    """Rows that one launch handles; `capacity` 0 means the primal kernel."""

    capacity: int
    rows: Any


@dataclass(frozen=True)
class LongRows:
    """Rows cut into segments: `segments` holds begin and end of each, `first_segment` where a row's start."""

    rows: Any
    first_segment: Any
    segments: Any


@dataclass(frozen=True)
class Interactions:
    """One side's interactions on the device: x_u minimises the sum over the row of
    weight * (y.x)^2 - 2 * target * y.x, plus the unobserved and the regularisation terms."""

    num_rows: int
    indptr: Any
    columns: Any
    weights: Any
    targets: Any
    regularization: Any
    bins: tuple[Bin, ...]
    long_rows: tuple[LongRows, ...]


def load_interactions(
    device: Device,
    shape: Shape,
    solver: Solver,
    indptr: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    regularization: npt.NDArray[Any],
) -> Interactions:
    """Copies one side to the device and decides which kernel takes which row.

    The dual needs weights of at least 0 and a positive regularisation: else every row takes the primal.
    """
    dual = bool((weights >= 0).all() and (regularization > 0).all())
    degrees = np.diff(indptr)
    order = np.argsort(-degrees, kind="stable").astype(np.int32)  # the longest start first, and end in step
    capacities = _capacities(device, shape, solver) if dual or solver == "cg" else []
    limit = capacities[-1] if solver == "cg" else min(shape.num_factors - 1, max(capacities, default=0))
    of_row = np.where(degrees > limit, 0, 0)
    for capacity in reversed(capacities):
        of_row[(degrees <= min(capacity, limit)) & (degrees > 0)] = capacity
    of_row[degrees == 0] = -1
    of_row[(of_row == 0) & (degrees > SEGMENT)] = -2
    asarray = device.xp.asarray
    bins = tuple(
        Bin(int(capacity), asarray(order[of_row[order] == capacity]))
        for capacity in (0, *reversed(capacities))
        if (of_row == capacity).any()
    )
    return Interactions(
        len(degrees),
        asarray(indptr, dtype=np.int64),
        asarray(columns, dtype=np.int32),
        asarray(weights, dtype=np.float32),
        asarray(targets, dtype=np.float32),
        asarray(regularization, dtype=np.float32),
        bins,
        tuple(_cut(device, shape, indptr, order[of_row[order] == -2])),
    )


def _capacities(device: Device, shape: Shape, solver: Solver) -> list[int]:
    if solver == "cg":  # two blocks of one multiprocessor share its memory
        return [c for c in CG_CAPACITIES if _cg_shared(shape, c) <= device.shared_bytes // 2]
    fitting = [c for c in DUAL_CAPACITIES if _dual_shared(shape, c) <= device.shared_bytes]
    return fitting[: 1 + int(np.searchsorted(fitting, shape.num_factors - 1))]


def _cut(device: Device, shape: Shape, indptr: npt.NDArray[Any], rows: npt.NDArray[Any]) -> list[LongRows]:
    """Long rows in groups whose partial matrices fit the workspace, each cut into equal segments."""
    groups: list[LongRows] = []
    room = WORKSPACE_BYTES // (4 * _partial_floats(shape))
    pieces = -(-np.diff(indptr)[rows] // SEGMENT)
    begin = 0
    while begin < len(rows):
        end = begin + max(1, int(np.searchsorted(np.cumsum(pieces[begin:]), room, side="right")))
        segments = []
        for row, count in zip(rows[begin:end], pieces[begin:end], strict=True):
            edges = np.linspace(indptr[row], indptr[row + 1], int(count) + 1).astype(np.int64)
            segments.append(np.stack([edges[:-1], edges[1:]], axis=1))
        first = np.concatenate([[0], np.cumsum(pieces[begin:end])]).astype(np.int32)
        asarray = device.xp.asarray
        groups.append(LongRows(asarray(rows[begin:end]), asarray(first), asarray(np.concatenate(segments))))
        begin = end
    return groups


def eigenbasis(device: Device, shape: Shape, factors: Any, unobserved_weight: float) -> tuple[Any, Any, Any]:
    """The factors rotated so that their Gramian is diagonal, `unobserved_weight` times that diagonal, and the
    rotation (float32 [f, f]). The Gramian is one float32 GEMM; its eigenproblem is small and solved in float64.
    """
    xp, f = device.xp, shape.num_factors
    if unobserved_weight == 0:
        return factors, xp.zeros(f, xp.float32), xp.eye(f, dtype=xp.float32)
    plain = factors[:, :f].astype(xp.float32)
    eigenvalues, vectors = xp.linalg.eigh((plain.T @ plain).astype(xp.float64))
    rotation = vectors.astype(xp.float32)
    spectrum = (unobserved_weight * xp.maximum(eigenvalues, 0)).astype(xp.float32)
    return rotate(device, shape, factors, rotation), spectrum, rotation


def rotate(device: Device, shape: Shape, factors: Any, rotation: Any) -> Any:
    """`factors @ rotation`, stored as `factors` are."""
    xp, f = device.xp, shape.num_factors
    out = xp.zeros_like(factors)
    out[:, :f] = (factors[:, :f].astype(xp.float32) @ rotation).astype(factors.dtype)
    return out


def solve_rows(
    device: Device,
    shape: Shape,
    side: Interactions,
    rotated: Any,
    spectrum: Any,
    out: Any,
    status: Any,
    cg_steps: int,
) -> None:
    """Launches the half step in the eigenbasis; `out` is written (and read as the start, if `cg_steps` > 0).

    `status` (int32 [1]) receives the number (from 1) of a row whose system was not positive definite.
    """
    data = (rotated, side.indptr, side.columns, side.weights, side.targets)
    steps = (np.int32(cg_steps),)
    for group in side.long_rows:
        partial = device.xp.empty((len(group.segments), _partial_floats(shape)), np.float32)
        kernel, threads, shared = _primal(shape, "als_partial")
        arguments: tuple[Any, ...] = (rotated, *data[2:], group.segments, partial)
        device.launch(kernel, (len(group.segments), 1), threads, shared, arguments)
        kernel, threads, shared = _primal(shape, "als_finish")
        arguments = (partial, group.rows, group.first_segment, spectrum, side.regularization, out, status, *steps)
        device.launch(kernel, (len(group.rows), 1), threads, shared, arguments)
    for rows in side.bins:
        arguments = (*data, rows.rows, spectrum, side.regularization, out)
        if rows.capacity == 0:
            kernel, threads, shared = _primal(shape, "als_primal")
            arguments = (*arguments, status, *steps)
        elif cg_steps:
            kernel, threads, shared = _cg(shape, rows.capacity)
            arguments = (*arguments, *steps)
        else:
            kernel, threads, shared = _dual(shape, rows.capacity)
            arguments = (*arguments, status)
        device.launch(kernel, (len(rows.rows), 1), threads, shared, arguments)


def _primal(shape: Shape, name: str) -> tuple[Kernel, int, int]:
    tiles = shape.padded // 32 * (shape.padded // 32 + 1) // 2
    warps = tiles if tiles <= 10 else -(-tiles // -(-tiles // 12))
    floats = max(_tile_floats(shape.padded), 64 * (shape.padded + 8)) + 128 + 4 * shape.padded
    return Kernel("als_primal.cu", name, (*shape.defines, ("THREADS", warps * 32))), warps * 32, 4 * floats


def _dual(shape: Shape, capacity: int) -> tuple[Kernel, int, int]:
    threads = min(256, 2 * capacity)
    kernel = Kernel("als_dual.cu", "als_dual", (*shape.defines, ("CAPACITY", capacity), ("THREADS", threads)))
    return kernel, threads, _dual_shared(shape, capacity)


def _cg(shape: Shape, capacity: int) -> tuple[Kernel, int, int]:
    threads = min(256, capacity)
    kernel = Kernel("als_cg.cu", "als_cg", (*shape.defines, ("CAPACITY", capacity), ("THREADS", threads)))
    return kernel, threads, _cg_shared(shape, capacity)


def _dual_shared(shape: Shape, capacity: int) -> int:
    return 4 * (capacity * (shape.padded + 4) + _tile_floats(capacity) + 3 * capacity + 2 * shape.padded)


def _cg_shared(shape: Shape, capacity: int) -> int:
    return 4 * (capacity * shape.padded + 2 * capacity + min(256, capacity) // 32 * shape.padded)


def _tile_floats(side: int) -> int:
    return side // 16 * (side // 16 + 1) // 2 * 256


def _partial_floats(shape: Shape) -> int:
    return _tile_floats(shape.padded) + shape.padded


def half_step(
    indptr: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    factors: npt.NDArray[Any],
    regularization: npt.NDArray[Any],
    unobserved_weight: float,
    *,
    solver: Solver = "exact",
    cg_steps: int = 3,
    start: npt.NDArray[Any] | None = None,
    bits: int = 32,
) -> npt.NDArray[np.float32]:
    """Solves every row against fixed `factors`."""
    device = runtime.device()
    shape = Shape(factors.shape[1], bits)
    side = load_interactions(device, shape, solver, indptr, columns, weights, targets, regularization)
    fixed = to_device(device, shape, factors)
    rotated, spectrum, rotation = eigenbasis(device, shape, fixed, unobserved_weight)
    out = device.xp.zeros((side.num_rows, shape.stored), shape.dtype)
    if start is not None and solver == "cg":
        out = rotate(device, shape, to_device(device, shape, start), rotation)
    status = device.xp.zeros(1, np.int32)
    solve_rows(device, shape, side, rotated, spectrum, out, status, cg_steps if solver == "cg" else 0)
    result = to_host(device, shape, rotate(device, shape, out, device.xp.ascontiguousarray(rotation.T)))
    return result


def to_device(device: Device, shape: Shape, factors: npt.NDArray[Any]) -> Any:
    """Factors as the kernels store them: padded with zeros, in the storage type."""
    padded = np.zeros((len(factors), shape.stored), shape.dtype)
    padded[:, : shape.num_factors] = factors
    return device.xp.asarray(padded)


def to_host(device: Device, shape: Shape, factors: Any) -> npt.NDArray[np.float32]:
    """The factors as NumPy float32, without the padding. Waits for the device."""
    array = factors[:, : shape.num_factors].astype(np.float32)
    return np.ascontiguousarray(array if device.xp is np else device.xp.asnumpy(array))
