"""Train and evaluate the value model: from tables to value and churn of every customer who bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import polars as pl

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.trained_state import training, write_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.goods import fee_ids
from shopsight.training.data.consent import PROFILING, permitted
from shopsight.training.data.money import events_in_main
from shopsight.training.data.period import end_of_data
from shopsight.training.data.tables import scan_table
from shopsight.training.value.checkpoint import FAMILY, Trained, load_current, save
from shopsight.training.value.config import ValueConfig
from shopsight.training.value.holdout import backtest
from shopsight.training.value.model import ValueModel, fit
from shopsight.training.value.purchases import Histories, histories
from shopsight.training.value.recent_tone import read_recent_tones
from shopsight.training.value.trust import Trusts, decide

_COLUMNS = (
    "customer_id", "frequency", "recency", "T", "monetary_value", "alive", "expected_purchases", "value",
    "value_low", "value_high", "churn",
)  # fmt: skip


def train(workspace: Workspace, config: ValueConfig, progress: Progress) -> dict[str, Any]:
    """Fit to all purchases, evaluate on a temporal holdout, replace the trained model; returns the metrics.

    Customers who forbid profiling are left out. Raises Busy if another process trains the model.
    """
    with training(workspace, FAMILY) as run:
        trained = _fitted(workspace, config, progress)
        save(run, trained)
        return trained.metrics


def _fitted(workspace: Workspace, config: ValueConfig, progress: Progress) -> Trained:
    events = events_in_main(workspace.tables, permitted(workspace, "events", PROFILING))
    fees = _fees(workspace)
    known = histories(events, end_of_data(workspace), fees)
    progress(f"{known.table.height:,} customers bought as of {known.as_of:%Y-%m-%d %H:%M}")
    tones = read_recent_tones(workspace, known.as_of, config.tone_days, progress)
    tested = backtest(events, known, config, tones, fees)
    model = fit(known)
    if tested:
        model = replace(model, calibration=tested.calibration, level=tested.level)
    trusts = decide(known, model.spending is not None, tested, config.horizon_days)
    notes = (*known.notes, *model.doubts)
    for note in (*notes, *trusts.warnings()):
        progress(note)
    customers = trusts.applied_to(model.forecast(tones.on(known), config).select(_COLUMNS))
    holdout = tested.figures if tested else None
    trained = Trained(
        model=model,
        customers=customers,
        currency=known.currency,
        as_of=known.as_of,
        notes=notes,
        trusts=trusts,
        metrics=_metrics(model, known, customers, trusts, holdout, notes),
        config=asdict(config),
    )
    if holdout:
        brier, base = holdout["brier"]["value"], holdout["brier_base_rate"]["value"]
        auc = "no AUC" if holdout["auc"]["value"] is None else f"AUC {holdout['auc']['value']:.3f}"
        progress(
            f"churn on the last {config.horizon_days} days: Brier {brier:.3f} (base rate {base:.3f}), {auc}"
        )
    return trained


@on_one_snapshot
def evaluate(workspace: Workspace, config: ValueConfig) -> dict[str, Any]:
    """Evaluate on the temporal holdout again, with the given settings, and store the metrics.

    Raises NotTrained when there is no model, or when the tables changed since.
    """
    state, trained = load_current(workspace)
    events = events_in_main(workspace.tables, permitted(workspace, "events", PROFILING))
    fees = _fees(workspace)
    known = histories(events, trained.as_of, fees)
    tones = read_recent_tones(workspace, known.as_of, config.tone_days, lambda _: None)
    tested = backtest(events, known, config, tones, fees)
    metrics = dict(trained.metrics) | ({"holdout": tested.figures} if tested else {})
    write_metrics(workspace, state, metrics)
    return metrics


def _fees(workspace: Workspace) -> Sequence[str]:
    """Return the ids of items that are no goods, such as postage."""
    return fee_ids(scan_table(workspace.tables, "items").collect()).to_list()


def _metrics(
    model: ValueModel,
    known: Histories,
    customers: pl.DataFrame,
    trusts: Trusts,
    holdout: dict[str, Any] | None,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    value, purchases = (float(customers[name].sum()) for name in ("value", "expected_purchases"))
    churn = float(customers["churn"].mean())  # type: ignore[arg-type]
    return {
        "num_customers": customers.height,
        "num_repeat": int((customers["frequency"] > 0).sum()),
        "as_of": known.as_of.isoformat(),
        "currency": known.currency,
        "buying": model.buying.as_dict(),
        "spending": model.spending.as_dict() if model.spending else None,
        "calibration": asdict(model.calibration),
        "money_level": model.level,
        "total_value": _finite(value),
        "total_expected_purchases": _finite(purchases),
        "mean_churn": _finite(churn),
        "trust": trusts.as_dict(),
        "notes": list(notes),
        **({"holdout": holdout} if holdout else {}),
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
