"""Options that several verbs share, and how verbs print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shopsight.training.pipeline.families import NAMES

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Where tables, models and reports lie.", file_okay=False)
]
EncoderOption = Annotated[
    str | None,
    typer.Option(help="Path or name of a pre-trained encoder that the language model starts from."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
RecipeOption = Annotated[str, typer.Option(help="A named recipe; 'default' fits any shop.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file put over the recipe.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="One setting put over the recipe: recommend.factors=64")
]
FAMILY_HELP = f"{', '.join(NAMES)}, or all that have rows to learn from."
DEFAULT_WORKSPACE = Path("workspace")
DEFAULT_SHOP = Path("shop-demo")


def print_json(content: Any) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(content, default=str, ensure_ascii=False))


def console_for(quiet: bool) -> Console:
    """Return the console for text: standard error if standard output carries JSON."""
    return Console(stderr=quiet)


def plain(value: Any) -> Any:
    """Return a dataclass as JSON-ready data, anything else as it is."""
    import dataclasses

    return (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )


def show_figures(figures: dict[str, Any], as_json: bool) -> None:
    """Print figures as tables, or as one JSON object."""
    if as_json:
        print_json(figures)
        return
    from shopsight.training.cli.figure_tables import tables

    for name, values in figures.items():
        for table in tables(name, values):
            Console().print(table)


def resolved(workspace: Path, name: str, config: Path | None, settings: list[str] | None) -> tuple[Any, Any]:
    """Return the workspace, and the recipe overridden by a TOML file and settings."""
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.pipeline.overrides import overridden
    from shopsight.training.pipeline.recipes import recipe

    return Workspace(workspace), overridden(recipe(name), toml_path=config, settings=settings or ())
