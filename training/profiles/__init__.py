"""Customer profiles: features, and segments described in words and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.profiles.config import ProfilesConfig

if TYPE_CHECKING:
    from shopsight.training.profiles.checkpoint import Trained

__all__ = ["ProfilesConfig", "evaluate", "export", "load", "train"]

# Polars and scikit-learn take seconds to import, so each function imports what it needs.


def train(workspace: Workspace, config: ProfilesConfig, progress: Progress) -> dict[str, Any]:
    """Measure every customer, form segments and describe them; see training/profiles/trainer.py."""
    from shopsight.training.profiles.trainer import train as run

    return run(workspace, config, progress)


def evaluate(workspace: Workspace, config: ProfilesConfig) -> dict[str, Any]:
    """Measure how stable and how far apart the segments are; see training/profiles/trainer.py."""
    from shopsight.training.profiles.trainer import evaluate as run

    return run(workspace, config)


def export(workspace: Workspace, config: ProfilesConfig) -> list[Path]:
    """Write models/segment and models/profile; see training/profiles/exporter.py."""
    from shopsight.training.profiles.exporter import export as run

    return run(workspace, config)


def load(workspace: Workspace) -> Trained:
    """Load the trained profiles: segments in words, every customer's segment, points for a plot."""
    from shopsight.training.profiles.checkpoint import load as run

    return run(workspace)
