"""Where a family of models keeps what it trained, and how its state is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.contract import read_json
from training.workspace import Workspace


class NotTrained(ValueError):  # noqa: N818 - reads as what happened
    """A family has no trained model, or one that was trained by other code or on other tables."""


def folder_of(workspace: Workspace, family: str) -> Path:
    """Return where a family's checkpoint lies."""
    return workspace.checkpoints / family


def search_folder(workspace: Workspace) -> Path:
    """Return where the trials of searches lie while they run; nothing there outlives a search."""
    return workspace.checkpoints / "search"


def read_state(workspace: Workspace, family: str, file: str, format_version: int) -> dict[str, Any]:
    """Read the JSON state of a trained family; raises NotTrained with the remedy."""
    path = folder_of(workspace, family) / file
    if not path.is_file():
        raise NotTrained(f"{path.parent}: no trained {family} model; run 'shopsight train {family}' first")
    state = read_json(path)
    if state.get("format_version") != format_version:
        raise NotTrained(
            f"{path}: format_version is {state.get('format_version')}, expected {format_version}; "
            f"run 'shopsight train {family}' again"
        )
    return state
