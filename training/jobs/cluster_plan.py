"""Plans the cluster that the training of a shop's two-tower model needs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from shopsight.training.jobs.errors import JobError
from shopsight.training.jobs.sizing import GIB, MOST_WORKERS, Sizing

if TYPE_CHECKING:
    from shopsight.training.jobs.table_plan import Load, TablePlan


class DoesNotFit(JobError):  # noqa: N818 - reads as what is the case
    """The tables do not fit the cluster; the message says what would."""


@dataclass(frozen=True)
class Plan:
    """Placement of the tables, load of each worker, and the limiting resource."""

    sizing: Sizing
    tables: tuple[TablePlan, ...]
    loads: tuple[Load, ...]
    dense_allreduce_bytes: int

    @property
    def memory_share(self) -> float:
        """The used share of the fullest GPU's memory after the reserve."""
        return self.fullest_bytes / self.sizing.usable_bytes

    @property
    def fullest_bytes(self) -> int:
        """Bytes on the fullest GPU: its shards with their inputs and outputs, and the dense part."""
        return max(load.device_bytes for load in self.loads) + self.sizing.dense_bytes

    @property
    def step(self) -> dict[str, float]:
        """Milliseconds of the slowest worker: looking rows up, and moving them between workers."""
        slowest = max(self.loads, key=lambda load: load.lookup_ms + load.communication_ms)
        return {"lookup_ms": slowest.lookup_ms, "communication_ms": slowest.communication_ms}

    @property
    def binding(self) -> str:
        """The limiting resource, of which a larger cluster must have more."""
        if self.memory_share > 0.9:
            return "GPU memory"
        step = self.step
        if step["lookup_ms"] >= step["communication_ms"]:
            return "GPU memory bandwidth"
        if self.sizing.workers <= self.sizing.gpus_per_node:
            return "links between the GPUs of a node"
        busiest = max(self.loads, key=lambda load: load.communication_ms)
        inter = busiest.inter_node_bytes / self.sizing.inter_node_gbs
        return (
            "network between nodes"
            if inter >= busiest.intra_node_bytes / self.sizing.intra_node_gbs
            else "links between the GPUs of a node"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: all of it."""
        return {
            "sizing": asdict(self.sizing),
            "tables": [asdict(table) for table in self.tables],
            "workers": [asdict(load) for load in self.loads],
            "table_bytes": self.sizing.table_bytes,
            "optimizer_bytes": self.sizing.optimizer_bytes,
            "dense_bytes": self.sizing.dense_bytes,
            "usable_bytes": self.sizing.usable_bytes,
            "fullest_bytes": self.fullest_bytes,
            "memory_share": self.memory_share,
            "dense_allreduce_bytes": self.dense_allreduce_bytes,
            "step": self.step,
            "binding": self.binding,
        }


def plan(sizing: Sizing) -> Plan:
    """Plan the tables on the cluster; raises DoesNotFit with the reason and how many workers suffice."""
    from shopsight.training.jobs.table_plan import plan_tables  # torch takes seconds to import

    found = plan_tables(sizing)
    if found is None:
        raise DoesNotFit(_refusal(sizing))
    # A ring: each worker sends every gradient almost twice.
    dense = round(2 * (sizing.workers - 1) / sizing.workers * 4 * sizing.dense_parameters)
    return Plan(sizing, tuple(found[0]), tuple(found[1]), dense)


def enough_workers(sizing: Sizing) -> int | None:
    """Return the smallest sufficient number of workers, in whole nodes; None if above MOST_WORKERS."""
    from shopsight.training.jobs.table_plan import plan_tables  # torch takes seconds to import

    whole = sizing.gpus_per_node
    room = sizing.usable_bytes - sizing.dense_bytes + int(sizing.host_memory_gib * GIB)
    if room <= 0:
        return None
    nodes = max(1, math.ceil((sizing.table_bytes + sizing.optimizer_bytes) / room / whole))
    while nodes * whole <= MOST_WORKERS:
        if plan_tables(replace(sizing, workers=nodes * whole)):
            return nodes * whole
        nodes += max(1, nodes // 8)
    return None


def _refusal(sizing: Sizing) -> str:
    held = sizing.table_bytes + sizing.optimizer_bytes
    words = (
        f"does not fit, GPU memory binds: tables {_gib(sizing.table_bytes)} and {sizing.optimizer} state "
        f"{_gib(sizing.optimizer_bytes)} on {sizing.workers} workers are {_gib(held / sizing.workers)} each, "
        f"beside {_gib(sizing.dense_bytes)} of dense layers and the step's own rows; a GPU of "
        f"{sizing.gpu_memory_gib:g} GiB has {_gib(sizing.usable_bytes)} after the reserve"
    )
    enough = enough_workers(sizing)
    if enough is None:
        return f"{words}; no number of workers up to {MOST_WORKERS} would do: lower batch_size or dim"
    return f"{words}; remedy: {enough} workers would do, or a smaller dim, float16 tables or --host-memory"


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:,.1f} GiB"
