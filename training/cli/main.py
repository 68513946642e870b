"""The `shopsight` command: every verb of the project; nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

import shopsight.serving.cli
import shopsight.training.cli.identity
import shopsight.training.cli.jobs
import shopsight.training.cli.key
import shopsight.training.cli.privacy
from shopsight.kernels import threads

app = typer.Typer(
    name="shopsight",
    help="An online shop's raw events in, customer insight out of a Triton endpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The synthetic shop, and adapters for public data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(shopsight.training.cli.key.app, name="key")
app.add_typer(shopsight.training.cli.identity.app, name="identity")
app.add_typer(shopsight.serving.cli.app)
app.add_typer(shopsight.training.cli.privacy.app)
app.add_typer(shopsight.training.cli.jobs.app)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Where tables, models and reports lie.", file_okay=False)
]
EncoderOption = Annotated[
    str | None,
    typer.Option(help="Path or name of a pre-trained encoder that the language model starts from."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
RecipeOption = Annotated[str, typer.Option(help="A named recipe; 'default' fits any shop.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file put over the recipe.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="One setting put over the recipe: recommend.factors=64")
]
FAMILY_HELP = "profiles, value, recommend, language, embedding, or all that have rows to learn from."

DEFAULT_WORKSPACE = Path("workspace")
DEFAULT_SHOP = Path("shop-demo")


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--folder", help="Made by the demo: raw/, truth/ and workspace/ inside it.")
    ] = DEFAULT_SHOP,
    customers: Annotated[int, typer.Option(help="People in the synthetic shop.", min=100)] = 20_000,
    seed: Annotated[int, typer.Option(help="Same seed, same shop.")] = 0,
    serve: Annotated[bool, typer.Option("--serve", help="Leave Triton up and print what to try.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a shop with planted truth, learn from it, serve it from Triton, compare found with planted.

    Example: shopsight demo --serve
    """
    from shopsight.training.demo.run import run_demo

    outcome = run_demo(folder, num_customers=customers, seed=seed, serve=serve, console=_console(as_json))
    if as_json:
        _print_json(outcome.as_dict())
    raise typer.Exit(0 if outcome.passed else 1)


@data_app.command("make")
def data_make(
    out: Annotated[Path, typer.Option("--out", help="Folder for raw/ and truth/.", file_okay=False)],
    customers: Annotated[float, typer.Option(help="People in the shop, 1e7 is fine.", min=100)] = 20_000,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw every item, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the synthetic shop: raw files of every channel, and the truth beside them.

    Example: shopsight data make --customers 1e5 --out my-shop
    """
    from shopsight.training.data.shop import ShopSpec, make_shop

    console, began = _console(as_json), time.monotonic()
    spec = ShopSpec(num_customers=int(customers), seed=seed, pictures=pictures)
    printer = _printer(console)
    summary = make_shop(spec, out / "raw", out / "truth", lambda done, _: printer(f"{done:,} people"))
    console.print(
        f"made {out} in {time.monotonic() - began:.1f} s; next: shopsight ingest {out}/raw/sources.toml"
    )
    if as_json:
        _print_json(_plain(summary))


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """List the public data sets that have an adapter.

    Example: shopsight data list
    """
    from shopsight.training.data.public.adapters import ADAPTERS

    rows = {name: (adapter.__doc__ or "").strip().splitlines()[0] for name, adapter in ADAPTERS.items()}
    if as_json:
        _print_json(rows)
        return
    for name, line in rows.items():
        Console().print(f"[bold]{name}[/bold]  {line}")


@data_app.command("adapt")
def data_adapt(
    name: Annotated[str, typer.Argument(help="A data set of 'shopsight data list'.")],
    path: Annotated[Path, typer.Argument(help="Where its files lie.", exists=True)],
    out: Annotated[Path, typer.Option("--out", help="Folder for sources.toml and converted files.")],
) -> None:
    """Make a public data set ready for ingest: a sources file, and conversion where its format needs it.

    Example: shopsight data adapt online_retail data/online_retail --out retail
    """
    from shopsight.training.data.public.adapters import adapt

    sources = adapt(name, path, out)
    Console().print(f"wrote {sources}; next: shopsight ingest {sources}")


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

    console = _console(as_json)
    report = run_ingest(sources, Workspace(workspace), load_key(), progress=_printer(console))
    if as_json:
        _print_json(_plain(report))
    else:
        console.print(report.table())
    if report.unread:
        raise typer.Exit(1)


def _print_schema(wanted: bool) -> None:
    if wanted:
        from shopsight.training.data.sources.reference import schema_text

        print(schema_text(), end="")
        raise typer.Exit


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
) -> None:
    """Look at raw files, write a first sources file, and add up what it would give.

    Given a sources file, checks it and adds up the same. Exits 1 where a file is not recognised or something
    has to be answered in the sources file.

    Example: shopsight validate exports/*.csv --out sources.toml
    """
    from shopsight.training.data.describing.validate import check_sources, rehearse
    from shopsight.training.data.describing.validate import validate as run_validate

    console = Console(markup=False, highlight=False, soft_wrap=True)
    is_written = not (len(files) == 1 and files[0].suffix == ".toml")
    sources = out if is_written else files[0]
    draft = run_validate(files, out) if is_written else check_sources(sources)
    for line in draft.lines:
        console.print(line)
    books, question = rehearse(sources)
    for line in books.lines() if books else [f"to be answered in {sources}: {question}"]:
        console.print(line)
    if is_written:
        console.print(f"wrote {out}; read it over, then: shopsight validate {out}")
    else:
        console.print(f"nothing was written; the tables are made by: shopsight ingest {sources}")
    raise typer.Exit(0 if books and not books.unread and not draft.is_open else 1)


@app.command()
def check(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Add up the tables, to hold them against the shop's books: orders, customers, revenue, period, basket.

    Example: shopsight check --workspace shop/workspace
    """
    from shopsight.training.data.check import check as run_check

    books = run_check(workspace / "tables")
    if as_json:
        _print_json(books.as_dict())
        return
    for line in books.lines():
        Console(markup=False, highlight=False, soft_wrap=True).print(line)


@app.command()
def train(
    family: Annotated[str, typer.Argument(help=FAMILY_HELP)] = "all",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    recipe: RecipeOption = "default",
    config: ConfigOption = None,
    settings: SetOption = None,
    encoder: EncoderOption = None,
    num_workers: shopsight.training.cli.jobs.NumWorkersOption = None,
    cpus_per_worker: shopsight.training.cli.jobs.CpusOption = 1,
    use_gpu: shopsight.training.cli.jobs.UseGpuOption = False,
    address: shopsight.training.cli.jobs.AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train models from the tables, in this process or, given --num-workers, on workers of a Ray cluster.

    Example: shopsight train recommend --workspace shop/workspace --set recommend.factors=64
    """
    from shopsight.training.pipeline import steps

    settings = [*(settings or []), *([f"language.encoder={encoder}"] if encoder else [])]
    console, (where, chosen_recipe) = _console(as_json), _resolved(workspace, recipe, config, settings)
    printer, figures = _printer(console), {}
    names = steps.chosen(where, family, printer)
    with shopsight.training.cli.jobs.trainer(num_workers, cpus_per_worker, use_gpu, address) as run:
        for name in names:
            began = time.monotonic()
            figures[name] = run(where, chosen_recipe, name, printer)
            printer(f"{name}: trained in {time.monotonic() - began:.1f} s")
    _show_figures(figures, as_json)


@app.command("learn-intents")
def learn_intents(
    examples: Annotated[Path, typer.Argument(help="CSV or JSON Lines with the columns text and intent.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    most_loss: Annotated[
        float, typer.Option(help="How far the accuracy of the known intents may fall.", min=0.0, max=1.0)
    ] = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Teach the trained language model new intents from a handful of examples, in seconds.

    Example: shopsight learn-intents gift-cards.csv --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.language.new_intents import learn, read_examples

    console = _console(as_json)
    figures = learn(Workspace(workspace), read_examples(examples), most_loss, _printer(console))
    _show_figures({"language": figures}, as_json)
    if not as_json:
        console.print(f"next: shopsight export language --workspace {workspace}")


@app.command()
def evaluate(
    family: Annotated[str, typer.Argument(help=FAMILY_HELP)] = "all",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    recipe: RecipeOption = "default",
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure trained models on rows that they never saw: metrics with intervals, and a leak report.

    Example: shopsight evaluate all --workspace shop/workspace
    """
    from shopsight.training.pipeline import steps

    console, (where, chosen_recipe) = _console(as_json), _resolved(workspace, recipe, config, settings)
    names = steps.chosen(where, family, _printer(console))
    _show_figures({name: steps.evaluate(where, chosen_recipe, name) for name in names}, as_json)


@app.command()
def export(
    family: Annotated[str, typer.Argument(help=FAMILY_HELP)] = "all",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    recipe: RecipeOption = "default",
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export trained models: ONNX, contract and golden requests, ready to publish.

    Example: shopsight export --workspace shop/workspace
    """
    from shopsight.training.pipeline import steps

    console, (where, chosen_recipe) = _console(as_json), _resolved(workspace, recipe, config, settings)
    names = steps.chosen(where, family, _printer(console))
    folders = steps.export(where, chosen_recipe, names)
    if as_json:
        _print_json({"models": [str(folder) for folder in folders]})
        return
    for folder in folders:
        console.print(f"exported {folder}")
    console.print(f"next: shopsight publish --workspace {workspace}")


@app.command()
def report(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Your customers",
) -> None:
    """Write the page for people: the customers, the segments in words, what sells, what messages are about.

    Example: shopsight report --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.report.page import write_report

    Console().print(f"wrote {write_report(Workspace(workspace), title=title)}")


@app.command()
def experiment(
    name: Annotated[str | None, typer.Argument(help="An experiment of the exposures table.")] = None,
    channel: Annotated[str | None, typer.Option(help="Count purchases of this channel alone.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Analyse an A/B test: effect with its interval, after checking that the arms have the planned sizes.

    Example: shopsight experiment --channel web --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.experiments.ab_test import analyse

    _show_figures({"experiment": _plain(analyse(Workspace(workspace), name, channel=channel))}, as_json)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Tell what this machine has and which backend each part will use.

    Example: shopsight doctor
    """
    from shopsight.training.cli.doctor import examine

    findings = examine()
    if as_json:
        _print_json(findings.as_dict())
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


_STOPPED = {130: "interrupted", 143: "terminated"}  # 128 and the signal
_AFTER_STOP = (
    "what was complete before stays as it was; the same command starts again, a training that keeps "
    "checkpoints from its last one"
)


def main() -> None:
    """Run the command; what a user can mend is told in one line, anything else keeps its traceback."""
    os.umask(0o077)  # rows of customers are for who runs this, whatever verb writes them
    threads.hold()
    try:
        app(standalone_mode=True)
    except SystemExit as ended:
        if ended.code in _STOPPED:
            Console(stderr=True).print(f"{_STOPPED[ended.code]}: {_AFTER_STOP}", soft_wrap=True)
        raise
    except (ValueError, RuntimeError, LookupError, ArithmeticError, OSError) as error:
        if not _is_ours(error):
            raise
        told = f"[red]error[/red]: {escape(str(error))}"  # a message may quote what looks like markup
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        sys.exit(1)


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("shopsight.") or isinstance(error, OSError)


def _resolved(workspace: Path, name: str, config: Path | None, settings: list[str] | None) -> tuple[Any, Any]:
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.pipeline.overrides import overridden
    from shopsight.training.pipeline.recipes import recipe

    return Workspace(workspace), overridden(recipe(name), toml_path=config, settings=settings or ())


def _console(quiet: bool) -> Console:
    return Console(stderr=quiet)


def _printer(console: Console) -> Any:
    began = time.monotonic()

    def show(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        console.print(f"[dim]{minutes:02d}:{seconds:02d}[/dim]  {line}", highlight=False)

    return show


def _show_figures(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(figures)
        return
    from shopsight.training.cli.figure_tables import tables

    for name, values in figures.items():
        for table in tables(name, values):
            Console().print(table)


def _plain(value: Any) -> Any:
    import dataclasses

    return (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, default=str, ensure_ascii=False))


if __name__ == "__main__":
    main()
