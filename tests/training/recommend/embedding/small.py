"""A shop of tastes as columns, small settings, and workers as processes of their own (gloo)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from scipy import sparse
from torch import multiprocessing

from shopsight.training.recommend.embedding.config import FeatureConfig, LoopConfig, TwoTowerConfig
from shopsight.training.recommend.embedding.examples import Examples, Features, write_examples
from shopsight.training.recommend.embedding.retrieval_task import Asked, TwoTowerTask

NUM_CUSTOMERS, NUM_ITEMS, GROUPS = 60, 36, 4
FEATURES = FeatureConfig(max_history=8, num_recent=3, item_buckets=5, bucket_share=0.1)
LOOP = LoopConfig(epochs=3, batch_size=50, learning_rate=0.01, embedding_learning_rate=0.1, patience=0)
CONFIG = TwoTowerConfig(dim=64, layers=(16,), num_negatives=11, loop=LOOP)


def tastes(folder: Path, seed: int = 0, item_ids: list[str] | None = None) -> Examples:
    """Write and map events of customers who like one group of items each; items 34 and 35 nobody touched."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 12, NUM_CUSTOMERS)
    customer = np.repeat(np.arange(NUM_CUSTOMERS), lengths)
    liked = customer % GROUPS + GROUPS * rng.integers(0, 8, len(customer))
    item = np.where(rng.random(len(customer)) < 0.9, liked, rng.integers(0, 34, len(customer)))
    write_examples(
        folder,
        customer=customer,
        item=item,
        time=np.arange(len(customer)),
        is_target=np.ones(len(customer), dtype=bool),
        item_ids=item_ids or [f"i{number}" for number in range(NUM_ITEMS)],
        customer_features=Features(
            ("country",), (4,), (1 + np.arange(NUM_CUSTOMERS) % 3).astype(np.int32)[:, None]
        ),
        item_features=Features(
            ("group",), (GROUPS + 1,), (1 + np.arange(NUM_ITEMS) % GROUPS).astype(np.int32)[:, None]
        ),
        item_buckets=FEATURES.item_buckets,
    )
    return Examples.open(folder)


def asked(examples: Examples) -> Asked:
    """Everybody is asked for the items of their taste."""
    customer = np.arange(NUM_CUSTOMERS)
    relevant = sparse.csr_matrix((customer[:, None] % GROUPS == np.arange(NUM_ITEMS) % GROUPS).astype(float))
    return Asked(customer, examples.end[:-1], examples.end[1:], relevant, k=5)


def task(examples: Examples, config: TwoTowerConfig = CONFIG, **settings: Any) -> TwoTowerTask:
    """The task of the shop of tastes."""
    about: dict[str, Any] = {"data_sha256": "d", "asked": asked(examples)} | settings
    return TwoTowerTask("towers", examples, FEATURES, config, **about)


def ways(config: TwoTowerConfig, *sharding: str, **loop: Any) -> TwoTowerConfig:
    """The same settings with tables sharded in these ways."""
    return replace(config, loop=replace(config.loop, sharding=sharding, **loop))


def in_workers(num: int, work: Callable[..., None], *arguments: Any) -> None:
    """Run work(*arguments) in `num` spawned processes that form a gloo group; raises what any of them did."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(
        _worker, args=(num, port, work, arguments), nprocs=num, start_method="spawn"
    )


def _worker(rank: int, num: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["NUMBA_NUM_THREADS"] = "1"
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=num)
    work(*arguments)
    dist.barrier()
    time.sleep(0.1 * rank)
    dist.destroy_process_group()
