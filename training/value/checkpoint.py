"""What training leaves for export and the report: a row for every customer, and the models' numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from serving.contract import METRICS_FILE, read_json, write_json
from training.checkpoints import folder_of, read_state
from training.export import replaced_folder
from training.value.calibration import Calibration
from training.value.fitting import Estimate
from training.value.model import ValueModel
from training.workspace import Workspace

FORMAT_VERSION = 1
FAMILY = "value"
CUSTOMERS_FILE = "customers.parquet"

_STATE = "value.json"


@dataclass(frozen=True)
class Trained:
    """A trained value model.

    customers: customer_id (sorted), frequency, recency, T (days), monetary_value, alive, expected_purchases,
    value, value_low, value_high (currency units within the horizon), churn; one row each who bought.
    notes: what was left out or could not be told, in words.
    """

    model: ValueModel
    customers: pl.DataFrame
    currency: str | None
    as_of: datetime
    notes: tuple[str, ...]
    data_sha256: str
    metrics: dict[str, Any]
    config: dict[str, Any]

    @property
    def horizon_days(self) -> int:
        """How far ahead everything is told."""
        return int(self.config["horizon_days"])


def save(workspace: Workspace, trained: Trained) -> None:
    """Replace `checkpoints/value` in one step."""
    model = trained.model
    with replaced_folder(folder_of(workspace, FAMILY)) as folder:
        trained.customers.write_parquet(folder / CUSTOMERS_FILE)
        write_json(folder / METRICS_FILE, trained.metrics)
        write_json(
            folder / _STATE,
            {
                "format_version": FORMAT_VERSION,
                "buying": model.buying.as_dict(),
                "spending": model.spending.as_dict() if model.spending else None,
                "calibration": asdict(model.calibration),
                "currency": trained.currency,
                "as_of": trained.as_of.isoformat(),
                "notes": list(trained.notes),
                "data_sha256": trained.data_sha256,
                "config": trained.config,
            },
        )


def load(workspace: Workspace) -> Trained:
    """Read `checkpoints/value`; raises NotTrained with the remedy when there is none."""
    state = read_state(workspace, FAMILY, _STATE, FORMAT_VERSION)
    folder = folder_of(workspace, FAMILY)
    model = ValueModel(
        buying=_estimate(state["buying"]),
        spending=_estimate(state["spending"]) if state["spending"] else None,
        calibration=Calibration(**state["calibration"]),
    )
    return Trained(
        model=model,
        customers=pl.read_parquet(folder / CUSTOMERS_FILE),
        currency=state["currency"],
        as_of=datetime.fromisoformat(state["as_of"]),
        notes=tuple(state["notes"]),
        data_sha256=state["data_sha256"],
        metrics=read_json(folder / METRICS_FILE),
        config=state["config"],
    )


def _estimate(raw: dict[str, Any]) -> Estimate:
    return Estimate(**{**raw, "doubts": tuple(raw["doubts"])})
