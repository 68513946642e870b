"""What Ray costs: the two towers fitted by two workers as a Ray job, and by the same two without Ray.

Nothing of Ray is up while the others run. An epoch is timed by the loop itself, the first of each run left
out; what a run takes beside its epochs (processes, imports, Ray's own start) has a row of its own.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import multiprocessing

from benchmarks.runner import Report
from shopsight.training.jobs.cluster import Resources, connected
from shopsight.training.jobs.launch import environment, on_all_workers
from shopsight.training.recommend.embedding.config import FeatureConfig, LoopConfig, TwoTowerConfig
from shopsight.training.recommend.embedding.examples import Examples, Features, write_examples
from shopsight.training.recommend.embedding.fitting import fit
from shopsight.training.recommend.embedding.retrieval_task import TwoTowerTask

# With one worker a core is left to Ray's own processes, with two they take turns with the workers.
WORKERS, ROUNDS, EPOCHS = (1, 2), 2, 4
NUM_CUSTOMERS, NUM_ITEMS, NUM_EVENTS = 10_000, 20_000, 120_000
LOOP = LoopConfig(epochs=EPOCHS, batch_size=1024, patience=0)
CONFIG = TwoTowerConfig(dim=64, num_negatives=1024, loop=LOOP)
FEATURES = FeatureConfig()
Timed = tuple[list[float], float]  # seconds of the epochs that count, and of all else


def run(report: Report) -> None:
    """Alternate the two, each in fresh processes and from no checkpoint."""
    with tempfile.TemporaryDirectory(prefix="bench-ray-") as folder:
        _write(Path(folder) / "data")
        for num_workers in WORKERS:
            _compare(report, Path(folder), num_workers)


def _compare(report: Report, folder: Path, num_workers: int) -> None:
    seconds: dict[str, list[Timed]] = {"ray": [], "plain": []}
    for number in range(ROUNDS):
        for name in ("ray", "plain") if number % 2 else ("plain", "ray"):
            variant = _with_ray if name == "ray" else _without_ray
            seconds[name].append(_timed(variant, folder, f"{name}-{num_workers}-{number}", num_workers))
            report.say(f"round {number + 1}, {name}: {seconds[name][-1]}")
    about = {
        "workers": num_workers, "events": NUM_EVENTS, "items": NUM_ITEMS, "loop": asdict(LOOP),
        "rounds": ROUNDS,
    }  # fmt: skip
    peer, case = "the same loop without Ray", f"two towers, {num_workers} workers on CPU"
    ours, theirs = ([one for run, _ in seconds[name] for one in run] for name in ("ray", "plain"))
    report.add_times(f"{case}, an epoch", peer, ours, theirs, "seconds an epoch", **about)
    ours, theirs = ([rest for _, rest in seconds[name]] for name in ("ray", "plain"))
    report.add_times(f"{case}, all beside the epochs", peer, ours, theirs, "seconds a run", **about)


def _timed(
    variant: Callable[[Path, str, int], list[float]], folder: Path, name: str, num_workers: int
) -> Timed:
    began = time.perf_counter()
    epochs = variant(folder, name, num_workers)
    return epochs[1:], time.perf_counter() - began - sum(epochs)


def _with_ray(folder: Path, name: str, num_workers: int) -> list[float]:
    with connected("local") as ray:
        return on_all_workers(
            ray, Resources(num_workers), _fit, str(folder), name, progress=lambda _: None,
            storage=folder / "jobs" / name,
        )  # fmt: skip


def _without_ray(folder: Path, name: str, num_workers: int) -> list[float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_rank, (num_workers, port, str(folder), name), nprocs=num_workers)
    return [float(line) for line in (folder / f"{name}.txt").read_text().split()]


def _rank(rank: int, num_workers: int, port: int, folder: str, name: str) -> None:
    os.environ.update(environment(Resources(num_workers)))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=num_workers)
    epochs = _fit(folder, name, lambda _: None)
    if rank == 0:
        (Path(folder) / f"{name}.txt").write_text("\n".join(map(str, epochs)))
    dist.barrier()
    dist.destroy_process_group()


def _fit(folder: str, name: str, say: Callable[[str], None]) -> list[float]:
    examples = Examples.open(Path(folder) / "data")
    task = TwoTowerTask("towers", examples, FEATURES, CONFIG, data_sha256="")
    return [one.seconds for one in fit(task, LOOP, Path(folder) / name, progress=say).reports]


def _write(folder: Path) -> None:
    """Events of customers who do something again and again, over items as popular as in a shop."""
    rng = np.random.default_rng(0)
    popularity = rng.zipf(1.2, NUM_EVENTS * 2)
    drawn: Any = popularity[popularity <= NUM_ITEMS][:NUM_EVENTS] - 1
    write_examples(
        folder,
        customer=rng.integers(0, NUM_CUSTOMERS, len(drawn)),
        item=drawn,
        time=np.arange(len(drawn)),
        is_target=np.ones(len(drawn), dtype=bool),
        item_ids=[f"i{number}" for number in range(NUM_ITEMS)],
        customer_features=Features.none(NUM_CUSTOMERS),
        item_features=Features.none(NUM_ITEMS),
        item_buckets=FEATURES.item_buckets,
    )
