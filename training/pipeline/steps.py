"""The steps of the pipeline: which families can learn, how one is trained, evaluated and exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.progress import Progress, counted, silent
from shopsight.training.artifacts.model_folders import models_replaced
from shopsight.training.artifacts.plain_settings import config_from
from shopsight.training.artifacts.snapshots import on_one_snapshot, read_snapshot
from shopsight.training.artifacts.trained_state import folder_of, is_trained, saved_config
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.goods import fee_ids
from shopsight.training.data.tables import scan_table
from shopsight.training.pipeline.families import FAMILIES, NAMES, named
from shopsight.training.pipeline.insight import export_insight
from shopsight.training.pipeline.overrides import ConfigError
from shopsight.training.pipeline.recipes import Recipe


class NothingToLearn(ValueError):  # noqa: N818 - reads as what happened
    """The workspace lacks the rows that the asked family learns from."""


def chosen(workspace: Workspace, family: str, progress: Progress) -> list[str]:
    """Return the families to run: the named one, or for "all" each that has the rows it needs.

    A family left out of "all" is named with its reason; raises NothingToLearn when a named family, or every
    family, lacks rows, and UnknownFamily for a name that is none.
    """
    before = ever_trained(workspace)
    every = [one for one in FAMILIES if not one.on_request or one.name in before]
    tables = read_snapshot(workspace.tables)["tables"]
    ready = []
    for one in every if family == "all" else (named(family),):
        lacking = [table for table in one.requires if not tables.get(table, {}).get("rows")]
        if not lacking and one.requires_purchases and not _anything_bought(workspace):
            lacking = ["purchases of goods"]
        if not lacking:
            ready.append(one.name)
            continue
        reason = f"{one.name}: no rows in {', '.join(lacking)} of {workspace.tables}"
        if family != "all":
            raise NothingToLearn(f"{reason}; ingest a source of that kind first")
        progress(f"left out {reason}")
    if not ready:
        raise NothingToLearn(f"{workspace.tables} has no rows that any family learns from")
    return ready


def ever_trained(workspace: Workspace) -> list[str]:
    """Return the families that were trained at some time, also where their weights were erased since."""
    return [name for name in NAMES if saved_config(workspace, name) is not None]


def as_trained(workspace: Workspace, recipe: Recipe) -> Recipe:
    """Return the recipe with the settings that each family was last trained with.

    Raises ConfigError where they were saved by another release.
    """
    saved = {}
    for name in ever_trained(workspace):
        try:
            saved[name] = config_from(named(name).config, saved_config(workspace, name) or {})
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{folder_of(workspace, name)}: the settings are of another release ({error}); "
                f"run 'shopsight train {name}'"
            ) from error
    return recipe.replaced(saved)


def train(workspace: Workspace, recipe: Recipe, family: str, progress: Progress) -> dict[str, Any]:
    """Train one family; returns its figures."""
    return dict(named(family).train(workspace, recipe.of(family), progress))


def evaluate(workspace: Workspace, recipe: Recipe, family: str) -> dict[str, Any]:
    """Evaluate one trained family; returns metrics with intervals and the protocol."""
    return dict(named(family).evaluate(workspace, recipe.of(family)))


@on_one_snapshot
def export(
    workspace: Workspace, recipe: Recipe, families: Sequence[str], progress: Progress = silent
) -> list[Path]:
    """Export trained families into `workspace.models`, and `insight` over all that lie there.

    All of it becomes visible in one step. Raises NotTrained when the tables are not those of the training.
    """
    owners = dict.fromkeys(named(name).served_in or name for name in families)
    for name in list(owners):
        caller = named(name).called_by
        if caller is not None and is_trained(workspace, caller):
            owners.pop(caller, None)
            owners[caller] = None  # after the models that its router asks
    folders: list[Path] = []
    with models_replaced(workspace) as staged, counted(progress, "exporting", len(owners)) as done:
        for name in owners:
            folders += _exported(staged, recipe, name)
            done(1)
        folders.append(export_insight(staged))
    return [workspace.models / folder.name for folder in folders]


def _anything_bought(workspace: Workspace) -> bool:
    """Whether a known customer bought goods: fees alone are no purchase."""
    fees = fee_ids(scan_table(workspace.tables, "items").collect())
    is_fee = pl.col("item_id").is_in(fees.implode()).fill_null(False)
    bought = (pl.col("event") == "purchase") & pl.col("customer_id").is_not_null() & ~is_fee
    return not scan_table(workspace.tables, "events").filter(bought).head(1).collect().is_empty()


def _exported(staged: Workspace, recipe: Recipe, name: str) -> list[Path]:
    export_family = named(name).export
    if export_family is None:
        raise ValueError(f"family {name} is exported with '{named(name).served_in}'")
    return export_family(staged, recipe.of(name))
