"""Where everything of one shop lies: tables, models, quarantine, reports, model repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folders of one shop's workspace; nothing is created until something is written."""

    root: Path
    staged_models: Path | None = None  # where an export that is under way puts its models

    @property
    def tables(self) -> Path:
        """The Parquet tables with their snapshot manifest (training/data/tables.py)."""
        return self.root / "tables"

    @property
    def quarantine(self) -> Path:
        """Refused rows with their reasons; raw customer data, readable by the owner alone."""
        return self.root / "quarantine"

    @property
    def intake(self) -> Path:
        """Cleaned rows of every raw file with raw identifiers, readable by the owner alone; a cache."""
        return self.root / "intake"

    @property
    def taught(self) -> Path:
        """The examples that `learn-intents` was given, which every later training learns from, too."""
        return self.root / "taught"

    @property
    def models(self) -> Path:
        """One folder per served model, as serving/contract.py describes, with what training resumes from."""
        return self.staged_models or self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """What a training resumes from and what `export` reads, one folder per family of models."""
        return self.root / "checkpoints"

    @property
    def reports(self) -> Path:
        """Pages and figures for people."""
        return self.root / "reports"

    @property
    def repository(self) -> Path:
        """The Triton model repository that `publish` fills unless told otherwise."""
        return self.root / "model_repository"
