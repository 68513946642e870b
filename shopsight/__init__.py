"""Shopsight: an online shop's raw events in, customer insight out of a Triton endpoint.

What people use from Python is here by name; each name is imported when it is first asked for, so that a
service that only asks the endpoint loads no training library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shopsight.kernels.topk import topk as topk
    from shopsight.serving.client import ShopsightClient as ShopsightClient
    from shopsight.serving.pseudonym import load_key as load_key
    from shopsight.serving.repository import publish as publish
    from shopsight.training.artifacts.workspace import Workspace as Workspace
    from shopsight.training.data.ingest import ingest as ingest
    from shopsight.training.data.tables import scan_table as scan_table
    from shopsight.training.pipeline.recipes import recipe as recipe
    from shopsight.training.pipeline.steps import evaluate as evaluate
    from shopsight.training.pipeline.steps import export as export
    from shopsight.training.pipeline.steps import train as train
    from shopsight.training.recommend.graph_filter import GraphFilter as GraphFilter
    from shopsight.training.recommend.mf import MatrixFactorization as MatrixFactorization
    from shopsight.training.recommend.mf import MFConfig as MFConfig
    from shopsight.training.recommend.neighbours import EASE as EASE
    from shopsight.training.recommend.neighbours import Histories as Histories
    from shopsight.training.recommend.neighbours import ItemKNN as ItemKNN
    from shopsight.training.recommend.neighbours import Transitions as Transitions

_HOMES = {
    "EASE": "training.recommend.neighbours",
    "GraphFilter": "training.recommend.graph_filter",
    "Histories": "training.recommend.neighbours",
    "ItemKNN": "training.recommend.neighbours",
    "MFConfig": "training.recommend.mf",
    "MatrixFactorization": "training.recommend.mf",
    "ShopsightClient": "serving.client",
    "Transitions": "training.recommend.neighbours",
    "Workspace": "training.artifacts.workspace",
    "evaluate": "training.pipeline.steps",
    "export": "training.pipeline.steps",
    "ingest": "training.data.ingest",
    "load_key": "serving.pseudonym",
    "publish": "serving.repository",
    "recipe": "training.pipeline.recipes",
    "scan_table": "training.data.tables",
    "topk": "kernels.topk",
    "train": "training.pipeline.steps",
}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"shopsight has no '{name}'; it has {', '.join(sorted(_HOMES))}")
    return getattr(importlib.import_module(f"shopsight.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
