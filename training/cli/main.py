"""The `shopsight` command: every verb of the project; nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from shopsight.kernels import threads
from shopsight.serving import cli as serving
from shopsight.training.artifacts.checkout import installed_version
from shopsight.training.cli import (
    analysis,
    behaviour,
    identity,
    jobs,
    key,
    libraries,
    machine,
    models,
    privacy,
    shop,
    tables,
    up,
)

app = typer.Typer(
    name="shopsight",
    help="An online shop's raw events in, customer insight out of a Triton endpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(key.app, name="key")
app.add_typer(identity.app, name="identity")
app.add_typer(behaviour.app, name="behaviour")
for verbs in (up, shop, tables, models, serving, analysis, jobs, privacy, machine):
    app.add_typer(verbs.app)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"shopsight {installed_version() or 'not installed'}")
        raise typer.Exit


_STOPPED = {130: "interrupted", 143: "terminated"}  # 128 and the signal

_AFTER_STOP = (
    "what was complete before stays as it was; the same command starts again, a training that keeps "
    "checkpoints from its last one"
)


def main() -> None:
    """Run the command; what a user can mend is told in one line, anything else keeps its traceback."""
    os.umask(0o077)  # rows of customers are for who runs this, whatever verb writes them
    threads.limit_threads()
    try:
        app(standalone_mode=True)
    except SystemExit as ended:
        if ended.code in _STOPPED:
            Console(stderr=True).print(f"{_STOPPED[ended.code]}: {_AFTER_STOP}", soft_wrap=True)
        raise
    except ModuleNotFoundError as error:
        if not (told := libraries.said_of(error)):
            raise
        _end_with(told)
    except (ValueError, RuntimeError, LookupError, ArithmeticError, OSError) as error:
        if not _is_ours(error):
            raise
        _end_with(str(error))


def _end_with(message: str) -> NoReturn:
    told = f"[red]error[/red]: {escape(message)}"  # a message may quote what looks like markup
    Console(stderr=True).print(told, highlight=False, soft_wrap=True)
    sys.exit(1)


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("shopsight.") or isinstance(error, OSError)


if __name__ == "__main__":
    main()
