"""Verbs for people who read: report, experiment."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from shopsight.training.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    plain,
    print_json,
    show_figures,
)

app = typer.Typer()


@app.command()
def report(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Your customers",
    as_json: JsonOption = False,
) -> None:
    """Write the report page: customers, segments, value and churn, sales, messages, data quality.

    Example: shopsight report --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.report.page import write_report

    page = write_report(Workspace(workspace), title=title)
    if as_json:
        print_json({"page": str(page)})
    else:
        Console().print(f"wrote {page}")


@app.command()
def experiment(
    name: Annotated[str | None, typer.Argument(help="An experiment of the exposures table.")] = None,
    channel: Annotated[str | None, typer.Option(help="Count purchases of this channel alone.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Analyse an A/B test: effect with its interval, after checking that the arms have the planned sizes.

    Example: shopsight experiment --channel web --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.experiments.ab_test import analyse

    show_figures({"experiment": plain(analyse(Workspace(workspace), name, channel=channel))}, as_json)
