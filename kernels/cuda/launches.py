"""Threads, shared memory and registers of the larger kernels (shared memory: as their sources say on top)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runtime import Device, Kernel

# by capacity: a warp for every 2x2 tiles of the row's system, where there are not too many
DUAL_THREADS = {16: 32, 32: 64, 48: 96, 64: 128, 96: 192, 128: 320, 144: 256, 192: 384}
CG_CAPACITIES = (32, 64, 128, 256, 512)
_MULTIPROCESSOR_SHARED = 228 * 1024  # H100, H200 and B200; each block takes 1 KiB more than it asks for
_PARTITIONS, _PARTITION_REGISTERS = 4, 16 * 1024  # a warp lives in one of a multiprocessor's four parts


class Launch(NamedTuple):
    """A kernel with its threads a block and its bytes of shared memory."""

    kernel: Kernel
    threads: int
    shared: int


def make_launch(
    source: str, name: str, layout: Layout, threads: int, floats: int, registers: int, **numbers: int
) -> Launch:
    """A launch whose compiler knows how many blocks a multiprocessor shall hold, and so what registers it may
    use: as many blocks as shared memory allows, while every thread has at least `registers`.
    """
    shared = 4 * floats
    warps = _PARTITIONS * (_PARTITION_REGISTERS // (32 * registers))
    blocks = min(_MULTIPROCESSOR_SHARED // (shared + 1024), warps * 32 // threads)
    numbers = {"THREADS": threads, "BLOCKS": max(1, blocks), **numbers}
    return Launch(Kernel(source, name, (*layout.defines, *numbers.items())), threads, shared)


def start(device: Device, launch: Launch, num_blocks: int, arguments: Sequence[Any]) -> None:
    """Launches on a row of blocks."""
    device.launch(launch.kernel, (num_blocks, 1), launch.threads, launch.shared, arguments)


def primal_launch(layout: Layout, name: str) -> Launch:
    """als_primal, als_partial or als_finish."""
    threads, padded = _tile_threads(layout), layout.padded
    floats = max(tile_floats(padded), 2 * 32 * (padded + 4)) + 32 + 2 * (threads // 32) + 5 * padded
    registers = 96 if threads == 320 else 112  # ten warps: two blocks a multiprocessor only with at most 102
    return make_launch("als_primal.cu", name, layout, threads, floats, registers)


def gramian_launch(layout: Layout) -> Launch:
    """gramian."""
    floats = max(tile_floats(layout.padded), 2 * 32 * (layout.padded + 8))
    return make_launch("gramian.cu", "gramian", layout, _tile_threads(layout), floats, 96)


def _tile_threads(layout: Layout) -> int:
    """A warp for each 32x32 tile of a lower half, up to twelve."""
    tiles = layout.padded // 32 * (layout.padded // 32 + 1) // 2
    return 32 * (tiles if tiles <= 10 else -(-tiles // -(-tiles // 12)))


def dual_launch(layout: Layout, capacity: int) -> Launch:
    """als_dual for rows of at most `capacity` entries."""
    threads, padded = DUAL_THREADS[capacity], layout.padded
    parts = 2 * max(1, threads // (padded // 4)) * padded
    floats = capacity * (padded + 4) + max(tile_floats(capacity), parts)
    floats += 4 * capacity + padded + 2 * (threads // 32)
    return make_launch("als_dual.cu", "als_dual", layout, threads, floats, 96, CAPACITY=capacity)


def rotate_launch(layout: Layout) -> Launch:
    """rotate: blocks of 64 rows."""
    floats = 64 * (layout.padded + 4) + layout.padded * 72
    return make_launch("rotate.cu", "rotate", layout, 128, floats, 128)


def jacobi_launch(layout: Layout) -> Launch:
    """jacobi: one block, more threads than a round has places for only where there are few factors."""
    order = -(-layout.num_factors // 4) * 4
    threads = min(1024, -(-(order // 4 * (order // 2 + 1)) // 32) * 32)
    floats = order * (order + 1) // 2 + order
    return Launch(Kernel("eigen.cu", "jacobi", layout.defines), threads, 4 * floats)


def vectors_launch(layout: Layout) -> Launch:
    """jacobi_vectors: a warp for each row."""
    order = -(-layout.num_factors // 4) * 4
    return Launch(Kernel("eigen.cu", "jacobi_vectors", layout.defines), 32, 8 * order)


def cg_launch(layout: Layout, capacity: int) -> Launch:
    """als_cg for rows of at most `capacity` entries."""
    threads = min(256, capacity)
    floats = capacity * layout.padded + 2 * capacity + threads // 32 * layout.padded
    return make_launch("als_cg.cu", "als_cg", layout, threads, floats, 64, CAPACITY=capacity)


def dual_capacities(layout: Layout, shared_bytes: int) -> list[int]:
    """The capacities that fit a block of this device, up to the first that holds every row shorter than f."""
    fitting = [c for c in DUAL_THREADS if dual_launch(layout, c).shared <= shared_bytes]
    enough = sum(c < layout.num_factors - 1 for c in fitting)
    return fitting[: enough + 1] if layout.num_factors > 1 else []


def cg_capacities(layout: Layout, shared_bytes: int) -> list[int]:
    """The capacities of which two blocks share a multiprocessor's memory."""
    return [c for c in CG_CAPACITIES if cg_launch(layout, c).shared <= shared_bytes // 2]


def partial_floats(layout: Layout) -> int:
    """What a segment of a long row leaves: the lower tiles of its matrix and its right-hand side."""
    return tile_floats(layout.padded) + layout.padded


def tile_floats(side: int) -> int:
    """The lower tiles of a symmetric matrix of `side` rows (tiles.cuh)."""
    return side // 16 * (side // 16 + 1) // 2 * 256
