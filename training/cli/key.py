"""shopsight key: make the pseudonymisation key, rotate it, and bring stored pseudonyms to the present one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shopsight.training.cli.options import JsonOption, console_for, print_json

app = typer.Typer(
    help="The key that pseudonymises customers' identifiers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

WorkspacesOption = Annotated[
    list[Path],
    typer.Option("--workspace", "-w", help="Workspaces made with this key; repeat it for several."),
]
RepositoriesOption = Annotated[
    list[Path] | None,
    typer.Option("--repository", help="Repositories of their releases; by default each WORKSPACE's own."),
]


@app.command()
def create(as_json: JsonOption = False) -> None:
    """Make the pseudonymisation key under your configuration folder, or where $SHOPSIGHT_KEY_FILE says.

    Example: shopsight key create
    """
    from shopsight.serving.pseudonym import create_key

    path = create_key()
    if as_json:
        print_json({"key_file": str(path)})
    else:
        Console().print(f"wrote {path}; keep a copy: without it no new row joins a known customer")


@app.command()
def rotate(
    workspace: WorkspacesOption, repository: RepositoriesOption = None, as_json: JsonOption = False
) -> None:
    """Put a new key over the present one and renew every stored pseudonym; customer ids stay.

    Example: shopsight key rotate --workspace shop/workspace
    """
    from shopsight.serving.pseudonym import key_path, rotate_key

    key = rotate_key()
    console_for(as_json).print(
        f"{key_path()} has the new key {key.key_id} over the earlier ones; keep a copy, and give it to every "
        "machine that serves or ingests"
    )
    renew(workspace, repository, as_json)


@app.command()
def renew(
    workspace: WorkspacesOption, repository: RepositoriesOption = None, as_json: JsonOption = False
) -> None:
    """Bring stored pseudonyms to the present key: other workspaces, or after a rotation that was cut off.

    Example: shopsight key renew --workspace other-shop/workspace
    """
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.cli.privacy import server_of
    from shopsight.training.privacy.renew import renew_repository, renew_workspace

    key, console = load_key(), console_for(as_json)
    workspaces: dict[str, Any] = {}
    releases: dict[str, list[int]] = {}
    places = [Workspace(path) for path in workspace]
    for place in places:
        renewed = workspaces[str(place.root)] = renew_workspace(place, key)
        for name, num in renewed.items():
            console.print(f"{num:>9,} pseudonyms renewed in {place.root}: {name}", highlight=False)
        if not renewed:
            console.print(f"{place.root}: everything has key {key.key_id}")
    for path in repository or [place.repository for place in places]:
        if path.is_dir():
            made = renew_repository(
                path, key, server_of(path), lambda line: console.print(f"[dim]{line}[/dim]")
            )
            releases[str(path)] = list(made)
            console.print(f"{path}: published anew as release {', '.join(map(str, made)) or 'none'}")
    if as_json:
        print_json({"key_id": key.key_id, "workspaces": workspaces, "releases": releases})
