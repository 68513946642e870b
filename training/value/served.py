"""The value forecasts that the router `profile` looks up: one row per customer, in the given order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.serving.routing.tensors import FORECAST, FORECAST_TRUST, FORECAST_UNITS
from shopsight.training.artifacts.trained_state import is_trained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.value.checkpoint import FAMILY, load_current


@dataclass(frozen=True)
class Served:
    """Arrays for customers.safetensors, entries of the contract, and metrics; all empty without a model."""

    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def left_out(self) -> set[str]:
        """Return the names of the outputs that `profile` then lacks."""
        return set() if self.arrays else {spec.name for spec in (*FORECAST, *FORECAST_UNITS, *FORECAST_TRUST)}


def served(workspace: Workspace, customer_ids: pl.Series) -> Served:
    """Return the forecasts of `customer_ids`, float32 [n, 6] in the order of tensors.FORECAST.

    NaN for customers who never bought and for quantities that training/value/trust.py withholds. Without a
    trained model the result is empty. Raises NotTrained if the tables changed since the training.
    """
    if not is_trained(workspace, FAMILY):
        return Served()
    _, trained = load_current(workspace)
    rows = customer_ids.to_frame("customer_id").join(
        trained.customers, on="customer_id", how="left", maintain_order="left"
    )
    columns = [rows[spec.name.lower()].cast(pl.Float32).fill_null(float("nan")) for spec in FORECAST]
    return Served(
        arrays={"forecast": np.stack([column.to_numpy() for column in columns], axis=1)},
        preprocessing={
            "forecast": {
                "currency": trained.currency or "",
                "horizon_days": trained.horizon_days,
                "interval": trained.config["interval"],
                "discount_rate": trained.config["discount_rate"],
                "trust": trained.trusts.as_dict(),
            }
        },
        metrics={"value": trained.metrics},
    )
