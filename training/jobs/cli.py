"""Verbs and options for work on a cluster; nothing heavy is imported before a verb needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import typer

app = typer.Typer()

NumWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--num-workers",
        help="Train on this many Ray workers; a family that is not data-parallel takes one. Left away: here.",
        min=1,
    ),
]
CpusOption = Annotated[int, typer.Option("--cpus-per-worker", help="CPUs, and threads, of a worker.", min=1)]
UseGpuOption = Annotated[bool, typer.Option("--use-gpu", help="Give each worker one GPU (NCCL).")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="host:port of a Ray cluster's head, or 'auto'; default RAY_ADDRESS, else one of its own, here."
    ),
]


@contextmanager
def trainer(
    num_workers: int | None, cpus_per_worker: int, use_gpu: bool, address: str | None
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Yield what trains a family: `families.train`, or the same as a job where workers were asked for."""
    if num_workers is None and not use_gpu and address is None:
        from training import families

        yield families.train
        return
    from training.jobs import trainings
    from training.jobs.cluster import Resources, connected

    resources = Resources(num_workers or 1, cpus_per_worker, use_gpu, address)
    with connected(address) as ray:
        yield partial(trainings.train, ray, resources)
