"""Threads, shared memory and registers of the larger kernels; the sources document their shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runtime import Device, Kernel

# threads by capacity: about one warp for every 2x2 tiles of the row's system
DUAL_THREADS = {16: 32, 32: 64, 48: 96, 64: 128, 96: 192, 128: 320, 144: 256, 192: 384}
RESCUE_BLOCKS = 64  # of als_rescue, each with a system in float64: 34 MB at 256 factors
CG_CAPACITIES = (32, 64, 128, 256, 512)
_MULTIPROCESSOR_SHARED = 228 * 1024  # of H100, H200 and B200; each block takes 1 KiB more than it requests
_PARTITIONS, _PARTITION_REGISTERS = 4, 16 * 1024  # a warp runs in one of a multiprocessor's four partitions


class Launch(NamedTuple):
    """A kernel with its threads per block and its bytes of shared memory."""

    kernel: Kernel
    threads: int
    shared: int


def make_launch(
    source: str, name: str, layout: Layout, threads: int, floats: int, registers: int, **numbers: int
) -> Launch:
    """Return a launch that tells the compiler how many blocks share a multiprocessor, and so its registers.

    These are as many blocks as shared memory allows while every thread has at least `registers` registers.
    """
    shared = 4 * floats
    warps = _PARTITIONS * (_PARTITION_REGISTERS // (32 * registers))
    blocks = min(_MULTIPROCESSOR_SHARED // (shared + 1024), warps * 32 // threads)
    numbers = {"THREADS": threads, "BLOCKS": max(1, blocks), **numbers}
    return Launch(Kernel(source, name, (*layout.defines, *numbers.items())), threads, shared)


def require_fit(device: Device, layout: Layout) -> None:
    """Raise ValueError, with the most factors that would fit, if a block lacks shared memory for a layout."""
    if _most_shared(layout) <= device.shared_bytes:
        return
    fitting = [
        f
        for f in range(8, layout.num_factors, 8)
        if _most_shared(Layout(f, layout.storage)) <= device.shared_bytes
    ]
    needed, given = _most_shared(layout) / 1024, device.shared_bytes / 1024
    raise ValueError(
        f"factors: {layout.num_factors} columns need {needed:.0f} KiB of shared memory a block, and this GPU "
        f"has {given:.0f} KiB; use at most {max(fitting, default=0)} factors or the cpu backend"
    )


def _most_shared(layout: Layout) -> int:
    """Return the bytes of the largest block that every half step needs; others have smaller bins."""
    launches = primal_launch(layout, "als_primal"), gramian_launch(layout), rotate_launch(layout)
    return max(launch.shared for launch in (*launches, jacobi_launch(layout)))


def start(device: Device, launch: Launch, num_blocks: int, arguments: Sequence[Any]) -> None:
    """Launch a kernel on `num_blocks` blocks."""
    device.launch(launch.kernel, (num_blocks, 1), launch.threads, launch.shared, arguments)


def primal_launch(layout: Layout, name: str, *, signed: bool = False) -> Launch:
    """Return the launch of als_primal, als_partial or als_finish; `signed` if weights may be negative."""
    threads, padded = _tile_threads(layout), layout.padded
    floats = max(tile_floats(padded), 2 * 32 * (padded + 4)) + 32
    floats += -(-2 * (threads // 32) // 4) * 4 + 5 * padded
    tiles = padded // 32 * (padded // 32 + 1) // 2
    registers = 96 if threads == 320 else 112  # ten warps: two blocks a multiprocessor only with at most 102
    registers = 168 if tiles > threads // 32 else 128 if signed else registers
    return make_launch("als_primal.cu", name, layout, threads, floats, registers, SIGNED=int(signed))


def rescue_launch(layout: Layout) -> Launch:
    """Return the launch of als_rescue, for RESCUE_BLOCKS blocks."""
    return Launch(Kernel("als_rescue.cu", "als_rescue", (*layout.defines, ("THREADS", 256))), 256, 0)


def gramian_launch(layout: Layout) -> Launch:
    """Return the launch of gramian."""
    floats = max(tile_floats(layout.padded), 2 * 32 * (layout.padded + 8))
    return make_launch("gramian.cu", "gramian", layout, _tile_threads(layout), floats, 96)


def _tile_threads(layout: Layout) -> int:
    """Return a warp for each 32x32 tile of a lower triangle, up to twelve warps."""
    tiles = layout.padded // 32 * (layout.padded // 32 + 1) // 2
    return 32 * (tiles if tiles <= 10 else -(-tiles // -(-tiles // 12)))


def dual_launch(layout: Layout, capacity: int) -> Launch:
    """Return the launch of als_dual for rows of at most `capacity` weighted entries."""
    threads, padded = DUAL_THREADS[capacity], layout.padded
    parts = 2 * max(1, threads // (padded // 4)) * padded
    floats = capacity * (padded + 4) + max(tile_floats(capacity), parts)
    floats += 2 * capacity + 2 * padded + 2 * (threads // 32)
    return make_launch("als_dual.cu", "als_dual", layout, threads, floats, 96, CAPACITY=capacity)


def rotate_launch(layout: Layout) -> Launch:
    """Return the launch of rotate: blocks of 64 rows."""
    floats = 64 * (layout.padded + 4) + layout.padded * 72
    return make_launch("rotate.cu", "rotate", layout, 128, floats, 128)


def jacobi_launch(layout: Layout) -> Launch:
    """Return the launch of jacobi: one block, with a thread for each 2x2 update of a round where possible."""
    order = -(-layout.num_factors // 4) * 4
    threads = min(1024, -(-(order // 4 * (order // 2 + 1)) // 32) * 32)
    floats = order * (order + 1) // 2 + order
    return Launch(Kernel("eigen.cu", "jacobi", layout.defines), threads, 4 * floats)


def vectors_launch(layout: Layout) -> Launch:
    """Return the launch of jacobi_vectors: a warp for each row."""
    order = -(-layout.num_factors // 4) * 4
    return Launch(Kernel("eigen.cu", "jacobi_vectors", layout.defines), 32, 8 * order)


def cg_launch(layout: Layout, capacity: int) -> Launch:
    """Return the launch of als_cg for rows of at most `capacity` entries."""
    threads = min(256, capacity)
    floats = capacity * layout.padded + 2 * capacity + threads // 32 * layout.padded
    return make_launch("als_cg.cu", "als_cg", layout, threads, floats, 64, CAPACITY=capacity)


def dual_capacities(layout: Layout, shared_bytes: int) -> list[int]:
    """Return the capacities that fit a block, up to the first that holds all rows of fewer than f entries."""
    fitting = [c for c in DUAL_THREADS if dual_launch(layout, c).shared <= shared_bytes]
    enough = sum(c < layout.num_factors - 1 for c in fitting)
    return fitting[: enough + 1] if layout.num_factors > 1 else []


def cg_capacities(layout: Layout, shared_bytes: int) -> list[int]:
    """Return the capacities of which two blocks fit the shared memory of a multiprocessor."""
    return [c for c in CG_CAPACITIES if cg_launch(layout, c).shared <= shared_bytes // 2]


def partial_floats(layout: Layout) -> int:
    """Return the floats of a segment's result: the lower tiles of its matrix and its right-hand side."""
    return tile_floats(layout.padded) + layout.padded


def tile_floats(side: int) -> int:
    """Return the floats of the lower tiles of a symmetric matrix of `side` rows (tiles.cuh)."""
    return side // 16 * (side // 16 + 1) // 2 * 256
