"""Commands for models: train, learn-intents, evaluate, export."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from shopsight.serving.progress import counted
from shopsight.serving.terminal_progress import TerminalProgress
from shopsight.training.cli import jobs
from shopsight.training.cli.options import (
    DEFAULT_WORKSPACE,
    FAMILY_HELP,
    ConfigOption,
    EncoderOption,
    JsonOption,
    RecipeOption,
    SetOption,
    WorkspaceOption,
    console_for,
    print_json,
    resolved,
    show_figures,
)

app = typer.Typer()


@app.command()
def train(
    family: Annotated[str, typer.Argument(help=FAMILY_HELP)] = "all",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    recipe: RecipeOption = "default",
    config: ConfigOption = None,
    settings: SetOption = None,
    encoder: EncoderOption = None,
    num_workers: jobs.NumWorkersOption = None,
    cpus_per_worker: jobs.CpusOption = 1,
    use_gpu: jobs.UseGpuOption = False,
    address: jobs.AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train models from the tables, in this process or, given --num-workers, on workers of a Ray cluster.

    Example: shopsight train recommend --workspace shop/workspace --set recommend.factors=64
    """
    from shopsight.training.pipeline import steps

    settings = [*(settings or []), *([f"language.encoder={encoder}"] if encoder else [])]
    console, (where, chosen_recipe) = console_for(as_json), resolved(workspace, recipe, config, settings)
    progress, figures = TerminalProgress(console), {}
    names = steps.chosen(where, family, progress)
    with jobs.trainer(num_workers, cpus_per_worker, use_gpu, address) as run:
        for name in names:
            began = time.monotonic()
            figures[name] = run(where, chosen_recipe, name, progress)
            progress(f"{name}: trained in {time.monotonic() - began:.1f} s")
    show_figures(figures, as_json)


@app.command("learn-intents")
def learn_intents(
    examples: Annotated[Path, typer.Argument(help="CSV or JSON Lines with the columns text and intent.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    most_loss: Annotated[
        float, typer.Option(help="How far the accuracy of the known intents may fall.", min=0.0, max=1.0)
    ] = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Add new intents to the trained language model from a few examples, in seconds.

    Example: shopsight learn-intents gift-cards.csv --workspace shop/workspace
    """
    from shopsight.training.artifacts.workspace import Workspace
    from shopsight.training.language.new_intents import learn, read_examples

    console = console_for(as_json)
    figures = learn(Workspace(workspace), read_examples(examples), most_loss, TerminalProgress(console))
    show_figures({"language": figures}, as_json)
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
    """Measure trained models on held-out rows: metrics with intervals, and a leak report.

    Example: shopsight evaluate all --workspace shop/workspace
    """
    from shopsight.training.pipeline import steps

    console, (where, chosen_recipe) = console_for(as_json), resolved(workspace, recipe, config, settings)
    progress, figures = TerminalProgress(console), {}
    names = steps.chosen(where, family, progress)
    with counted(progress, "evaluating", len(names)) as done:
        for name in names:
            figures[name] = steps.evaluate(where, chosen_recipe, name)
            done(1)
    show_figures(figures, as_json)


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

    console, (where, chosen_recipe) = console_for(as_json), resolved(workspace, recipe, config, settings)
    progress = TerminalProgress(console)
    names = steps.chosen(where, family, progress)
    folders = steps.export(where, chosen_recipe, names, progress)
    if as_json:
        print_json({"models": [str(folder) for folder in folders]})
        return
    for folder in folders:
        console.print(f"exported {folder}")
    console.print(f"next: shopsight publish --workspace {workspace}")
