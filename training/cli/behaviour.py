"""Verbs on what customers do: behaviour funnel, paths, cohorts, basket, timing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shopsight.training.cli.figure_tables import shown
from shopsight.training.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, print_json

if TYPE_CHECKING:
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.behaviour.results import Analysis

app = typer.Typer(help="What customers do; every table is a Parquet file too.", no_args_is_help=True)

_FILE_WIDTH = 170  # columns of output that goes to a file or a pipe
_NUMBERS = ("lift", "median_days", "rate", "support")  # columns with bounds that are no shares
_DAYS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
RowsOption = Annotated[int, typer.Option(help="Rows of each table to print; the files have all.", min=1)]
GapOption = Annotated[float, typer.Option(help="Minutes without an event that end a session.")]
SinceOption = Annotated[datetime | None, typer.Option(formats=_DAYS, help="From this time on (UTC).")]
UntilOption = Annotated[datetime | None, typer.Option(formats=_DAYS, help="Before this time (UTC).")]


@app.command()
def funnel(
    steps: Annotated[
        str, typer.Option(help="Events in their order, separated by commas; a '?' marks an optional one.")
    ] = "view,cart,purchase",
    by: Annotated[str, typer.Option(help="What is counted: session or customer.")] = "session",
    gap_minutes: GapOption = 30.0,
    window_days: Annotated[
        float, typer.Option(help="By customer: days after the first step in which the others count.")
    ] = 7.0,
    since: SinceOption = None,
    until: UntilOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    rows: RowsOption = 40,
    as_json: JsonOption = False,
) -> None:
    """Count who takes each step, by channel and segment, and write the table of customers who dropped out.

    Example: shopsight behaviour funnel --steps view,cart?,purchase --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.behaviour.analyses import analyse_funnel

    place = Workspace(workspace)
    found = analyse_funnel(
        place, steps.split(","), by=by, gap_minutes=gap_minutes, window_days=window_days,
        since=_utc(since), until=_utc(until),
    )  # fmt: skip
    _show(place, found, rows, as_json)


@app.command()
def paths(
    gap_minutes: GapOption = 30.0,
    max_steps: Annotated[int, typer.Option(help="Longer paths are cut there.")] = 8,
    since: SinceOption = None,
    until: UntilOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    rows: RowsOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Count the most frequent sequences of steps within sessions, and what follows each step.

    Example: shopsight behaviour paths --gap-minutes 30 --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.behaviour.analyses import analyse_paths

    place = Workspace(workspace)
    found = analyse_paths(
        place, gap_minutes=gap_minutes, max_steps=max_steps, since=_utc(since), until=_utc(until)
    )
    _show(place, found, rows, as_json)


@app.command()
def cohorts(
    by: Annotated[str, typer.Option(help="Period of the first purchase: month or week.")] = "month",
    until: Annotated[
        datetime | None,
        typer.Option(formats=_DAYS, help="The data is complete up to this time (UTC), else its last day."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    rows: RowsOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Follow customers from their first purchase on: who comes back, and what they spend, by currency.

    Example: shopsight behaviour cohorts --by month --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.behaviour.analyses import analyse_cohorts

    place = Workspace(workspace)
    _show(place, analyse_cohorts(place, by=by, until=_utc(until)), rows, as_json)


@app.command()
def basket(
    min_baskets: Annotated[int, typer.Option(help="Items in fewer baskets are not tested.")] = 10,
    rate: Annotated[float, typer.Option(help="Accepted share of false pairs among those found.")] = 0.05,
    since: SinceOption = None,
    until: UntilOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    rows: RowsOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Find the items that are bought together more often than chance explains, with few false ones.

    Example: shopsight behaviour basket --rate 0.01 --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.behaviour.analyses import analyse_basket

    place = Workspace(workspace)
    found = analyse_basket(place, min_baskets=min_baskets, rate=rate, since=_utc(since), until=_utc(until))
    _show(place, found, rows, as_json)


@app.command()
def timing(
    bin_days: Annotated[int, typer.Option(help="Days for which one rate of return is given.")] = 7,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    rows: RowsOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Measure how soon customers buy again after each purchase, and how likely on which days.

    Example: shopsight behaviour timing --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.behaviour.analyses import analyse_timing

    place = Workspace(workspace)
    _show(place, analyse_timing(place, bin_days=bin_days), rows, as_json)


def _show(workspace: Workspace, analysis: Analysis, rows: int, as_json: bool) -> None:
    if as_json:
        print_json({analysis.name: analysis.figures(workspace, rows)})
        return
    figures, main = analysis.figures(workspace, rows), next(iter(analysis.tables))
    console = Console() if sys.stdout.isatty() else Console(width=_FILE_WIDTH)
    asked = ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in analysis.settings.items())
    table = Table(title=f"{analysis.name}: {main.replace('_', ' ')}", caption=escape(asked))
    columns = [c for c in analysis.tables[main].columns if not c.endswith(("_low", "_high"))]
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in figures[main]:
        table.add_row(*(escape(_cell(name, row[name])) for name in columns))
    console.print(table)
    for note in analysis.notes:
        console.print(note, markup=False, highlight=False)
    for name, file in figures["tables"].items():
        told = f"{name.replace('_', ' ')}: {file['rows']:,} rows in {file['file']}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def _cell(name: str, value: object) -> str:
    if not isinstance(value, dict) or name in _NUMBERS:
        return shown(value)
    if value["low"] is None:
        return f"{value['value']:.1%}"
    return f"{value['value']:.1%} ({value['low']:.1%} to {value['high']:.1%})"


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
