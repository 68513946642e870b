"""shopsight identity: which accounts were joined and why, and review rules on pairs of accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shopsight.training.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, print_json

app = typer.Typer(
    help="Who is joined with whom, and why.", no_args_is_help=True, pretty_exceptions_enable=False
)

PairsArgument = Annotated[
    list[str] | None, typer.Argument(help="Pairs as 'shopsight identity review' or 'rules' names them.")
]
AccountsOption = Annotated[
    str | None,
    typer.Option(
        "--accounts",
        help="A CSV file of any two accounts a line, raw ids under source,source_id,other_source,"
        "other_source_id; - is standard input: ids never stand on a command line.",
    ),
]


@app.command()
def review(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    num: Annotated[int, typer.Option(help="How many pairs.", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the joined pairs of the last ingest, the least certain first, with the evidence.

    Accounts are shown by source and pseudonym, evidence by field; values are never shown.

    Example: shopsight identity review --num 50
    """
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.data.identity.review import read_joins
    from shopsight.training.data.identity.rules import read_rules

    key, console = load_key(), Console()
    joins, rules = read_joins(workspace, key).head(num), read_rules(workspace, key)
    if as_json:
        print_json({"pairs": joins.to_dicts(), "rules": rules.to_dicts()})
        return
    for row in joins.iter_rows(named=True):
        told = f"{row['probability']:.4f}  {row['customer_id']}: {_accounts(row)}"
        console.print(f"[bold]{row['pair']}[/bold]  {told}")
        console.print(f"            by {row['rule']}: {row['evidence']}", highlight=False)
    console.print(
        f"{joins.height} pairs, {rules.height} rules; 'shopsight identity apart PAIR' when they are not one "
        "person, 'shopsight identity same PAIR' when they are; the next ingest obeys"
    )


@app.command()
def apart(
    pairs: PairsArgument = None,
    accounts: AccountsOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add rules that the two accounts of each pair are different people.

    Example: shopsight identity apart 3f9c01ab77
    """
    _say(pairs or [], accounts, "apart", workspace, as_json)


@app.command()
def same(
    pairs: PairsArgument = None,
    accounts: AccountsOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add rules that the two accounts of each pair are one person.

    Example: shopsight identity same --accounts pairs.csv
    """
    _say(pairs or [], accounts, "same", workspace, as_json)


@app.command()
def rules(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List the rules on pairs, which every ingest applies.

    Example: shopsight identity rules
    """
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.data.identity.rules import read_rules

    kept, console = read_rules(workspace, load_key()), Console()
    if as_json:
        print_json({"rules": kept.to_dicts()})
        return
    for row in kept.iter_rows(named=True):
        console.print(f"[bold]{row['pair']}[/bold]  {row['verdict']:<5}  {_accounts(row)}")
    console.print(f"{kept.height} rules; 'shopsight identity withdraw PAIR' removes one")


@app.command()
def withdraw(
    pairs: Annotated[list[str], typer.Argument(help="Rules as 'shopsight identity rules' names them.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Remove rules; the next ingest decides these pairs by their evidence again.

    Example: shopsight identity withdraw 3f9c01ab77
    """
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.data.identity.rules import withdraw_rules

    withdraw_rules(workspace, load_key(), pairs)
    if as_json:
        print_json({"withdrawn": list(dict.fromkeys(pairs))})
        return
    Console().print(f"{len(set(pairs))} rules were withdrawn, as from the next 'shopsight ingest' on")


def _say(pairs: list[str], accounts: str | None, verdict: str, workspace: Path, as_json: bool) -> None:
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.data.identity.accounts import account_pairs
    from shopsight.training.data.identity.review import listed_pairs
    from shopsight.training.data.identity.rules import RuleError, keep_rules

    if bool(pairs) == (accounts is not None):
        raise RuleError("name pairs of 'shopsight identity review', or give any two accounts with --accounts")
    key = load_key()
    found = (
        listed_pairs(workspace, key, pairs)
        if accounts is None
        else account_pairs(accounts, Workspace(workspace).tables, key)
    )
    kept = keep_rules(workspace, key, found, verdict)
    if as_json:
        print_json({"verdict": verdict, "pairs": kept["pair"].to_list()})
        return
    Console().print(
        f"{', '.join(kept['pair'])}: {verdict} from the next 'shopsight ingest' on",
        highlight=False,
        soft_wrap=True,
    )


def _accounts(row: dict[str, str]) -> str:
    return f"{row['source']} {row['source_id'][:12]} and {row['other_source']} {row['other_source_id'][:12]}"
