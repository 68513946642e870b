"""Recommendations: factors of customers and items, learned from events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.config import EventWeights, RecommendConfig

if TYPE_CHECKING:
    from shopsight.training.recommend.checkpoint import Trained

__all__ = ["EventWeights", "RecommendConfig", "evaluate", "export", "load", "train"]

# Polars and numba take seconds to import, so each function imports what it needs.


def train(workspace: Workspace, config: RecommendConfig, progress: Progress) -> dict[str, Any]:
    """Choose settings, evaluate on later events, fit to all events; see training/recommend/trainer.py."""
    from shopsight.training.recommend.trainer import train as run

    return run(workspace, config, progress)


def evaluate(workspace: Workspace, config: RecommendConfig) -> dict[str, Any]:
    """Measure the trained recommender beside popularity; see training/recommend/evaluation.py."""
    from shopsight.training.recommend.evaluation import evaluate as run

    return run(workspace, config)


def export(workspace: Workspace, config: RecommendConfig) -> list[Path]:
    """Write models/mf_retrieval and models/recommend; see training/recommend/exporter.py."""
    from shopsight.training.recommend.exporter import export as run

    return run(workspace, config)


def load(workspace: Workspace) -> Trained:
    """Load the trained recommender: factors, ids and the chosen settings."""
    from shopsight.training.recommend.checkpoint import load as run

    return run(workspace)
