"""Commands for customers' rights: forget, subject-access."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from shopsight.serving.terminal_progress import TerminalProgress
from shopsight.training.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    console_for,
    print_json,
)

if TYPE_CHECKING:
    from shopsight.training.privacy.forget import Plan, Receipt

app = typer.Typer(pretty_exceptions_enable=False)

SourceOption = Annotated[
    str, typer.Option("--source", help="The id space of the ids, as in the sources file.")
]
IdFileOption = Annotated[
    str,
    typer.Option(
        "--id-file", help="A file of raw ids, one a line, or - for standard input: never on a command line."
    ),
]
RepositoriesOption = Annotated[
    list[Path] | None,
    typer.Option("--repository", help="Repositories that serve these models; by default WORKSPACE's own."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show whom and what it would erase; touch nothing.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask before erasing the accounts that are listed.")
]
SkipUnknownOption = Annotated[
    bool, typer.Option("--skip-unknown", help="Pass over ids that nobody has and erase the others.")
]
MaskOption = Annotated[
    bool,
    typer.Option(
        "--mask-mentions",
        help="Mask the customers' names, mail addresses and phones in texts of others, now and whenever "
        "the same texts are ingested again.",
    ),
]
RetrainOption = Annotated[
    bool, typer.Option("--retrain", help="Then train, export and publish again without the customers.")
]
RetrainRecipeOption = Annotated[
    str, typer.Option(help="The recipe of --retrain, for what was never trained.")
]
_MOST_LINES = 20  # of accounts and of mentions on a terminal; --json has all


class NotConfirmedError(RuntimeError):
    """The erasure was not confirmed; nothing was changed."""


@app.command("forget")
def forget_command(
    source: SourceOption,
    id_file: IdFileOption,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoriesOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    skip_unknown: SkipUnknownOption = False,
    mask_mentions: MaskOption = False,
    retrain: RetrainOption = False,
    recipe: RetrainRecipeOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Erase customers from tables, quarantine, models and every kept release, for good, with a receipt.

    Every account that would go is listed first, with the rule that joined it to the customer. An id that
    nobody has, or an unknown source, touches nothing and exits 1.

    Example: shopsight forget --source web --id-file ids.txt --workspace shop/workspace --dry-run
    """
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.data.identity.given_ids import read_ids
    from shopsight.training.privacy.forget import Repository, forget, look

    where, key, console = Workspace(workspace), load_key(), console_for(as_json)
    lines = read_ids(id_file)
    paths = [path for path in repository or [where.repository] if path.is_dir()]
    plan = look(where, key, source, list(lines), [Repository(path) for path in paths])
    _show_plan(console, plan)
    _check_known(plan, lines, id_file, source, skip_unknown=skip_unknown)
    if dry_run:
        if as_json:
            print_json(plan.as_dict())
        console.print("dry run: nothing was touched")
        return
    if not plan.pending:
        if as_json:
            print_json(plan.as_dict())
        console.print("all of them were forgotten before, and nothing of them was found: nothing was touched")
        return
    if not yes:
        _confirm(interactive=sys.stdin.isatty() and id_file != "-" and not as_json)
    repositories = [Repository(path, server_of(path)) for path in paths]
    say = TerminalProgress(console)
    receipt = forget(
        where, key, source, list(lines), repositories, say, skip_unknown=skip_unknown, mask=mask_mentions
    )
    if retrain:
        _retrain(where, recipe, repositories, say)
    if as_json:
        print_json(asdict(receipt))
    else:
        _show_receipt(console, where, receipt, retrained=retrain)


@app.command("subject-access")
def subject_access_command(
    source: SourceOption,
    id_file: IdFileOption,
    out: Annotated[Path, typer.Option("--out", help="The JSON file to write, readable by you alone.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write all data held on one customer: accounts, tables, refused rows, rows of models.

    Example: echo W1771497429 | shopsight subject-access --source web --id-file - --out held.json
    """
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.data.identity.given_ids import IdFileError, read_ids
    from shopsight.training.privacy.subject_access import subject_access

    ids = list(read_ids(id_file))
    if len(ids) != 1:
        raise IdFileError(f"{id_file}: holds {len(ids)} ids; what is held is written for one at a time")
    held = subject_access(Workspace(workspace), load_key(), source, ids[0])
    held.write(out)
    if as_json:
        counts = {name: len(rows) for name, rows in held.tables.items()}
        print_json(
            {"out": str(out), "rows": counts, "refused": len(held.refused), "models": len(held.learned)}
        )
        return
    console = Console()
    for name, rows in held.tables.items():
        console.print(f"{len(rows):>8,} rows of {name}", highlight=False)
    console.print(f"{len(held.refused):>8,} refused rows, {len(held.learned)} files of models")
    console.print(f"wrote {out}")


def _show_plan(console: Console, plan: Plan) -> None:
    """List the accounts that would go, what is held of them, and who else names them."""
    say = _plain_printer(console)
    if not plan.pending:
        return
    say(f"{plan.accounts.height:,} accounts of {len(plan.pending):,} people would be erased:")
    for account in plan.accounts.head(_MOST_LINES).iter_rows(named=True):
        joined = (
            f"rule {account['rule']}, score {account['score']:.3f}, since {account['valid_from']:%Y-%m-%d}"
        )
        named = account["initials"] or "no name"
        say(f"  {account['customer_id']}  {account['source']}:{account['source_id'][:8]}  {named}  {joined}")
    if plan.accounts.height > _MOST_LINES:
        say(f"  and {plan.accounts.height - _MOST_LINES:,} more; --json lists all")
    if plan.accounts["customer_id"].is_duplicated().any():
        say(
            "  if these are not one person, part them first: 'shopsight identity review' lists the pairs, "
            "'shopsight identity apart' parts them, then 'shopsight ingest' again"
        )
    for place, rows in plan.rows.items():
        say(f"{rows:>8,} rows in {place}")
    for path, num in plan.releases.items():
        say(f"{num:>8,} releases of {path} would be published again without them")
    if plan.mentions is None:
        say(
            "texts of other people cannot be searched: no ingest has noted what accounts are called; run "
            "'shopsight ingest' before forgetting, because it is not known afterwards"
        )
        return
    for mention in plan.mentions[:_MOST_LINES]:
        say(f"  named in {mention.place}: {mention.row} ({', '.join(mention.kinds)})")
    if plan.mentions:
        say(f"{len(plan.mentions):,} texts of others name them; --mask-mentions masks what they are called")


def _check_known(plan: Plan, lines: dict[str, int], id_file: str, source: str, *, skip_unknown: bool) -> None:
    """Refuse ids that nobody has; the message names their lines and not the ids."""
    from shopsight.training.privacy.forget import UnknownIdsError

    if not plan.unknown or (skip_unknown and plan.people):
        return
    numbers = [lines[one] for one in plan.unknown]
    shown = ", ".join(map(str, numbers[:_MOST_LINES])) + (", …" if len(numbers) > _MOST_LINES else "")
    name = "standard input" if id_file == "-" else id_file
    raise UnknownIdsError(
        f"{name}: {len(numbers)} of {len(lines)} ids are not known in source '{source}' (line {shown}); "
        "nothing was touched: correct them, look whether they are of another source, or pass over them with "
        "--skip-unknown"
    )


def _confirm(*, interactive: bool) -> None:
    if not interactive:
        raise NotConfirmedError(
            "nothing was touched: look over the accounts listed above, and say --yes to erase them"
        )
    if not typer.confirm("Erase these accounts for good?"):
        raise NotConfirmedError("nothing was touched")


def _show_receipt(console: Console, where: Any, receipt: Receipt, *, retrained: bool) -> None:
    say = _plain_printer(console)
    for place, rows in receipt.erased.items():
        say(f"{rows:>8,} rows erased from {place}")
    for path, numbers in receipt.releases.items():
        say(f"published anew in {path}: release {', '.join(map(str, numbers)) or 'none'}")
    say(f"receipt: {where.root / 'receipts'}; searched for their ids and texts, and nothing was found")
    if receipt.mentions:
        done = "are masked" if receipt.masked else "still name them"
        say(f"{receipt.mentions:,} texts of others {done}")
    if receipt.learned_before and not retrained:
        learned = ", ".join(receipt.learned_before)
        say(f"weights of {learned} were learned with them too: 'shopsight train' learns without")


def _retrain(where: Any, name: str, repositories: list[Any], say: Any) -> None:
    from shopsight.serving.repository import publish
    from shopsight.training.pipeline import steps
    from shopsight.training.pipeline.recipes import recipe

    chosen = steps.as_trained(where, recipe(name))
    trained = steps.ever_trained(where)
    for family in trained:
        steps.train(where, chosen, family, say)
        steps.evaluate(where, chosen, family)
    steps.export(where, chosen, trained, say)
    for target in repositories:
        publish(where.models, target.path, server=target.server, progress=say)


def server_of(repository: Path) -> Any:
    """The running server of a repository, None when there is none."""
    from shopsight.serving.server import ServerNotRunningError, TritonServer

    try:
        return TritonServer.attach(repository)
    except ServerNotRunningError:
        return None


def _plain_printer(console: Console) -> Any:
    return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)
