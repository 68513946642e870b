"""How much memory a factorisation will take, said before it takes it."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.backend import Backend
from training.recommend.objective import MFConfig


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device that trains: interactions of both sides, factors, and what a half step works in."""

    interactions_bytes: int
    factors_bytes: int
    working_bytes: int
    limit_bytes: int | None

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.interactions_bytes + self.factors_bytes + self.working_bytes

    @property
    def fits(self) -> bool:
        """Whether a tenth of the device's memory stays free."""
        return self.limit_bytes is None or self.total_bytes <= 0.9 * self.limit_bytes

    def __str__(self) -> str:
        limit = "unknown" if self.limit_bytes is None else _gib(self.limit_bytes)
        return (
            f"memory plan: interactions {_gib(self.interactions_bytes)}, factors {_gib(self.factors_bytes)}, "
            f"working {_gib(self.working_bytes)}, together {_gib(self.total_bytes)} of {limit}"
        )


def plan_memory(
    num_users: int, num_items: int, num_interactions: int, config: MFConfig, backend: Backend
) -> MemoryPlan:
    """The plan for one fit."""
    element = 4 if config.storage == "float32" else 2
    rows = num_users + num_items
    return MemoryPlan(
        # indices, weight and target of both sides, 4 bytes each; indptr and regularization a row
        interactions_bytes=2 * 12 * num_interactions + 12 * rows,
        factors_bytes=rows * config.num_factors * element,
        # the fixed side turned, and the solved side, in float32
        working_bytes=rows * config.num_factors * 4,
        limit_bytes=backend.device_memory_bytes,
    )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
