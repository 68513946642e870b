"""From tables to a value and a probability of churn for every customer who bought."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import polars as pl

from training.artifacts.snapshots import on_one_snapshot
from training.artifacts.trained_state import training, write_metrics
from training.data.goods import fee_ids
from training.data.money import events_in_main
from training.data.tables import scan_table
from training.privacy.consent import PROFILING, permitted
from training.profiles.features import end_of_data
from training.value.checkpoint import FAMILY, Trained, load_current, save
from training.value.config import ValueConfig
from training.value.holdout import foretell, judged
from training.value.model import ValueModel, fit
from training.value.mood import Moods, read_moods
from training.value.purchases import Histories, histories
from training.workspace import Workspace

Progress = Callable[[str], None]
_COLUMNS = (
    "customer_id", "frequency", "recency", "T", "monetary_value", "alive", "expected_purchases", "value",
    "value_low", "value_high", "churn",
)  # fmt: skip


def train(workspace: Workspace, config: ValueConfig, progress: Progress) -> dict[str, Any]:
    """Fit to all purchases, judge on a temporal holdout, replace the trained model; returns the metrics.

    Customers who forbid profiling are left out, as if they had never bought. Raises Busy when another process
    trains the model.
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
    moods = read_moods(workspace, known.as_of, config.mood_days, progress)
    model, holdout, missing = _calibrated(events, known, fit(known), config, moods, fees)
    notes = (*known.notes, *model.doubts, *missing)
    for note in notes:
        progress(note)
    customers = model.forecast(moods.on(known), config).select(_COLUMNS)
    trained = Trained(
        model=model,
        customers=customers,
        currency=known.currency,
        as_of=known.as_of,
        notes=notes,
        metrics=_metrics(model, known, customers, holdout, notes),
        config=asdict(config),
    )
    if holdout:
        said = holdout["brier"]["value"], holdout["brier_base_rate"]["value"], holdout["auc"]["value"]
        progress("churn on the last {} days: Brier {:.3f} (base rate {:.3f}), AUC {:.3f}".format(
            config.horizon_days, *said
        ))  # fmt: skip
    return trained


@on_one_snapshot
def evaluate(workspace: Workspace, config: ValueConfig) -> dict[str, Any]:
    """Judge on the temporal holdout again, with the settings given, and keep the metrics.

    Raises NotTrained when there is no model, or when the tables changed since.
    """
    state, trained = load_current(workspace)
    events = events_in_main(workspace.tables, permitted(workspace, "events", PROFILING))
    fees = _fees(workspace)
    known = histories(events, trained.as_of, fees)
    moods = read_moods(workspace, known.as_of, config.mood_days, lambda _: None)
    _, holdout, _ = _calibrated(events, known, trained.model, config, moods, fees)
    metrics = dict(trained.metrics) | ({"holdout": holdout} if holdout else {})
    write_metrics(workspace, state, metrics)
    return metrics


def _fees(workspace: Workspace) -> Sequence[str]:
    """Items that are no goods."""
    return fee_ids(scan_table(workspace.tables, "items").collect()).to_list()


def _calibrated(
    events: pl.LazyFrame,
    known: Histories,
    model: ValueModel,
    config: ValueConfig,
    moods: Moods,
    fees: Sequence[str],
) -> tuple[ValueModel, dict[str, Any] | None, tuple[str, ...]]:
    """The model calibrated on the last window, figures of the holdout, and what could not be had."""
    earlier = foretell(events, known, 2, config, moods=moods, fees=fees)
    last = foretell(events, known, 1, config, earlier.calibration() if earlier else None, moods, fees)
    if last is None:
        return model, None, (
            f"the shop's purchases span less than two horizons of {config.horizon_days} days: churn is the "
            "model's own probability, not calibrated; a smaller value.horizon_days would be",
        )  # fmt: skip
    if earlier is None:
        return model, None, (
            f"the shop's purchases span less than three horizons of {config.horizon_days} days: nothing is "
            "left to judge on, so that churn is the model's own probability, not calibrated; a smaller "
            "value.horizon_days would leave some",
        )  # fmt: skip
    if not last.gains_from_calibration:
        plain = last.without_calibration()
        return model, judged(plain, earlier, config), (
            "a calibration learned in the window before made the last one worse: churn is the model's own "
            "probability, not calibrated",
        )  # fmt: skip
    return replace(model, calibration=last.calibration()), judged(last, earlier, config), ()


def _metrics(
    model: ValueModel,
    known: Histories,
    customers: pl.DataFrame,
    holdout: dict[str, Any] | None,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    totals = customers.select(pl.col("value", "expected_purchases").sum(), pl.col("churn").mean()).row(0)
    return {
        "num_customers": customers.height,
        "num_repeat": int((customers["frequency"] > 0).sum()),
        "as_of": known.as_of.isoformat(),
        "currency": known.currency,
        "buying": model.buying.as_dict(),
        "spending": model.spending.as_dict() if model.spending else None,
        "calibration": asdict(model.calibration),
        "total_value": totals[0] if model.spending else None,
        "total_expected_purchases": totals[1],
        "mean_churn": totals[2],
        "notes": list(notes),
        **({"holdout": holdout} if holdout else {}),
    }
