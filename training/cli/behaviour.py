"""Verbs on what customers do: behaviour funnel."""

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
_NUMBERS = ("lift",)  # columns with bounds that are no shares
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
    return f"{value['value']:.1%} ({value['low']:.1%} to {value['high']:.1%})"


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
