"""The families of models, and the one way in which each of them is trained, evaluated and exported."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.training.artifacts.model_folders import models_replaced
from shopsight.training.artifacts.snapshots import on_one_snapshot, read_snapshot
from shopsight.training.artifacts.trained_state import folder_of, is_trained, saved_config
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import scan_table
from shopsight.training.pipeline.insight import export_insight
from shopsight.training.pipeline.overrides import ConfigError
from shopsight.training.pipeline.recipes import Recipe
from shopsight.training.recommend.embedding.config import config_from

# In the order of training: what the language model reads in messages is measured in profiles, and segments
# are used by recommend.
FAMILIES = ("language", "profiles", "value", "recommend", "embedding")
# A family that "all" keeps up to date once it was trained by its name: it takes longer than all others.
ON_REQUEST = frozenset({"embedding"})

# The tables a family cannot do without; a workspace of messages alone has no profiles to learn.
REQUIRES = {
    "profiles": ("events",),
    "value": ("events",),
    "recommend": ("events", "items"),
    "language": ("messages", "labels"),
    "embedding": ("events", "items"),
}
# A family that is served inside the folder of another: exporting either exports both.
SERVED_WITH = {"value": "profiles"}
# A family whose models the router of another calls: exporting it exports the other, where trained, after it.
CALLED_BY = {"embedding": "recommend"}
# Families whose training a group of workers shares; any other takes one worker, whatever is asked for.
DATA_PARALLEL = frozenset({"embedding"})

_MODULES = {"embedding": "recommend.embedding"}

Progress = Callable[[str], None]


class NothingToLearn(ValueError):  # noqa: N818 - reads as what happened
    """The workspace lacks the rows that the asked family learns from."""


class UnknownFamily(ValueError):  # noqa: N818 - reads as what happened
    """No family of models has this name."""


def chosen(workspace: Workspace, family: str, progress: Progress) -> list[str]:
    """Return the families to run: the named one, or for "all" each that has the rows it needs.

    A family left out of "all" is named with its reason; raises NothingToLearn when a named family, or every
    family, lacks rows, and UnknownFamily for a name that is none.
    """
    if family != "all" and family not in FAMILIES:
        raise UnknownFamily(f"no family of models '{family}'; there are: {', '.join(FAMILIES)}, all")
    tables = read_snapshot(workspace.tables)["tables"]
    ready = []
    every = [name for name in FAMILIES if name not in ON_REQUEST or name in ever_trained(workspace)]
    for name in every if family == "all" else (family,):
        lacking = [t for t in REQUIRES[name] if not tables.get(t, {}).get("rows")]
        if not lacking and name == "value" and not _anything_bought(workspace):
            lacking = ["purchases"]
        if not lacking:
            ready.append(name)
            continue
        reason = f"{name}: no rows in {', '.join(lacking)} of {workspace.tables}"
        if family != "all":
            raise NothingToLearn(f"{reason}; ingest a source of that kind first")
        progress(f"left out {reason}")
    if not ready:
        raise NothingToLearn(f"{workspace.tables} has no rows that any family learns from")
    return ready


def ever_trained(workspace: Workspace) -> list[str]:
    """Return the families that were trained at some time, also where their weights were erased since."""
    return [name for name in FAMILIES if saved_config(workspace, name) is not None]


def as_trained(workspace: Workspace, recipe: Recipe) -> Recipe:
    """Return the recipe with the settings that each family was last trained with.

    Raises ConfigError where they were saved by another release.
    """
    saved = {}
    for name in ever_trained(workspace):
        try:
            saved[name] = config_from(type(getattr(recipe, name)), saved_config(workspace, name) or {})
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{folder_of(workspace, name)}: the settings are of another release ({error}); "
                f"run 'shopsight train {name}'"
            ) from error
    return replace(recipe, **saved)


def train(workspace: Workspace, recipe: Recipe, family: str, progress: Progress) -> dict[str, Any]:
    """Train one family; returns its figures."""
    return dict(_module(family).train(workspace, getattr(recipe, family), progress))


def evaluate(workspace: Workspace, recipe: Recipe, family: str) -> dict[str, Any]:
    """Evaluate one trained family; returns metrics with intervals and the protocol."""
    return dict(_module(family).evaluate(workspace, getattr(recipe, family)))


@on_one_snapshot
def export(workspace: Workspace, recipe: Recipe, families: Sequence[str]) -> list[Path]:
    """Export trained families into `workspace.models`, and `insight` over all that lie there.

    All of it becomes visible in one step. Raises NotTrained when the tables are not those of the training.
    """
    owners = dict.fromkeys(SERVED_WITH.get(name, name) for name in families)
    for called, caller in CALLED_BY.items():
        if called in owners and is_trained(workspace, caller):
            owners.pop(caller, None)
            owners[caller] = None
    with models_replaced(workspace) as staged:
        folders = [p for name in owners for p in _module(name).export(staged, getattr(recipe, name))]
        folders.append(export_insight(staged))
    return [workspace.models / folder.name for folder in folders]


def _anything_bought(workspace: Workspace) -> bool:
    bought = (pl.col("event") == "purchase") & pl.col("customer_id").is_not_null()
    return not scan_table(workspace.tables, "events").filter(bought).head(1).collect().is_empty()


def _module(family: str) -> Any:
    return importlib.import_module(f"training.{_MODULES.get(family, family)}")
