"""What to show whom: factors of customers and items from what customers did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.recommend.config import EventWeights, RecommendConfig
from training.workspace import Workspace

if TYPE_CHECKING:
    from training.recommend.checkpoint import Trained

__all__ = ["EventWeights", "RecommendConfig", "evaluate", "export", "load", "train"]

# Polars and numba take seconds to import; naming a recipe stays quick.


def train(workspace: Workspace, config: RecommendConfig, progress: Callable[[str], None]) -> dict[str, Any]:
    """Choose settings, judge them on later events, fit to everything; see training/recommend/trainer.py."""
    from training.recommend.trainer import train as run

    return run(workspace, config, progress)


def evaluate(workspace: Workspace, config: RecommendConfig) -> dict[str, Any]:
    """Measure the trained recommender beside popularity; see training/recommend/evaluation.py."""
    from training.recommend.evaluation import evaluate as run

    return run(workspace, config)


def export(workspace: Workspace, config: RecommendConfig) -> list[Path]:
    """Write models/mf_retrieval and models/recommend; see training/recommend/exporter.py."""
    from training.recommend.exporter import export as run

    return run(workspace, config)


def load(workspace: Workspace) -> Trained:
    """Load the trained recommender: factors, ids and the chosen settings."""
    from training.recommend.checkpoint import load as run

    return run(workspace)
