"""Shard tables over workers: plan, initialise by row and seed alone, update in the backward pass."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import os
import zlib
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import ShardingPlan
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.keyed import KeyedOptimizer
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from shopsight.training.recommend.embedding.config import LoopConfig

_LEAST_COLUMNS = 32  # of a column-wise shard
_LEAST_ROWS = 8  # of a row-wise shard
_WHOLE = "table_wise"
_BLOCK_ROWS = 65_536
_OPTIMIZERS: dict[str, tuple[Any, dict[str, float]]] = {
    "sgd": (torch.optim.SGD, {}),
    "adagrad": (torch.optim.Adagrad, {"eps": 1e-8}),
    "rowwise_adagrad": (RowWiseAdagrad, {"eps": 1e-8}),
}


class BagSharder(EmbeddingBagCollectionSharder):  # type: ignore[misc]
    """Offers the planner the ways of a configuration, row-wise on CPUs among them, and whole tables."""

    def __init__(self, ways: tuple[str, ...]) -> None:
        super().__init__()
        self._ways = ways

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """The ways that are allowed, on any device."""
        del compute_device_type
        return list({*self._ways, _WHOLE})


def planned(model: nn.Module, config: LoopConfig, world_size: int, device: str) -> EmbeddingShardingPlanner:
    """The planner for a model whose tables lie on the meta device; call its `plan` or `collective_plan`.

    Every table is held to a fused kernel: a data-parallel one would silently lose its optimiser.
    """
    topology = Topology(
        world_size=world_size,
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", world_size)),
        compute_device=device,
    )
    constraints = {
        table.name: ParameterConstraints(
            sharding_types=ways_of(table, config, world_size),
            compute_kernels=[EmbeddingComputeKernel.FUSED.value],
            min_partition=_LEAST_COLUMNS,
        )
        for table in tables_of(model)
    }
    return EmbeddingShardingPlanner(
        topology=topology,
        batch_size=max(1, config.batch_size // world_size),
        constraints=constraints,
    )


def ways_of(table: EmbeddingBagConfig, config: LoopConfig, world_size: int) -> list[str]:
    """The ways in which a table may be laid over the workers.

    A table of few rows stays whole, whatever the configuration: the kernels do not take a worker without a
    row.
    """
    is_small = table.num_embeddings < _LEAST_ROWS * world_size
    return [_WHOLE] if is_small else list(config.sharding)


def tables_of(model: nn.Module) -> list[EmbeddingBagConfig]:
    """The tables of a model."""
    bags = [module for module in model.modules() if isinstance(module, EmbeddingBagCollection)]
    return [table for bag in bags for table in bag.embedding_bag_configs()]


def sharded(model: nn.Module, config: LoopConfig, device: torch.device) -> DistributedModelParallel:
    """Shard a model over the workers of the process group; collective.

    Rows start at values that depend on seed, table and row alone: on any number of workers the model is the
    same, and no worker ever holds a whole table.
    """
    kind, extra = _OPTIMIZERS[config.embedding_optimizer]
    for module in model.modules():
        if isinstance(module, EmbeddingBagCollection):
            settings = {"lr": config.embedding_learning_rate, **extra}
            apply_optimizer_in_backward(kind, module.parameters(), settings)
    sharder: Any = BagSharder(config.sharding)
    plan: ShardingPlan = planned(model, config, dist.get_world_size(), device.type).collective_plan(
        model, [sharder], dist.group.WORLD
    )
    wrapped = DistributedModelParallel(model, plan=plan, sharders=[sharder], device=device)
    for name, table in wrapped.state_dict().items():
        for shard in _shards(table):
            _start(shard.tensor, name, shard.metadata.shard_offsets, table.size(), config.seed)
    return wrapped


def tables_optimizer(model: DistributedModelParallel) -> KeyedOptimizer:
    """The optimiser that runs in the backward pass of the tables."""
    fused = model.fused_optimizer
    assert isinstance(fused, KeyedOptimizer)
    return fused


def _shards(table: Any) -> list[Any]:
    return list(table.local_shards()) if hasattr(table, "local_shards") else []


def _start(shard: Tensor, name: str, offsets: list[int], shape: torch.Size, seed: int) -> None:
    """Fill a shard with its part of the table's start: even in ±1/√dim, drawn in blocks of rows."""
    (first, column), (rows, columns) = offsets, shard.shape
    bound = shape[1] ** -0.5
    for block in range(first // _BLOCK_ROWS, -(-(first + rows) // _BLOCK_ROWS)):
        begin = block * _BLOCK_ROWS
        size = min(_BLOCK_ROWS, shape[0] - begin)
        draw = np.random.default_rng([seed, zlib.crc32(name.encode()), block]).random(
            (size, shape[1]), dtype=np.float32
        )
        low, high = max(first, begin), min(first + rows, begin + size)
        part = (draw[low - begin : high - begin, column : column + columns] * 2 - 1) * bound
        shard[low - first : high - first].copy_(torch.from_numpy(part.astype(np.float32)))
