"""The folders of one shop: tables, models, quarantine, reports, model repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folders of one shop's workspace; nothing is created until something is written."""

    root: Path
    staged_models: Path | None = None  # the models of a running export

    @property
    def tables(self) -> Path:
        """The Parquet tables with their snapshot manifest (training/data/tables.py)."""
        return self.root / "tables"

    @property
    def quarantine(self) -> Path:
        """Refused rows with their reasons; raw customer data, readable only by the owner."""
        return self.root / "quarantine"

    @property
    def intake(self) -> Path:
        """A cache of the cleaned rows of every raw file with raw ids, readable only by the owner."""
        return self.root / "intake"

    @property
    def taught(self) -> Path:
        """The examples of `learn-intents`, which every later training uses too."""
        return self.root / "taught"

    @property
    def models(self) -> Path:
        """One folder per served model, as serving/contract.py describes, with what training resumes from."""
        return self.staged_models or self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """Trained states and data to resume from, one folder per family of models."""
        return self.root / "checkpoints"

    @property
    def reports(self) -> Path:
        """Pages and figures for people."""
        return self.root / "reports"

    @property
    def behaviour(self) -> Path:
        """The Parquet tables of behaviour analyses (training/behaviour/results.py)."""
        return self.reports / "behaviour"

    @property
    def repository(self) -> Path:
        """The default Triton model repository of `publish`."""
        return self.root / "model_repository"
