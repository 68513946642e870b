"""Embedding recommenders on TorchRec: a two-tower retriever, and a ranker of its candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.embedding.config import EmbeddingConfig

__all__ = ["EmbeddingConfig", "evaluate", "export", "train"]

# TorchRec takes seconds to import, so each function imports what it needs.


def train(workspace: Workspace, config: EmbeddingConfig, progress: Progress, **hooks: Any) -> dict[str, Any]:
    """Choose epochs, evaluate on later events, fit to all; see training/recommend/embedding/trainer.py.

    Called by every worker of a process group, or by one process alone. hooks: on_epoch and on_checkpoint.
    """
    from shopsight.training.recommend.embedding.trainer import train as run

    return run(workspace, config, progress, **hooks)


def evaluate(workspace: Workspace, config: EmbeddingConfig) -> dict[str, Any]:
    """Measure the trained towers beside popularity; see training/recommend/embedding/trainer.py."""
    from shopsight.training.recommend.embedding.trainer import evaluate as run

    return run(workspace, config)


def export(workspace: Workspace, config: EmbeddingConfig) -> list[Path]:
    """Write models/two_tower_retrieval and models/ranker; see training/recommend/embedding/exporter.py."""
    from shopsight.training.recommend.embedding.exporter import export as run

    return run(workspace, config)
