"""Runs TorchRec's planner on tables of the meta device, which take no memory, to place every shard."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import copy
import logging
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec import optim as torchrec_optim
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.shard_estimators import EmbeddingPerfEstimator
from torchrec.distributed.planner.storage_reservations import HeuristicalStorageReservation
from torchrec.distributed.planner.types import (
    BasicCommsBandwidths,
    HardwareConfig,
    KernelConfig,
    ParameterConstraints,
    Perf,
    PlannerError,
    ShardingOption,
    Topology,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.planner.utils import build_sharder_data_map, sharder_name
from torchrec.modules.embedding_configs import DataType
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

from shopsight.training.jobs.sizing import Sizing
from shopsight.training.recommend.embedding.config import SHARDINGS

GIB = 2**30
_OPTIMIZERS = {
    "sgd": torchrec_optim.SGD,
    "adagrad": torchrec_optim.Adagrad,
    "rowwise_adagrad": torchrec_optim.RowWiseAdagrad,
}
_TYPES = {"float32": DataType.FP32, "float16": DataType.FP16}
_ENDLESS = 1e30  # bytes per millisecond of a link whose time is to be ignored


@dataclass(frozen=True)
class TablePlan:
    """Placement of one table: its sharding, kernel, rows and columns of a shard, and the workers."""

    name: str
    sharding: str
    kernel: str
    rows: int
    columns: int
    num_shards: int
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Load:
    """The estimated load of one worker: bytes held, bytes sent per step, and milliseconds per step."""

    device_bytes: int = 0
    host_bytes: int = 0
    intra_node_bytes: int = 0
    inter_node_bytes: int = 0
    communication_ms: float = 0.0
    lookup_ms: float = 0.0


def plan_tables(sizing: Sizing) -> tuple[list[TablePlan], list[Load]] | None:
    """Return the placement of the tables and each worker's load; None if the planner finds no plan that fits.

    The module is a two-tower's: a table of customers, and one of items that is looked up for the candidate
    and for the history (https://pytorch.org/torchrec/planner-api-reference.html).
    """
    collection = _tables(sizing)
    sharders = [EmbeddingBagCollectionSharder()]
    constraints = _constraints(sizing)
    topology = _topology(sizing)
    planner = EmbeddingShardingPlanner(
        topology=topology,
        batch_size=sizing.batch_size,
        storage_reservation=_reservation(sizing),
        constraints=constraints,
        debug=False,
        stats=[],
    )
    logging.getLogger("torchrec").setLevel(logging.ERROR)
    try:
        planner.plan(collection, sharders)  # type: ignore[arg-type]
    except PlannerError:
        return None
    chosen = planner._best_plan or []
    return [_described(option) for option in chosen], _loads(sizing, chosen, constraints)


def _tables(sizing: Sizing) -> EmbeddingBagCollection:
    rows = {"customer": (sizing.customers, ["customer"]), "item": (sizing.items, ["candidate", "history"])}
    collection = EmbeddingBagCollection(
        device=torch.device("meta"),
        tables=[
            EmbeddingBagConfig(
                name=name,
                num_embeddings=count,
                embedding_dim=sizing.dim,
                feature_names=features,
                data_type=_TYPES[sizing.dtype],
            )
            for name, (count, features) in rows.items()
        ],
    )
    apply_optimizer_in_backward(_OPTIMIZERS[sizing.optimizer], collection.parameters(), {"lr": 0.1})
    return collection


def _constraints(sizing: Sizing) -> dict[str, ParameterConstraints]:
    kernels = [EmbeddingComputeKernel.FUSED.value]
    if sizing.host_memory_gib:
        kernels += [EmbeddingComputeKernel.FUSED_UVM_CACHING.value, EmbeddingComputeKernel.FUSED_UVM.value]
    shared = {"sharding_types": list(SHARDINGS), "compute_kernels": kernels}
    return {
        "customer": ParameterConstraints(pooling_factors=[1.0], **shared),  # type: ignore[arg-type]
        "item": ParameterConstraints(
            pooling_factors=[1.0, float(sizing.history_length)],
            **shared,  # type: ignore[arg-type]
        ),
    }


def _topology(sizing: Sizing, links: BasicCommsBandwidths | None = None) -> Topology:
    per_ms = 1e9 / 1000
    return TopologyFactory.create_topology(
        TrainerConfig(
            world_size=sizing.workers,
            local_world_size=min(sizing.gpus_per_node, sizing.workers),
            hbm_cap_bytes=int(sizing.gpu_memory_gib * GIB),
            ddr_cap_bytes=int(sizing.host_memory_gib * GIB),
        ),
        HardwareConfig(
            intra_host_bw=sizing.intra_node_gbs * per_ms,
            inter_host_bw=sizing.inter_node_gbs * per_ms,
            hbm_mem_bw=sizing.gpu_bandwidth_gbs * per_ms,
        ),
        KernelConfig(
            compute_device="cuda",
            use_hardware_based_bandwidth=True,  # otherwise the planner ignores the bandwidths above
            generalized_comms_bandwidths=links,
        ),
    )


def _reservation(sizing: Sizing) -> HeuristicalStorageReservation:
    with warnings.catch_warnings():
        # It warns about its own estimate of the dense part, which is given here.
        warnings.simplefilter("ignore", FutureWarning)
        return HeuristicalStorageReservation(sizing.reserve, dense_tensor_estimate=sizing.dense_bytes)


def _described(option: ShardingOption) -> TablePlan:
    rows, columns = (max(shard.size[axis] for shard in option.shards) for axis in (0, 1))
    ranks = tuple(int(shard.rank or 0) for shard in option.shards)
    return TablePlan(
        option.name, option.sharding_type, option.compute_kernel, rows, columns, len(option.shards), ranks
    )


def _loads(
    sizing: Sizing, plan: list[ShardingOption], constraints: dict[str, ParameterConstraints]
) -> list[Load]:
    """Bytes over a link are what its time would be at one byte a millisecond, all else taking none."""
    time = _perf(plan)
    device: dict[int, int] = defaultdict(int)
    host: dict[int, int] = defaultdict(int)
    for option in plan:
        for shard in option.shards:
            assert shard.storage is not None and shard.rank is not None
            device[shard.rank] += shard.storage.hbm
            host[shard.rank] += shard.storage.ddr
    intra, inter = (
        _perf(_estimated(sizing, plan, constraints, BasicCommsBandwidths(inter_gap, intra_gap)))
        for inter_gap, intra_gap in ((_ENDLESS, 1.0), (1.0, _ENDLESS))
    )
    return [
        Load(
            device_bytes=device[rank],
            host_bytes=host[rank],
            intra_node_bytes=round(_communication(intra[rank])),
            inter_node_bytes=round(_communication(inter[rank])),
            communication_ms=_communication(time[rank]),
            lookup_ms=time[rank].fwd_compute + time[rank].bwd_compute,
        )
        for rank in range(sizing.workers)
    ]


def _estimated(
    sizing: Sizing,
    plan: list[ShardingOption],
    constraints: dict[str, ParameterConstraints],
    links: BasicCommsBandwidths,
) -> list[ShardingOption]:
    topology = _topology(replace(sizing, gpu_bandwidth_gbs=_ENDLESS), links)
    options, sharder = copy.deepcopy(plan), EmbeddingBagCollectionSharder()
    sharders = build_sharder_data_map({sharder_name(sharder.module_type): sharder})  # type: ignore[dict-item]
    EmbeddingPerfEstimator(topology, constraints).estimate(options, sharders)
    return options


def _perf(plan: list[ShardingOption]) -> dict[int, Perf]:
    """Return the time of all shards of a worker together, in milliseconds per step."""
    total: dict[int, Perf] = defaultdict(lambda: Perf(0.0, 0.0, 0.0, 0.0))
    for option in plan:
        for shard in option.shards:
            assert shard.perf is not None and shard.rank is not None
            total[shard.rank] += shard.perf
    return total


def _communication(perf: Perf) -> float:
    return float(perf.input_dist_comms + perf.fwd_comms + perf.bwd_comms)
