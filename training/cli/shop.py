"""Verbs that make data: the demo, the synthetic shop, and adapters for public data sets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shopsight.serving.terminal_progress import TerminalProgress
from shopsight.training.cli.options import (
    DEFAULT_SHOP,
    JsonOption,
    console_for,
    plain,
    print_json,
)

app = typer.Typer()
data_app = typer.Typer(help="The synthetic shop, and adapters for public data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--folder", help="Made by the demo: raw/, truth/ and workspace/ inside it.")
    ] = DEFAULT_SHOP,
    customers: Annotated[
        int | None, typer.Option(help="People in the synthetic shop, 20000, or 800 with --quick.", min=100)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small shop and short training, in about a minute.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same shop.")] = 0,
    serve: Annotated[bool, typer.Option("--serve", help="Leave Triton up and print what to try.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a shop with planted truth, learn from it, serve it from Triton, compare found with planted.

    Example: shopsight demo --serve
    """
    from shopsight.training.demo.run import run_demo

    people = customers or (800 if quick else 20_000)
    console = console_for(as_json)
    outcome = run_demo(folder, num_customers=people, seed=seed, serve=serve, console=console, quick=quick)
    if as_json:
        print_json(outcome.as_dict())
    raise typer.Exit(0 if outcome.passed else 1)


@data_app.command("make")
def data_make(
    out: Annotated[Path, typer.Option("--out", help="Folder for raw/ and truth/.", file_okay=False)],
    customers: Annotated[float, typer.Option(help="People in the shop, 1e7 is fine.", min=100)] = 20_000,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw every item, too.")] = False,
    behaviour: Annotated[
        bool,
        typer.Option("--behaviour", help="Plant a failing step, a pair of items and a lost cohort, too."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the synthetic shop: raw files of every channel, and the truth beside them.

    Example: shopsight data make --customers 1e5 --out my-shop
    """
    from shopsight.training.data.shop import ShopSpec, make_shop

    console, began = console_for(as_json), time.monotonic()
    spec = ShopSpec(num_customers=int(customers), seed=seed, pictures=pictures, behaviour=behaviour)
    summary = make_shop(spec, out / "raw", out / "truth", TerminalProgress(console))
    console.print(
        f"made {out} in {time.monotonic() - began:.1f} s; next: shopsight ingest {out}/raw/sources.toml"
    )
    if as_json:
        print_json(plain(summary))


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """List the public data sets that have an adapter.

    Example: shopsight data list
    """
    from shopsight.training.data.public.adapters import ADAPTERS

    rows = {name: (adapter.__doc__ or "").strip().splitlines()[0] for name, adapter in ADAPTERS.items()}
    if as_json:
        print_json(rows)
        return
    for name, line in rows.items():
        Console().print(f"[bold]{name}[/bold]  {line}")


@data_app.command("adapt")
def data_adapt(
    name: Annotated[str, typer.Argument(help="A data set of 'shopsight data list'.")],
    path: Annotated[Path, typer.Argument(help="Where its files lie.", exists=True)],
    out: Annotated[Path, typer.Option("--out", help="Folder for sources.toml and converted files.")],
    as_json: JsonOption = False,
) -> None:
    """Make a public data set ready for ingest: a sources file, and conversion where its format needs it.

    Example: shopsight data adapt online_retail data/online_retail --out retail
    """
    from shopsight.training.data.public.adapters import adapt

    sources = adapt(name, path, out)
    if as_json:
        print_json({"sources": str(sources)})
    else:
        Console().print(f"wrote {sources}; next: shopsight ingest {sources}")
