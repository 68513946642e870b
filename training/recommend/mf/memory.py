"""The memory plan of a fit, reported before memory is allocated.

Between half steps the factors are in one of three places: "device" (everything in device memory), "memory"
(host memory; the device gets one block of rows at a time, with the factors of its columns), or "disk"
(unlinked temporary files, for factors that exceed host memory). On the CPU, host and device are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shopsight.kernels.backend import Backend, resolve
from shopsight.training.recommend.mf.config import MFConfig

Home = Literal["device", "memory", "disk"]
GIB = 2**30
_USABLE = 0.9  # of a limit: allocators do not return all memory that is freed
_SLABS_BYTES = 12 * 2**20  # buffers for reading, writing and hashing
_CUDA_WORKSPACE_BYTES = 256 * 2**20  # partial systems of long rows
_LEAST_COLUMNS = 1024  # smaller blocks would mostly wait for transfers


@dataclass(frozen=True)
class BlockCosts:
    """Bytes that a block needs while it is solved: per row, per entry and per distinct column."""

    row_bytes: int
    entry_bytes: int
    column_bytes: int

    @classmethod
    def of(cls, config: MFConfig) -> BlockCosts:
        """Return the costs of half steps with these settings, on host and device together."""
        # the gathered factors, their float32 copy for other storage types, and the rotated factors
        taken = _width(config) * (_element_bytes(config) + (4 if config.storage == "float32" else 8))
        start = 0 if config.solver == "exact" else taken
        return cls(
            row_bytes=taken + start + 4 * _width(config) + 64,
            entry_bytes=48,
            column_bytes=taken + 64,
        )

    def need(self, num_rows: int, num_entries: int, num_columns: int) -> int:
        """Return the bytes that a block of this size needs."""
        return num_rows * self.row_bytes + num_entries * self.entry_bytes + num_columns * self.column_bytes

    @property
    def least_bytes(self) -> int:
        """The least bytes of a useful block."""
        return self.need(_LEAST_COLUMNS, 4 * _LEAST_COLUMNS, _LEAST_COLUMNS)


@dataclass(frozen=True)
class MemoryPlan:
    """The plan, in bytes: the need of a fit at once, by purpose; by blocks, what is kept and a block's size.

    limit_bytes is that of the device, None if unknown; least_limit_bytes the lowest limit with which blocks
    fit. On a GPU the host's memory is a second limit.
    """

    home: Home
    limit_bytes: int | None
    interactions_bytes: int
    factors_bytes: int
    working_bytes: int
    kept_bytes: int
    room_bytes: int
    least_room_bytes: int
    least_limit_bytes: int

    @property
    def in_core_bytes(self) -> int:
        """The bytes that a fit at once needs."""
        return self.interactions_bytes + self.factors_bytes + self.working_bytes

    @property
    def fits(self) -> bool:
        """Whether the fit fits at once, or by blocks."""
        return self.home == "device" or self.room_bytes >= self.least_room_bytes

    def __str__(self) -> str:
        limit = "an unknown limit" if self.limit_bytes is None else readable(self.limit_bytes)
        parts = f"interactions {readable(self.interactions_bytes)}, factors {readable(self.factors_bytes)}"
        total = f"{readable(self.in_core_bytes)} of {limit} ({parts}, working {readable(self.working_bytes)})"
        if self.home == "device":
            return f"memory plan: all in core, {total}"
        where = "host memory" if self.home == "memory" else "files"
        kept, room = readable(self.kept_bytes), readable(max(0, self.room_bytes))
        return (
            f"memory plan: by blocks, since all at once would take {total}; factors in {where}, "
            f"{kept} kept in host memory, up to {room} a block"
        )


def plan_memory(
    shape: tuple[int, int],
    num_interactions: int,
    config: MFConfig,
    backend: Backend,
    keeps_best: bool = False,
) -> MemoryPlan:
    """Return the plan for a fit of [users, items]; `keeps_best` if validation keeps a second set of factors.

    The limit is `config.memory_limit_gib` or, if that is 0, the memory of the device. It applies to what the
    fit allocates beyond what the process holds already.
    """
    on_cpu = backend.name == "cpu"
    limit = int(config.memory_limit_gib * GIB) or backend.device_memory_bytes
    device = math.inf if limit is None else _USABLE * limit
    host_bytes = limit if on_cpu else resolve("cpu").device_memory_bytes
    host = math.inf if host_bytes is None else _USABLE * host_bytes
    num_rows, longer = sum(shape), max(shape)
    factors = num_rows * config.num_factors * _element_bytes(config)
    matrices = 16 * num_interactions + 32 * num_rows  # user_items and its transpose
    both_rows = 24 * num_interactions + 20 * num_rows  # what the kernels take of them
    turned = num_rows * _width(config) * (4 + _element_bytes(config)) + longer * _width(config) * 4
    if on_cpu:  # with what making the kernels' rows takes, and a second copy of the factors
        interactions, working = matrices + both_rows + 12 * num_interactions, turned + factors
        host_need: float = interactions + factors + working
    else:
        interactions, working = both_rows, turned + _CUDA_WORKSPACE_BYTES
        host_need = matrices + both_rows + 3 * factors
    home: Home = "device"
    kept, room, least = 0, math.inf, BlockCosts.of(config).least_bytes
    least_limit = least * 4 / 3  # a quarter of a small GPU is left to long rows
    if interactions + factors + working > device or host_need > host:
        kept = matrices + 8 * longer + _SLABS_BYTES
        stored = factors * (1 + keeps_best)
        least_limit = kept + least if on_cpu else least_limit
        home = "memory" if kept + stored + max(least, host / 8) <= host else "disk"
        kept += stored if home == "memory" else 0
        room = min(host - kept, math.inf if on_cpu else device - min(_CUDA_WORKSPACE_BYTES, device / 4))
    return MemoryPlan(
        home,
        limit,
        interactions,
        factors,
        working,
        kept,
        int(min(room, 2**62)),
        least,
        math.ceil(least_limit / _USABLE),
    )


def readable(num_bytes: int) -> str:
    """Return a number of bytes as text, in MiB or GiB."""
    return f"{num_bytes / GIB:.2f} GiB" if num_bytes >= GIB else f"{num_bytes / 2**20:.1f} MiB"


def _width(config: MFConfig) -> int:
    return -(-config.num_factors // 16) * 16 + 16 * (config.objective == "explicit")


def _element_bytes(config: MFConfig) -> int:
    return 4 if config.storage == "float32" else 2
