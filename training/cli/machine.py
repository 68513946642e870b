"""Commands about this machine: doctor, bench."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

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
    out: Annotated[Path | None, typer.Option("--out", help="Where the rows go as well, as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run one benchmark of the suite from a checkout: ratios beside peers, medians and spread.

    Example: shopsight bench als --out als.json
    """
    from shopsight.training.artifacts.checkout import ROOT

    if not (ROOT / "benchmarks").is_dir():
        raise FileNotFoundError("benchmarks/ is not installed with the package; run this from a checkout")
    if not as_json:
        raise typer.Exit(_run_suite(name, out).returncode)
    with tempfile.TemporaryDirectory(prefix="shopsight-bench-") as folder:
        rows = out or Path(folder) / "rows.json"
        done = _run_suite(name, rows, stdout=subprocess.PIPE if name is None else sys.stderr)
        if done.returncode:
            raise typer.Exit(done.returncode)
        if name is None:
            lines = (line.split(maxsplit=1) for line in done.stdout.decode().splitlines())
            print_json({"benchmarks": {words[0]: words[1] for words in lines}})
        else:
            print_json({"rows": json.loads(rows.read_text(encoding="utf-8"))})


def _run_suite(name: str | None, out: Path | None, stdout: Any = None) -> subprocess.CompletedProcess[bytes]:
    """Run a benchmark as a process of its own, whose timings nothing that is imported here disturbs."""
    from shopsight.training.artifacts.checkout import ROOT

    command = [sys.executable, "-m", "benchmarks.runner"]
    if name is not None:
        command += [name, *([str(out.absolute())] if out is not None else [])]
    return subprocess.run(command, cwd=ROOT, check=False, stdout=stdout)
