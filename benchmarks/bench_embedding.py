"""Examples a second of the two towers: TorchRec's loop beside the same model in plain torch, 1 and 2 workers.

RecTools' DSSM lives in an environment of its own (pip install "rectools[torch]==0.19.0"); its python is named
by $SHOPSIGHT_RECTOOLS_PYTHON, without one the peer is left out. It is another model: one example a customer
and epoch, dense one-hot inputs, a triplet loss; what both have in common is what they are for.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn

from benchmarks.runner import Report
from shopsight.training.data.column_files import Order
from shopsight.training.recommend.embedding.config import FeatureConfig, LoopConfig, TwoTowerConfig
from shopsight.training.recommend.embedding.examples import Examples, Features, write_examples
from shopsight.training.recommend.embedding.fitting import fit
from shopsight.training.recommend.embedding.group import process_group
from shopsight.training.recommend.embedding.inputs import customer_keys, item_keys
from shopsight.training.recommend.embedding.retrieval_task import TwoTowerTask
from shopsight.training.recommend.embedding.two_tower import Tower

PEER_VARIABLE = "SHOPSIGHT_RECTOOLS_PYTHON"
NUM_CUSTOMERS, NUM_ITEMS, NUM_EVENTS = 10_000, 20_000, 60_000
ROUNDS, EPOCHS = 3, 3  # the first epoch of a fit is left out
LOOP = LoopConfig(epochs=EPOCHS, batch_size=1024, patience=0)
CONFIG = TwoTowerConfig(dim=64, num_negatives=1024, loop=LOOP)
FEATURES = FeatureConfig()


class PlainTowers(nn.Module):
    """The same tables and towers from `nn.EmbeddingBag` with sparse gradients."""

    def __init__(self, task: TwoTowerTask) -> None:
        super().__init__()
        schema = task._examples.schema
        rows = schema.num_items + schema.item_buckets
        self.history = nn.EmbeddingBag(rows, CONFIG.dim, mode="mean", sparse=True)
        self.item = nn.EmbeddingBag(rows, CONFIG.dim, mode="sum", sparse=True)
        for table in (self.history, self.item):
            nn.init.uniform_(table.weight, -(CONFIG.dim**-0.5), CONFIG.dim**-0.5)
        self.customer_tower = Tower(len(customer_keys(schema)), CONFIG.dim, CONFIG.layers)
        self.item_tower = Tower(len(item_keys(schema)), CONFIG.dim, CONFIG.layers)

    def forward(self, customers: Any, items: Any) -> tuple[Tensor, Tensor]:
        """Vectors of customers and of items."""
        parts = customers.to_dict().values()
        bags = torch.cat([self.history(part.values(), part.offsets()[:-1]) for part in parts], dim=1)
        (own,) = items.to_dict().values()
        return self.customer_tower(bags), self.item_tower(self.item(own.values(), own.offsets()[:-1]))


def run(report: Report) -> None:
    """Alternate the variants, each in fresh processes."""
    with tempfile.TemporaryDirectory(prefix="bench-embedding-") as folder:
        _write(Path(folder))
        rates: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            variants: dict[str, Callable[[], list[float]]] = {
                "1 worker": lambda: _spawned(folder, 1, False),
                "plain torch": lambda: _spawned(folder, 1, True),
                "2 workers": lambda: _spawned(folder, 2, False),
                "RecTools DSSM": lambda: _rectools(folder),
            }
            for name in variants if number % 2 else reversed(variants):
                rates.setdefault(name, []).extend(seconds := variants[name]())
                report.say(f"round {number + 1}, {name}: {seconds}")
    about = {"events": NUM_EVENTS, "items": NUM_ITEMS, "dim": CONFIG.dim, "loop": asdict(LOOP)}
    for case, peer in (
        ("two towers, one worker", "plain torch"),
        ("two towers, one worker", "RecTools DSSM"),
        ("two towers, two workers", "1 worker"),
    ):
        ours, theirs = rates["2 workers" if "two workers" in case else "1 worker"], rates[peer]
        if theirs:
            shown = {"plain torch": "nn.EmbeddingBag in plain torch", "1 worker": "one worker"}.get(
                peer, peer
            )
            report.add_times(case, shown, ours, theirs, "microseconds an example", "us", **about)


def _spawned(folder: str, workers: int, plain: bool) -> list[float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = Path(folder) / f"{time.monotonic_ns()}.json"
    multiprocessing.spawn(_rank, (workers, port, folder, str(said), plain), nprocs=workers)
    found: list[float] = json.loads(said.read_text())
    return found


def _rank(rank: int, workers: int, port: int, folder: str, said: str, plain: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    examples = Examples.open(Path(folder) / "data")
    task = TwoTowerTask("towers", examples, FEATURES, CONFIG, data_sha256="")
    seconds = _fit_plain(task) if plain else _fit_ours(task, Path(said).with_suffix(""))
    if rank == 0:
        Path(said).write_text(json.dumps([1e6 * one / task.num_examples for one in seconds[1:]]))
    dist.barrier()
    dist.destroy_process_group()


def _fit_ours(task: TwoTowerTask, folder: Path) -> list[float]:
    return [one.seconds for one in fit(task, LOOP, folder).reports]


def _fit_plain(task: TwoTowerTask) -> list[float]:
    """The same steps with the optimisers of torch."""
    torch.manual_seed(0)
    model = PlainTowers(task)
    tables = [model.history.weight, model.item.weight]
    rest = [*model.customer_tower.parameters(), *model.item_tower.parameters()]
    optimizers = [
        torch.optim.Adagrad(tables, lr=LOOP.embedding_learning_rate),
        torch.optim.Adam(rest, lr=LOOP.learning_rate),
    ]
    seconds = []
    with process_group() as group:
        for epoch in range(EPOCHS):
            began = time.monotonic()
            order = Order(task.num_examples, LOOP.batch_size, LOOP.seed, epoch)
            for step in range(order.num_steps):
                loss = task.loss(model, order.batch(step), (LOOP.seed, epoch, step), group)
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                for optimizer in optimizers:
                    optimizer.step()
            seconds.append(time.monotonic() - began)
    return seconds


def _rectools(folder: str) -> list[float]:
    python = os.environ.get(PEER_VARIABLE)
    if not python:
        return []
    script = Path(__file__).with_name("two_tower_peer.py")
    events = str(Path(folder) / "events.csv")
    done = subprocess.run(
        [python, str(script), events, str(EPOCHS), str(CONFIG.dim), "1024"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return [1e6 * one / told["examples"] for one in told["seconds"][1:]]


def _write(folder: Path) -> None:
    """Events of customers who do something again and again, over items as popular as in a shop."""
    rng = np.random.default_rng(0)
    popularity = rng.zipf(1.2, NUM_EVENTS * 2)
    drawn: Any = popularity[popularity <= NUM_ITEMS][:NUM_EVENTS] - 1
    customer = rng.integers(0, NUM_CUSTOMERS, len(drawn))
    pl.DataFrame({"customer": customer, "item": drawn}).write_csv(folder / "events.csv")
    write_examples(
        folder / "data",
        customer=customer,
        item=drawn,
        time=np.arange(len(drawn)),
        is_target=np.ones(len(drawn), dtype=bool),
        item_ids=[f"i{number}" for number in range(NUM_ITEMS)],
        customer_features=Features.none(NUM_CUSTOMERS),
        item_features=Features.none(NUM_ITEMS),
        item_buckets=FEATURES.item_buckets,
    )
