"""Prints a cluster plan."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from shopsight.training.jobs.cluster_plan import Plan
from shopsight.training.jobs.sizing import GIB


def print_plan(plan: Plan, as_json: bool) -> None:
    """Print a plan as tables, or as one JSON object."""
    if as_json:
        typer.echo(json.dumps(plan.as_dict()))
        return
    console = Console()
    console.print(_tables(plan))
    console.print(_workers(plan))
    console.print(
        f"A step of {plan.sizing.batch_size * plan.sizing.workers:,} examples: rows looked up in "
        f"{plan.step['lookup_ms']:.1f} ms, moved in {plan.step['communication_ms']:.1f} ms, by TorchRec's "
        f"estimators; each worker also sends {_mib(plan.dense_allreduce_bytes)} of dense gradients. "
        f"The limit is: [bold]{plan.binding}[/bold].",
        highlight=False,
    )


def _tables(plan: Plan) -> Table:
    table = Table(title=f"{plan.sizing.workers} workers: placement of the tables")
    for column in ("table", "sharding", "kernel", "shards", "rows × columns of a shard", "workers"):
        table.add_column(column)
    for one in plan.tables:
        ranks = sorted(set(one.ranks))
        span = f"{ranks[0]}–{ranks[-1]}" if ranks == list(range(ranks[0], ranks[-1] + 1)) else str(ranks)
        size = f"{one.rows:,} × {one.columns}"
        table.add_row(one.name, one.sharding, one.kernel, str(one.num_shards), size, span)
    return table


def _workers(plan: Plan) -> Table:
    table = Table(title="memory and traffic of a worker")
    for column in ("", "fullest or busiest", "least"):
        table.add_column(column, justify="right" if column else "left")
    loads, dense = plan.loads, plan.sizing.dense_bytes
    held = [load.device_bytes + dense for load in loads]
    usable = f"{_gib(max(held))} of {_gib(plan.sizing.usable_bytes)} ({plan.memory_share:.0%})"
    table.add_row("GPU memory", usable, _gib(min(held)))
    if plan.sizing.host_memory_gib:
        host = [load.host_bytes for load in loads]
        table.add_row("host memory", _gib(max(host)), _gib(min(host)))
    for name, sent in (
        ("sent within the node, per step", [load.intra_node_bytes for load in loads]),
        ("sent between nodes, per step", [load.inter_node_bytes for load in loads]),
    ):
        table.add_row(name, _mib(max(sent)), _mib(min(sent)))
    return table


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:,.1f} GiB"


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
