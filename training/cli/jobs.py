"""Commands and options for work on a cluster; heavy libraries are imported when a command needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shopsight.serving.terminal_progress import TerminalProgress
from shopsight.training.cli.options import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    RecipeOption,
    SetOption,
    WorkspaceOption,
    console_for,
    print_json,
    resolved,
)
from shopsight.training.pipeline.families import FAMILIES

app = typer.Typer()
_SEARCHED = ", ".join(family.name for family in FAMILIES if family.search)

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
    """Yield the function that trains a family: `steps.train`, or a Ray job if workers are requested."""
    if num_workers is None and not use_gpu and address is None:
        from shopsight.training.pipeline import steps

        yield steps.train
        return
    from shopsight.training.jobs import trainings
    from shopsight.training.jobs.cluster import Resources, connected

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
    as_json: JsonOption = False,
) -> None:
    """Size a cluster before renting it: sharding of the tables, memory of each GPU, bytes of each step.

    Example: shopsight plan --customers 1e9 --items 1e8 --dim 128 --workers 64
    """
    from shopsight.training.jobs.cluster_plan import plan as run
    from shopsight.training.jobs.plan_page import print_plan
    from shopsight.training.jobs.sizing import Sizing, whole_number

    sizing = Sizing(
        customers=whole_number(customers, "customers"),
        items=whole_number(items, "items"),
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


@app.command()
def tune(
    family: Annotated[str, typer.Argument(help=f"A family with a search: {_SEARCHED}.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    recipe: RecipeOption = "default",
    config: ConfigOption = None,
    settings: SetOption = None,
    space: Annotated[
        Path | None, typer.Option(help="TOML: each setting with a list of choices or {low, high}.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Settings to try.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Same seed, same settings.")] = 0,
    num_workers: Annotated[int, typer.Option("--num-workers", help="Trials at once.", min=1)] = 2,
    cpus_per_worker: CpusOption = 1,
    use_gpu: UseGpuOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for better settings on a Ray cluster, on the validation window; weak trials stop early.

    Example: shopsight tune embedding --workspace shop/workspace --trials 20 --num-workers 4
    """
    from dataclasses import asdict

    from shopsight.training.jobs.cluster import Resources, connected
    from shopsight.training.jobs.search import SearchConfig, search
    from shopsight.training.jobs.space import read_space, searched

    console, (where, over) = console_for(as_json), resolved(workspace, recipe, config, settings)
    resources = Resources(num_workers, cpus_per_worker, use_gpu, address)
    wanted = read_space(space) if space else searched(family).space
    with connected(address) as ray:
        found = search(
            ray, resources, where, over, family, wanted,
            SearchConfig(num_trials=trials, seed=seed), TerminalProgress(console),
        )  # fmt: skip
    if as_json:
        print_json([asdict(trial) for trial in found])
        return
    table = Table(title=f"{len(found)} trials, best first")
    for column in ("trial", found[0].metric, "epochs", "status", "settings"):
        table.add_column(column)
    for one in found:
        words = ", ".join(f"{key.split('.', 1)[-1]} {value}" for key, value in one.settings.items())
        score = "" if one.best is None else f"{one.best:.4f}"
        table.add_row(one.name, score, str(one.epochs), one.status, words)
    console.print(table)
