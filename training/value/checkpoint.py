"""The trained value model on disk: the forecasts of every customer, and the parameters of the models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from shopsight.training.artifacts.trained_state import TrainedState, Training, opened
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.value.calibration import Calibration
from shopsight.training.value.fitting import Estimate
from shopsight.training.value.model import ValueModel
from shopsight.training.value.trust import Trusts

FORMAT_VERSION = 3
FAMILY = "value"

_CUSTOMERS = "customers.parquet"


@dataclass(frozen=True)
class Trained:
    """A trained value model.

    customers: one row for each customer who bought, with customer_id (sorted), frequency, recency, T (days),
    monetary_value, alive, expected_purchases, value, value_low, value_high (currency units within the
    horizon) and churn. Numbers that `trusts` withhold are NaN.
    notes: sentences on what was left out or could not be estimated.
    """

    model: ValueModel
    customers: pl.DataFrame
    currency: str | None
    as_of: datetime
    notes: tuple[str, ...]
    trusts: Trusts
    metrics: dict[str, Any]
    config: dict[str, Any]

    @property
    def horizon_days(self) -> int:
        """The number of days that are forecast."""
        return int(self.config["horizon_days"])


def save(run: Training, trained: Trained) -> None:
    """Replace the trained value model in one step."""
    model = trained.model
    facts = {
        "buying": model.buying.as_dict(),
        "spending": model.spending.as_dict() if model.spending else None,
        "calibration": asdict(model.calibration),
        "level": model.level,
        "currency": trained.currency,
        "as_of": trained.as_of.isoformat(),
        "notes": list(trained.notes),
        "trust": trained.trusts.as_dict(),
    }
    with run.saved(FORMAT_VERSION, trained.config, facts, trained.metrics) as folder:
        trained.customers.write_parquet(folder / _CUSTOMERS)


def load(workspace: Workspace) -> Trained:
    """Read the trained value model; raises NotTrained and StateDamaged with the remedy."""
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        return _read(state)


def load_current(workspace: Workspace) -> tuple[TrainedState, Trained]:
    """Read the trained model; raises NotTrained also when the tables changed since the training."""
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        state.require_present_tables(workspace)
        return state, _read(state)


def _read(state: TrainedState) -> Trained:
    facts = state.facts
    model = ValueModel(
        buying=_estimate(facts["buying"]),
        spending=_estimate(facts["spending"]) if facts["spending"] else None,
        calibration=Calibration(**facts["calibration"]),
        level=facts["level"],
    )
    return Trained(
        model=model,
        customers=pl.read_parquet(state.folder / _CUSTOMERS),
        currency=facts["currency"],
        as_of=datetime.fromisoformat(facts["as_of"]),
        notes=tuple(facts["notes"]),
        trusts=Trusts.of(facts["trust"]),
        metrics=state.metrics,
        config=state.config,
    )


def _estimate(raw: dict[str, Any]) -> Estimate:
    return Estimate(**{**raw, "doubts": tuple(raw["doubts"])})
