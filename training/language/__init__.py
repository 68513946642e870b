"""What messages mean: intent and sentiment, learned by one small transformer from the shop's own labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language.config import LanguageConfig

if TYPE_CHECKING:
    from shopsight.training.language.checkpoint import LanguageModel

__all__ = ["LanguageConfig", "evaluate", "export", "load", "train"]

# No module here is named train, evaluate or export: importing it would replace the function of that name.
# torch takes seconds to import. Each function imports what it needs, so that listing recipes stays fast.


def train(workspace: Workspace, config: LanguageConfig, progress: Progress) -> dict[str, Any]:
    """Train the workspace's language model; see training/language/trainer.py."""
    from shopsight.training.language.trainer import train as run

    return run(workspace, config, progress)


def evaluate(workspace: Workspace, config: LanguageConfig) -> dict[str, Any]:
    """Measure the trained language model on held-out messages; see training/language/evaluation.py."""
    from shopsight.training.language.evaluation import evaluate as run

    return run(workspace, config)


def export(workspace: Workspace, config: LanguageConfig) -> list[Path]:
    """Write models/intent_encoder and models/understand; see training/language/exporter.py."""
    from shopsight.training.language.exporter import export as run

    return run(workspace, config)


def load(workspace: Workspace) -> LanguageModel:
    """Load the trained model; its `predict(texts)` classifies any number of messages."""
    from shopsight.training.language.checkpoint import load as run

    return run(workspace)
