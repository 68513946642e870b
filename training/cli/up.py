"""shopsight up: from raw files to an answer in one go; run again, it goes on where it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    from shopsight.training.artifacts.workspace import Workspace

app = typer.Typer()

_STEPS = ("key", "sources", "ingest", "train", "evaluate", "export", "publish", "serve", "ask")


@dataclass
class Walkthrough:
    """Names each step as it begins, and keeps what came of them for --json."""

    console: Console
    say: TerminalProgress
    result: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str, about: str) -> None:
        """Print the number and the name of a step."""
        number = 1 + _STEPS.index(name)
        self.console.print(f"[bold]{number} of {len(_STEPS)}  {name}[/bold]: {about}", highlight=False)

    def tell(self, lines: list[str]) -> None:
        """Print lines word for word."""
        for line in lines:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def up(
    files: Annotated[
        list[Path], typer.Argument(help="Raw files or folders of them; or one sources file.", exists=True)
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    sources: Annotated[
        Path, typer.Option("--sources", help="The sources file: written first, read on every later run.")
    ] = Path("sources.toml"),
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Start a server and ask it.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Go from raw files to an answer: describe, ingest, train, evaluate, export, publish, serve, ask.

    Ends with exit code 1 where something has to be answered in the sources file first. Run again, it uses the
    sources file as it is then, and trains only what was not trained on these tables.

    Example: shopsight up exports/*.csv --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace

    console = console_for(as_json)
    progress = Walkthrough(console, TerminalProgress(console))
    where = Workspace(workspace)
    described = files[0] if len(files) == 1 and files[0].suffix == ".toml" else sources
    try:
        _read(files, described, where, progress)
        _learn(where, progress)
        _publish(where, progress)
        if serve:
            _ask(where, progress)
    finally:
        if as_json:
            print_json(progress.result)


def _read(files: list[Path], sources: Path, where: Workspace, progress: Walkthrough) -> None:
    """Make the key and the sources file where there are none, then the tables; exits 1 with questions."""
    from shopsight.serving.pseudonym import create_key, key_path, load_key
    from shopsight.training.data.check import check, questions
    from shopsight.training.data.describing.validate import check_sources, validate
    from shopsight.training.data.errors import IngestError
    from shopsight.training.data.ingest import ingest

    made = not key_path().exists()
    path = create_key() if made else key_path()
    kept = "made; keep a copy: without it no new row joins a known customer"
    progress.step("key", f"{path} {kept if made else 'is used'}")
    is_new = not sources.exists()
    about = "is written" if is_new else "is there, and is used as it is; remove it to have it written anew"
    progress.step("sources", f"{sources} {about}")
    draft = validate(files, sources) if is_new else check_sources(sources)
    progress.tell(draft.lines)
    progress.result |= {"sources": str(sources), "questions": [], "lines": draft.lines}
    if draft.is_open:
        _stop(progress, sources, draft.lines)
    progress.step("ingest", f"into {where.tables}")
    try:
        report = ingest(sources, where, load_key(), progress=progress.say)
    except IngestError as error:
        _stop(progress, sources, [str(error)])
    books = check(where.tables)
    progress.tell(books.lines())
    progress.result["books"] = books.as_dict()
    if asked := [*(f"not read: {one}" for one in report.unread), *questions(books)]:
        _stop(progress, sources, asked)


def _stop(progress: Walkthrough, sources: Path, questions: list[str]) -> Any:
    progress.result["questions"] = questions
    progress.tell(
        [
            *(line for line in questions if line not in progress.result["lines"]),
            f"stopped: answer in {sources} what is asked above, then run the same command again; it goes on "
            "with the file as it is then",
        ]
    )
    raise typer.Exit(1)


def _learn(where: Workspace, progress: Walkthrough) -> None:
    from shopsight.training.artifacts.snapshots import snapshot_sha256
    from shopsight.training.artifacts.trained_state import is_trained
    from shopsight.training.cli.figure_tables import tables
    from shopsight.training.pipeline import steps
    from shopsight.training.pipeline.recipes import recipe

    progress.step("train", "every family that has rows to learn from")
    names, tables_now = steps.chosen(where, "all", progress.say), snapshot_sha256(where.tables)
    chosen = recipe("default")
    for name in names:
        if is_trained(where, name, on=tables_now):
            progress.say(f"{name}: was trained on these tables before")
        else:
            steps.train(where, chosen, name, progress.say)
            progress.say(f"{name}: trained")
    progress.step("evaluate", "on rows that no training saw")
    chosen = steps.as_trained(where, chosen)
    progress.result["figures"] = {name: steps.evaluate(where, chosen, name) for name in names}
    for name, figures in progress.result["figures"].items():
        for table in tables(name, figures):
            progress.console.print(table)
    progress.step("export", f"to {where.models}")
    for folder in steps.export(where, chosen, names, progress.say):
        progress.say(f"exported {folder.name}")


def _publish(where: Workspace, progress: Walkthrough) -> None:
    from shopsight.serving.cli import rehearsing_server, running_server
    from shopsight.serving.repository import publish

    progress.step("publish", f"the next release in {where.repository}")
    server = running_server(where.repository, progress.console)
    private = rehearsing_server(server, progress.console)
    release = publish(where.models, where.repository, server=server, private=private, progress=progress.say)
    progress.result["release"] = release.number
    progress.say(f"release {release.number} is current")


def _ask(where: Workspace, progress: Walkthrough) -> None:
    """Serve the release, unless it is served already, and ask about one customer."""
    from shopsight.serving.cli import running_server
    from shopsight.serving.client import ShopsightClient
    from shopsight.serving.pages import insight_page
    from shopsight.serving.server import TritonServer
    from shopsight.serving.supervisor import start_detached

    progress.step("serve", "on loopback, until 'shopsight stop'")
    if running_server(where.repository, progress.console) is None:
        start_detached(where.repository, (0, 0, 0), progress.say)
    endpoint, customer = TritonServer.attach(where.repository).grpc_url, _busiest_customer(where)
    command = f"shopsight ask --repository {where.repository} --customer {customer}"
    progress.step("ask", command)
    with ShopsightClient(endpoint, deadline_seconds=30.0) as client:
        insight = client.insight(customer_id=customer)
    progress.result |= {"server": endpoint, "ask": command, "answer": insight}
    progress.console.print(insight_page(insight, endpoint))
    progress.tell([f"ask for others: {command}", f"end it: shopsight stop --repository {where.repository}"])


def _busiest_customer(where: Workspace) -> str:
    """Return the customer with the most events, about whom there is most to say."""
    import polars as pl

    from shopsight.training.data.tables import scan_table

    known = scan_table(where.tables, "events").filter(pl.col("customer_id").is_not_null())
    counted = known.group_by("customer_id").len().sort("len", "customer_id", descending=[True, False])
    return str(counted.head(1).collect()["customer_id"][0])
