"""The sizes of a shop, a model and a cluster, as input of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise

from shopsight.training.jobs.errors import JobError
from shopsight.training.recommend.embedding.config import OPTIMIZERS

GIB = 2**30
MOST_WORKERS = 4096
MOST_ROWS = 10**12  # of a table, a hundred times the world population
MOST_SIZE = 10**7  # of any other count
DTYPES = {"float32": 4, "float16": 2}
_HIDDEN = (512, 256)  # of a dense tower, as wide as ours are


def whole_number(value: float, name: str) -> int:
    """Return a count, which may be written as 1e9; raises JobError if it is not a finite whole number."""
    if not math.isfinite(value) or value != int(value):
        raise JobError(f"{name} is {value:g}; it must be a whole number, such as 1e9")
    return int(value)


@dataclass(frozen=True)
class Sizing:
    """A shop, a model, and the machines to train it on; the defaults are one node with eight H100.

    batch_size: examples per worker and step. history_length: pooled items of a customer's history.
    host_memory_gib: host memory per worker for tables, in GiB (0: no tables in host memory). intra_node_gbs,
    inter_node_gbs, gpu_bandwidth_gbs: bandwidth of a GPU's links and memory, in 1e9 bytes per second.
    reserve: share of GPU memory reserved for fragmentation, CUDA and NCCL.
    """

    customers: int
    items: int
    dim: int = 128
    workers: int = 8
    gpus_per_node: int = 8
    gpu_memory_gib: float = 80.0
    host_memory_gib: float = 0.0
    batch_size: int = 8192
    history_length: int = 50
    optimizer: str = "rowwise_adagrad"
    dtype: str = "float32"
    intra_node_gbs: float = 450.0
    inter_node_gbs: float = 50.0
    gpu_bandwidth_gbs: float = 3350.0
    reserve: float = 0.15

    def __post_init__(self) -> None:
        for name in ("customers", "items", "dim", "workers", "gpus_per_node", "batch_size", "history_length"):
            value, most = getattr(self, name), MOST_ROWS if name in ("customers", "items") else MOST_SIZE
            if not 1 <= value <= most:
                raise JobError(f"{name} is {value:g}; it must lie between 1 and {most:,}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise JobError(f"{field.name} is {value}; it must be a finite number")
        if self.dim % 4:
            raise JobError(f"dim is {self.dim}; the kernels take multiples of 4")
        if self.optimizer not in OPTIMIZERS or self.dtype not in DTYPES:
            raise JobError(
                f"optimizer {self.optimizer!r} must be one of {', '.join(OPTIMIZERS)}, "
                f"dtype {self.dtype!r} one of {', '.join(DTYPES)}"
            )
        if self.workers > self.gpus_per_node and self.workers % self.gpus_per_node:
            raise JobError(f"{self.workers} workers do not fill nodes of {self.gpus_per_node} GPUs")
        if min(self.gpu_memory_gib, self.intra_node_gbs, self.inter_node_gbs, self.gpu_bandwidth_gbs) <= 0:
            raise JobError("memory and bandwidths must be above 0")
        if not 0 <= self.reserve < 1 or self.host_memory_gib < 0:
            raise JobError("reserve must be within [0, 1), host_memory_gib 0 or above")

    @property
    def table_bytes(self) -> int:
        """Bytes of both tables, without the optimiser's state."""
        return (self.customers + self.items) * self.dim * DTYPES[self.dtype]

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the optimiser's state: one number per row, one per weight, or none."""
        rows = self.customers + self.items
        each = {"rowwise_adagrad": rows, "adagrad": rows * self.dim, "sgd": 0}
        return each[self.optimizer] * DTYPES[self.dtype]

    @property
    def dense_parameters(self) -> int:
        """Weights and biases of two towers, replicated on every worker."""
        widths = (2 * self.dim, *_HIDDEN, self.dim)
        return 2 * sum(a * b + b for a, b in pairwise(widths))

    @property
    def dense_bytes(self) -> int:
        """Bytes of towers with gradients, two moments and DDP's buckets, and twice the in-batch logits."""
        activations = 2 * self.batch_size * (2 * self.dim + sum(_HIDDEN) + self.dim) * 2
        logits = 2 * self.batch_size**2
        return 4 * (5 * self.dense_parameters + activations + logits)

    @property
    def usable_bytes(self) -> int:
        """Bytes of a GPU's memory after the reserve."""
        return int((1 - self.reserve) * self.gpu_memory_gib * GIB)
