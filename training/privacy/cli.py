"""The verbs that customers' rights need: forget, subject-access."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(pretty_exceptions_enable=False)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Where tables, models and reports lie.", file_okay=False)
]
SourceOption = Annotated[
    str, typer.Option("--source", help="The id space of the ids, as in the sources file.")
]
IdFileOption = Annotated[
    str,
    typer.Option(
        "--id-file", help="A file of raw ids, one a line, or - for standard input: never on a command line."
    ),
]
DEFAULT_WORKSPACE = Path("workspace")


class IdFileError(ValueError):
    """The file of ids cannot be used."""


@app.command("forget")
def forget_command(
    source: SourceOption,
    id_file: IdFileOption,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: Annotated[
        list[Path] | None,
        typer.Option(
            "--repository", help="Repositories that serve these models; by default WORKSPACE's own."
        ),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Then train, export and publish again without the customers.")
    ] = False,
    recipe: Annotated[str, typer.Option(help="The recipe that --retrain trains by.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Erase customers from tables, quarantine, models and every kept release, for good, with a receipt.

    Example: echo W1771497429 | shopsight forget --source web --id-file - --workspace shop/workspace
    """
    from serving.pseudonym import load_key
    from training.privacy.forget import Repository, forget
    from training.workspace import Workspace

    where, console = Workspace(workspace), Console(stderr=as_json)
    repositories = [Repository(p, server_of(p)) for p in repository or [where.repository] if p.is_dir()]
    say = _printer(console)
    receipt = forget(where, load_key(), source, read_ids(id_file), repositories, say)
    if retrain:
        _retrain(where, recipe, receipt.learned_before, repositories, say)
    if as_json:
        typer.echo(json.dumps(asdict(receipt)))
        return
    for place, rows in receipt.erased.items():
        console.print(f"{rows:>8,} rows erased from {place}", highlight=False)
    for path, numbers in receipt.releases.items():
        console.print(f"published anew in {path}: release {', '.join(map(str, numbers)) or 'none'}")
    console.print(f"receipt: {where.root / 'receipts'}; searched, and nothing of them was found")
    if receipt.learned_before and not retrain:
        learned = ", ".join(receipt.learned_before)
        console.print(f"weights of {learned} were learned with them too: 'shopsight train' learns without")


@app.command("subject-access")
def subject_access_command(
    source: SourceOption,
    id_file: IdFileOption,
    out: Annotated[Path, typer.Option("--out", help="The JSON file to write, readable by you alone.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Write everything that is held on one customer: tables, refused rows, what models learned.

    Example: echo W1771497429 | shopsight subject-access --source web --id-file - --out held.json
    """
    from serving.pseudonym import load_key
    from training.privacy.subject_access import subject_access
    from training.workspace import Workspace

    ids = read_ids(id_file)
    if len(ids) != 1:
        raise IdFileError(f"{id_file}: holds {len(ids)} ids; what is held is written for one at a time")
    held = subject_access(Workspace(workspace), load_key(), source, ids[0])
    held.write(out)
    console = Console()
    for name, rows in held.tables.items():
        console.print(f"{len(rows):>8,} rows of {name}", highlight=False)
    console.print(f"{len(held.refused):>8,} refused rows, {len(held.learned)} files of models")
    console.print(f"wrote {out}")


def read_ids(file: str) -> list[str]:
    """Read raw ids, one a line; a line in double quotes is a JSON string, for an id with a newline in it.

    Raises IdFileError naming the line.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IdFileError(f"{file}: cannot be read ({error}); give a UTF-8 file of ids, one a line") from None
    ids = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line:
            continue
        try:
            ids.append(str(json.loads(line)) if line.startswith('"') else line)
        except ValueError:
            raise IdFileError(f"{file}, line {number}: begins as a JSON string but is none") from None
    if not ids:
        raise IdFileError(f"{file}: holds no id; write one a line")
    return list(dict.fromkeys(ids))


def _retrain(where: Any, name: str, trained: tuple[str, ...], repositories: list[Any], say: Any) -> None:
    from serving.repository import publish
    from training import families
    from training.recipes import recipe

    chosen = recipe(name)
    for family in (one for one in families.FAMILIES if one in trained):
        families.train(where, chosen, family, say)
        families.evaluate(where, chosen, family)
    families.export(where, chosen, [one for one in families.FAMILIES if one in trained])
    for target in repositories:
        publish(where.models, target.path, server=target.server, progress=say)


def server_of(repository: Path) -> Any:
    """The running server of a repository, None when there is none."""
    from serving.server import ServerNotRunningError, TritonServer

    try:
        return TritonServer.attach(repository)
    except ServerNotRunningError:
        return None


def _printer(console: Console) -> Any:
    return lambda line: console.print(f"[dim]{line}[/dim]", highlight=False)
