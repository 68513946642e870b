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


@app.command()
def plan(
    customers: Annotated[float, typer.Option(help="Customers of the shop, 1e9 is fine.", min=1)],
    items: Annotated[float, typer.Option(help="Items of the shop.", min=1)],
    dim: Annotated[int, typer.Option(help="Numbers in an embedding.")] = 128,
    workers: Annotated[int, typer.Option(help="Workers, one GPU each.", min=1)] = 8,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs of one node.")] = 8,
    gpu_memory: Annotated[float, typer.Option(help="GiB of a GPU.")] = 80.0,
    host_memory: Annotated[float, typer.Option(help="GiB of host memory a worker, for tables; 0: none.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Examples of a worker's step.")] = 8192,
    history: Annotated[int, typer.Option(help="Items of a customer's history.")] = 50,
    optimizer: Annotated[str, typer.Option(help="Of the tables: rowwise_adagrad, adagrad, sgd.")] = (
        "rowwise_adagrad"
    ),
    dtype: Annotated[str, typer.Option(help="Of the tables: float32 or float16.")] = "float32",
    intra_node: Annotated[float, typer.Option(help="GB/s of a GPU's links in its node.")] = 450.0,
    inter_node: Annotated[float, typer.Option(help="GB/s of a GPU's share of the network.")] = 50.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Size a cluster before renting it: sharding of the tables, memory of each GPU, bytes of each step.

    Example: shopsight plan --customers 1e9 --items 1e8 --dim 128 --workers 64
    """
    from training.jobs.plan_page import print_plan
    from training.jobs.sizing import Sizing
    from training.jobs.sizing import plan as run

    sizing = Sizing(
        customers=int(customers),
        items=int(items),
        dim=dim,
        workers=workers,
        gpus_per_node=gpus_per_node,
        gpu_memory_gib=gpu_memory,
        host_memory_gib=host_memory,
        batch_size=batch_size,
        history_length=history,
        optimizer=optimizer,
        dtype=dtype,
        intra_node_gbs=intra_node,
        inter_node_gbs=inter_node,
    )
    print_plan(run(sizing), as_json)
