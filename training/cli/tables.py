"""Verbs between raw files and tables: validate, ingest, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shopsight.serving.terminal_progress import TerminalProgress
from shopsight.training.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    console_for,
    plain,
    print_json,
)

app = typer.Typer()


def _print_schema(wanted: bool) -> None:
    if wanted:
        from shopsight.training.data.sources.reference import schema_text

        print(schema_text(), end="")
        raise typer.Exit


@app.command()
def ingest(
    sources: Annotated[Path, typer.Argument(help="The sources file: which raw file is what.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Read raw files into the tables: cleaned, joined across channels, refused rows kept with the reason.

    Exits 1 when one file among several cannot be read; the others are in the tables.

    Example: shopsight ingest shop/raw/sources.toml --workspace shop/workspace
    """
    from shopsight.serving.pseudonym import load_key
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.data.ingest import ingest as run_ingest

    console = console_for(as_json)
    report = run_ingest(sources, Workspace(workspace), load_key(), progress=TerminalProgress(console))
    if as_json:
        print_json(plain(report))
    else:
        console.print(report.table())
    if report.unread:
        raise typer.Exit(1)


@app.command()
def validate(
    files: Annotated[
        list[Path],
        typer.Argument(help="Raw files or folders of them; or one sources file.", exists=True),
    ],
    out: Annotated[Path, typer.Option("--out", help="The sources file to write.")] = Path("sources.toml"),
    _schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            is_eager=True,
            callback=_print_schema,
            help="Print the JSON schema of sources files and stop.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at raw files, write a first sources file, and add up what it would give.

    Given a sources file, checks it and adds up the same. Exits 1 where a file is not recognised, or
    the totals are wrong until the sources file answers: unit price or line total, unknown statuses, missing
    currencies, equal rows, orders told by two files. Other questions are asked alone.

    Example: shopsight validate exports/*.csv --out sources.toml
    """
    from shopsight.training.data.check import questions
    from shopsight.training.data.describing.validate import check_sources, rehearse
    from shopsight.training.data.describing.validate import validate as run_validate

    console = Console(markup=False, highlight=False, soft_wrap=True)
    is_written = not (len(files) == 1 and files[0].suffix == ".toml")
    sources = out if is_written else files[0]
    draft = run_validate(files, out) if is_written else check_sources(sources)
    if not as_json:
        console.print("\n".join(draft.lines))
    books, question = rehearse(sources)
    asked = questions(books) if books else []
    is_right = books is not None and not (books.unread or draft.is_open or asked)
    if as_json:
        print_json(
            {
                "sources": str(sources),
                "written": is_written,
                "right": is_right,
                "lines": draft.lines,
                "question": question,
                "asked": asked,
                "books": books.as_dict() if books else None,
            }
        )
        raise typer.Exit(0 if is_right else 1)
    for line in books.lines() if books else [f"to be answered in {sources}: {question}"]:
        console.print(line)
    for line in [] if is_written else asked:  # of raw files, each file's lines have said it
        console.print(line)
    if is_written:
        console.print(f"wrote {out}; read it over, then: shopsight validate {out}")
    else:
        console.print(f"nothing was written; the tables are made by: shopsight ingest {sources}")
    raise typer.Exit(0 if is_right else 1)


@app.command()
def check(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Add up the tables, to hold them against the shop's books: orders, customers, revenue, period, basket.

    Example: shopsight check --workspace shop/workspace
    """
    from shopsight.training.data.check import check as run_check

    books = run_check(workspace / "tables")
    if as_json:
        print_json(books.as_dict())
        return
    for line in books.lines():
        Console(markup=False, highlight=False, soft_wrap=True).print(line)
