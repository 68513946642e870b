"""The commands that publish, serve and query; they need no training libraries."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shopsight.serving.pseudonym import key_path
from shopsight.serving.terminal_progress import TerminalProgress

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", help="The folder of the shop's tables and models.", file_okay=False),
]
RepositoryOption = Annotated[
    Path | None,
    typer.Option("--repository", help="The model repository; by default WORKSPACE/model_repository."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

DEFAULT_WORKSPACE = Path("workspace")


@app.command("publish")
def publish_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoryOption = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="A required minimum of a metric's lower confidence bound: model.metric=minimum"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the exported models as the next release: checked, loaded into the running server, reversible.

    Example: shopsight publish --workspace shop/workspace --require mf_retrieval.recall_at_10=0.05
    """
    from shopsight.serving.gate import Gate, Threshold
    from shopsight.serving.repository import publish

    where, console = _repository(workspace, repository), Console(stderr=as_json)
    gate = Gate(tuple(Threshold.parse(text) for text in require or ()))
    server = running_server(where, console)
    private = rehearsing_server(server, console)
    progress = TerminalProgress(console)
    release = publish(
        workspace / "models", where, server=server, private=private, gate=gate, progress=progress
    )
    _show_release(release, where, as_json, server is not None, console)


@app.command("rollback")
def rollback_command(
    release: Annotated[
        int | None, typer.Argument(help="A kept release; by default the previous one.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the files of an earlier release again, as a new release.

    Example: shopsight rollback --repository shop/workspace/model_repository
    """
    from shopsight.serving.repository import rollback

    where, console = _repository(workspace, repository), Console(stderr=as_json)
    server = running_server(where, console)
    private = rehearsing_server(server, console)
    made = rollback(where, release, server=server, private=private, progress=TerminalProgress(console))
    _show_release(made, where, as_json, server is not None, console)


@app.command("releases")
def releases_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the releases that are kept, the current one first.

    Example: shopsight releases --workspace shop/workspace --json
    """
    from shopsight.serving.repository import releases

    where = _repository(workspace, repository)
    kept = releases(where)
    if as_json:
        _print_json({"repository": str(where), "releases": [release.as_dict() for release in kept]})
        return
    if not kept:
        Console().print(f"{where} holds no release; 'shopsight publish' makes one", soft_wrap=True)
        return
    from shopsight.serving.pages import releases_table

    Console().print(releases_table(kept))


@app.command("serve")
def serve_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoryOption = None,
    http_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    grpc_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8001,
    metrics_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8002,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the server running and return.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start the installed Triton on loopback and serve the current release; Ctrl-C ends it.

    A model whose process dies or hangs is loaded again, and a server that dies is restarted.

    Example: shopsight serve --repository shop/workspace/model_repository --detach
    """
    from shopsight.serving.repository import current_release, recover
    from shopsight.serving.server import TritonServer
    from shopsight.serving.supervisor import Supervisor, end_in_order, start_detached

    where, console = _repository(workspace, repository), Console(stderr=as_json)
    recover(where, progress=TerminalProgress(console))
    if current_release(where) is None:
        raise NothingPublishedError(f"{where} holds no release; run 'shopsight publish' first")
    if not key_path().exists():
        console.print("no pseudonymisation key: customers can be asked for by CUSTOMER_ID alone")
    ports = (http_port, grpc_port, metrics_port)
    if detach:
        start_detached(where, ports, TerminalProgress(console))
        _show_server(TritonServer.attach(where), where, as_json, console)
        return
    end_in_order()
    supervisor = Supervisor(where, ports, TerminalProgress(console))
    server = supervisor.start()
    try:
        _show_server(server, where, as_json, console)
        supervisor.run()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        supervisor.server.stop()


@app.command("stop")
def stop_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop the running server of a repository; requests under way are answered first.

    Exits 1 where no server runs for it.

    Example: shopsight stop --repository shop/workspace/model_repository
    """
    from shopsight.serving.server import ServerNotRunningError, TritonServer

    where = _repository(workspace, repository)
    try:
        server = TritonServer.of(where)
    except ServerNotRunningError:
        why = "" if where.is_dir() else ", which is no folder"
        raise ServerNotRunningError(
            f"no server runs for {where}{why}: there is nothing to stop; name the repository of the server "
            "with --repository, or its workspace with --workspace"
        ) from None
    server.stop()
    if as_json:
        _print_json({"repository": str(where), "stopped": True})
    else:
        Console().print(f"stopped the server of {where}", soft_wrap=True)


@app.command("status")
def status_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which release is current, whether a server runs, and which of its models answer.

    Example: shopsight status --workspace shop/workspace
    """
    from shopsight.serving.pages import status_table
    from shopsight.serving.status import status

    found = status(_repository(workspace, repository))
    if as_json:
        _print_json(found)
    else:
        Console().print(status_table(found))


@app.command("ask")
def ask_command(
    customer: Annotated[str | None, typer.Option(help="Our customer id.")] = None,
    source: Annotated[str | None, typer.Option(help="A channel's id space, with --source-id.")] = None,
    source_id: Annotated[
        str | None, typer.Option(help="The customer's id there; '-' reads it from standard input.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="What the customer wrote.")] = None,
    k: Annotated[int, typer.Option("--k", help="How many recommendations.", min=1, max=1000)] = 10,
    url: Annotated[str | None, typer.Option(help="host:port of a gRPC endpoint elsewhere.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.1)] = 10.0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    repository: RepositoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the endpoint about a customer, a message, or both: profile, recommendations, intent and answer.

    Example: shopsight ask --source web --source-id w-1042 --message "where is my parcel?"
    """
    from shopsight.serving.client import ShopsightClient
    from shopsight.serving.pages import insight_page
    from shopsight.serving.server import TritonServer

    if source_id == "-":
        source_id = sys.stdin.readline().rstrip("\r\n")
    if (source is None) != (source_id is None):
        raise typer.BadParameter("--source and --source-id name a customer together: give both")
    if customer is None and source is None and message is None:
        raise typer.BadParameter(
            "nothing is asked: give --customer, or --source with --source-id, or --message"
        )
    if customer is not None and source is not None:
        raise typer.BadParameter("give --customer, or --source with --source-id, not both")
    endpoint = url or TritonServer.attach(_repository(workspace, repository)).grpc_url
    with ShopsightClient(endpoint, deadline_seconds=deadline) as client:
        insight = client.insight(customer_id=customer, source=source, source_id=source_id, text=message, k=k)
    if as_json:
        _print_json(insight)
    else:
        Console().print(insight_page(insight, endpoint))


class NothingPublishedError(RuntimeError):
    """A repository has no release to serve."""


def _repository(workspace: Path, repository: Path | None) -> Path:
    return repository if repository is not None else workspace / "model_repository"


def running_server(repository: Path, console: Console) -> Any:
    """Return the server that runs for a repository, None with a line for people where there is none."""
    from shopsight.serving.server import ServerNotRunningError, TritonServer

    try:
        server = TritonServer.attach(repository)
    except ServerNotRunningError:
        console.print("no server runs for this repository; the next one that starts loads the release")
        return None
    console.print(f"Triton at {server.grpc_url} (gRPC) takes part", highlight=False)
    return server


def rehearsing_server(server: Any, console: Console) -> Any:
    """Return a function that starts a private server; None if a server runs or no Triton is installed."""
    from shopsight.serving.server import TritonMissingError, find_triton, private_server

    if server is not None:
        return None
    try:
        find_triton()
    except TritonMissingError:
        console.print(
            "no Triton is installed here: 'shopsight serve' replays the golden requests before it answers"
        )
        return None
    return private_server


def _show_release(release: Any, where: Path, as_json: bool, served: bool, console: Console) -> None:
    if as_json:
        _print_json({"repository": str(where), "served": served, "release": release.as_dict()})
        return
    console.print(
        f"release {release.number} of {', '.join(release.models)} is current in {where}", soft_wrap=True
    )
    if not served:
        console.print(f"next: shopsight serve --repository {where}", soft_wrap=True)


def _show_server(server: Any, where: Path, as_json: bool, console: Console) -> None:
    from shopsight.serving.status import status

    found = status(where)
    if as_json:
        _print_json(found)
        return
    from shopsight.serving.pages import status_table

    console.print(status_table(found))
    console.print(f"next: shopsight ask --repository {where} --customer ID", soft_wrap=True)
    console.print(f"log: {server.state.log_file}", soft_wrap=True, highlight=False)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False))
