"""A small data-parallel training for tests: what a process group computes, kept after every epoch."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from serving.durable import write_text

EPOCHS, GLOBAL_BATCH, WIDTH = 6, 12, 8


def fit(folder: str, fault: str, say: Callable[[str], None]) -> dict[str, float]:
    """Least squares by full gradients over a batch that the workers share; returns loss, resumes, workers.

    fault: "" for none; "kill" ends the last rank by SIGKILL in epoch 3, once; "disk" is full then.
    """
    rank, size, place = dist.get_rank(), dist.get_world_size(), Path(folder)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(GLOBAL_BATCH, WIDTH, generator=generator, dtype=torch.float64)
    wanted = inputs @ torch.arange(WIDTH, dtype=torch.float64)
    state = _read(place)
    weights = torch.tensor(state["weights"], dtype=torch.float64)
    first = int(state["epoch"])
    say(f"from epoch {first} on {size} workers")
    mine = slice(rank, None, size)
    for epoch in range(first, EPOCHS):
        _meet(fault, epoch, rank, place)
        error = inputs[mine] @ weights - wanted[mine]
        gradient = inputs[mine].T @ error / GLOBAL_BATCH
        dist.all_reduce(gradient)
        weights = weights - 0.1 * gradient
        if rank == 0:
            kept = {"epoch": epoch + 1, "weights": weights.tolist()}
            write_text(place / "state.json", json.dumps(kept))
        dist.barrier()
    loss = float(((inputs @ weights - wanted) ** 2).mean())
    return {"loss": loss, "first": first, "workers": size}


def _meet(fault: str, epoch: int, rank: int, place: Path) -> None:
    if epoch != 3:
        return
    once = place / f"{fault}.done"
    if fault == "kill" and rank == dist.get_world_size() - 1 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "disk" and rank == 0:
        (place / f"met-{time.monotonic_ns()}").touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(place / "state.json"))


def without_ray(rank: int, num_workers: int, port: int, folder: str) -> None:
    """One rank of the same fit in a plain process group; rank 0 leaves its figures in `figures.json`."""
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=num_workers)
    figures = fit(folder, "", lambda _: None)
    dist.barrier()
    dist.destroy_process_group()
    if rank == 0:
        (Path(folder) / "figures.json").write_text(json.dumps(figures))


def _read(place: Path) -> dict[str, object]:
    file = place / "state.json"
    if not file.is_file():
        return {"epoch": 0, "weights": [0.0] * WIDTH}
    return dict(json.loads(file.read_text()))
