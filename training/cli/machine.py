"""Commands about this machine: doctor, bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shopsight.training.cli.options import (
    JsonOption,
    print_json,
)

app = typer.Typer()


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has and which backend each part will use.

    Example: shopsight doctor
    """
    from shopsight.training.cli.doctor import examine

    findings = examine()
    if as_json:
        print_json(findings.as_dict())
    else:
        Console().print(findings.table())
    raise typer.Exit(0 if findings.ready else 1)


@app.command()
def bench(
    name: Annotated[
        str | None, typer.Argument(help="A benchmark under benchmarks/, for example als; none lists them.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the rows go.")] = None,
) -> None:
    """Run one benchmark of the suite from a checkout: ratios beside peers, medians and spread.

    Example: shopsight bench als --json als.json
    """
    import subprocess

    from shopsight.training.artifacts.checkout import ROOT

    if not (ROOT / "benchmarks").is_dir():
        raise FileNotFoundError("benchmarks/ is not installed with the package; run this from a checkout")
    # A process of its own: it needs the checkout on its path, and nothing imported here may disturb a timing.
    command = [sys.executable, "-m", "benchmarks.runner"]
    if name is not None:
        command += [name, *([str(json_file.absolute())] if json_file is not None else [])]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, check=False).returncode)
