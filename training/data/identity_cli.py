"""shopsight identity: which accounts were joined and why, and what people say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Who is joined with whom, and why.", no_args_is_help=True, pretty_exceptions_enable=False
)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Where tables, models and reports lie.", file_okay=False)
]
PairsArgument = Annotated[list[str], typer.Argument(help="Pairs as 'shopsight identity review' names them.")]
DEFAULT_WORKSPACE = Path("workspace")


@app.command()
def review(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    num: Annotated[int, typer.Option(help="How many pairs.", min=1)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """List the joined pairs of the last ingest, the least certain first, with the evidence.

    Accounts are told by source and pseudonym, evidence by field, never by value.

    Example: shopsight identity review --num 50
    """
    from serving.pseudonym import load_key
    from training.data.identity_review import read_joins, read_rules

    key, console = load_key(), Console()
    joins, rules = read_joins(workspace, key).head(num), read_rules(workspace, key)
    if as_json:
        typer.echo(json.dumps({"pairs": joins.to_dicts(), "rules": rules.to_dicts()}))
        return
    for row in joins.iter_rows(named=True):
        accounts = (
            f"{row['source']} {row['source_id'][:12]} and {row['other_source']} {row['other_source_id'][:12]}"
        )
        console.print(
            f"[bold]{row['pair']}[/bold]  {row['probability']:.4f}  {row['customer_id']}: {accounts}"
        )
        console.print(f"            by {row['rule']}: {row['evidence']}", highlight=False)
    console.print(
        f"{joins.height} pairs, {rules.height} rules; 'shopsight identity apart PAIR' when they are not one "
        "person, 'shopsight identity same PAIR' when they are; the next ingest obeys"
    )


@app.command()
def apart(pairs: PairsArgument, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Say that the two accounts of each pair are not one person.

    Example: shopsight identity apart 3f9c01ab77
    """
    _say(pairs, "apart", workspace)


@app.command()
def same(pairs: PairsArgument, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Say that the two accounts of each pair are one person.

    Example: shopsight identity same 3f9c01ab77
    """
    _say(pairs, "same", workspace)


def _say(pairs: list[str], verdict: str, workspace: Path) -> None:
    from serving.pseudonym import load_key
    from training.data.identity_review import add_rule

    add_rule(workspace, load_key(), pairs, verdict)
    Console().print(f"{len(pairs)} pairs are {verdict} from the next 'shopsight ingest' on")
