"""Customer value: forecasts of purchases, spending and churn, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.value.config import ValueConfig

if TYPE_CHECKING:
    from shopsight.training.value.checkpoint import Trained

__all__ = ["ValueConfig", "evaluate", "load", "train"]

# Polars and SciPy take seconds to import, so each function imports what it needs.
# There is no `export`: forecasts are served within `profile`, whose exporter takes them (value/served.py).


def train(workspace: Workspace, config: ValueConfig, progress: Progress) -> dict[str, Any]:
    """Fit and calibrate the models and forecast every customer who bought; see training/value/trainer.py."""
    from shopsight.training.value.trainer import train as run

    return run(workspace, config, progress)


def evaluate(workspace: Workspace, config: ValueConfig) -> dict[str, Any]:
    """Evaluate on a temporal holdout; see training/value/holdout.py."""
    from shopsight.training.value.trainer import evaluate as run

    return run(workspace, config)


def load(workspace: Workspace) -> Trained:
    """Load the trained model: its parameters, and the forecasts of every customer who bought."""
    from shopsight.training.value.checkpoint import load as run

    return run(workspace)
