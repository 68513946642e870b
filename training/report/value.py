"""The report's section on value and churn: forecasts by group, and the backtest of such forecasts."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from shopsight.training.artifacts.svg import PALETTE, STYLE, svg
from shopsight.training.artifacts.trained_state import NotTrained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.report import figures
from shopsight.training.value.checkpoint import Trained

_TENTHS = 10


def worth(workspace: Workspace) -> dict[str, Any]:
    """Return the section on value and churn; `worth` is None if no value model was trained."""
    from shopsight.training import value

    try:
        trained = value.load(workspace)
    except NotTrained:
        return {"worth": None}
    currency = trained.currency or "money"
    priced = bool(trained.customers["value"].is_finite().all())
    return {
        "worth": {
            "days": trained.horizon_days,
            "sentence": _sentence(trained, currency, priced),
            "value_plot": _tenths(trained, currency) if priced else "",
            "currency": currency,
            "segments": _by_segment(workspace, trained) if priced else [],
            "holdout": _holdout(trained.metrics.get("holdout"), currency),
            "notes": trained.notes,
            "badges": _badges(trained),
        }
    }


def _sentence(trained: Trained, currency: str, priced: bool) -> str:
    rows, days = trained.customers, trained.horizon_days
    said = f"{rows.height:,} customers have bought."
    purchases, churn = float(rows["expected_purchases"].sum()), float(rows["churn"].to_numpy().mean())
    if math.isfinite(purchases):
        said += f" The expected number of their purchases in the next {days} days is {purchases:,.0f}."
    if math.isfinite(churn):
        said += f" An expected {churn:.0%} of them buy nothing in the next {days} days."
    if priced:
        total = float(rows["value"].sum())
        best = float(rows["value"].top_k(max(1, rows.height // _TENTHS)).sum()) / max(total, 1e-9)
        said += f" Their expected spending in the next {days} days is {total:,.0f} {currency}"
        if trained.trusts.value.status == "widened":
            factor = trained.trusts.value.factor
            said += f" (by the backtest, from {total / factor:,.0f} to {total * factor:,.0f} {currency})"
        said += f", of which the top tenth of customers spends {best:.0%}."
    return said


def _badges(trained: Trained) -> list[dict[str, str]]:
    """Return the status of each quantity with its reason, as in the served answers."""
    trusts = trained.trusts
    named = {"Money": trusts.value, "Purchases": trusts.expected_purchases, "Churn": trusts.churn}
    return [{"name": name, "status": one.status, "reason": one.reason} for name, one in named.items()]


def _tenths(trained: Trained, currency: str) -> str:
    ordered = np.sort(trained.customers["value"].to_numpy())[::-1]
    means = [float(part.mean()) for part in np.array_split(ordered, _TENTHS) if len(part)]
    names = [f"tenth {number}" for number in range(1, len(means) + 1)]
    return figures.bars(names, means, unit=f"{currency} expected a customer in {trained.horizon_days} days")


def _by_segment(workspace: Workspace, trained: Trained) -> list[dict[str, str]]:
    from shopsight.training import profiles

    try:
        assigned = profiles.load(workspace).assigned
    except NotTrained:
        return []
    rows = (
        assigned.join(trained.customers, on="customer_id", how="left")
        .group_by("name")
        .agg(
            customers=pl.len(),
            buyers=pl.col("value").count(),
            total=pl.col("value").sum(),
            mean=pl.col("value").mean(),
            churn=pl.col("churn").mean(),
        )
        .filter(pl.col("buyers") > 0)
        .sort("total", descending=True)
    )
    whole = max(float(rows["total"].sum()), 1e-9)
    return [
        {
            "name": row["name"],
            "customers": f"{row['customers']:,}",
            "buyers": f"{row['buyers']:,}",
            "mean": f"{row['mean']:,.2f}",
            "share": f"{row['total'] / whole:.0%}",
            "churn": f"{row['churn']:.0%}" if math.isfinite(row["churn"]) else "withheld",
        }
        for row in rows.to_dicts()
    ]


def _holdout(found: dict[str, Any] | None, currency: str) -> dict[str, str] | None:
    if found is None:
        return None
    brier, base, auc = (found[name] for name in ("brier", "brier_base_rate", "auc"))
    ranked = "" if auc["value"] is None else (
        f"; the customer who left had the higher probability in {auc['value']:.0%} of pairs (AUC)"
    )  # fmt: skip
    said = (
        f"Backtest: a forecast for {found['num_customers']:,} customers from the data up to "
        f"{found['cut'][:10]}, compared with the {found['horizon_days']} days that followed. "
        f"{found['churned']:.0%} bought nothing; {found['churn_said']:.0%} was forecast. Brier score "
        f"{brier['value']:.3f} ({brier['low']:.3f} to {brier['high']:.3f}), against {base['value']:.3f} for "
        f"the same probability for all{ranked}."
    )
    if "spend" in found:
        spend, within = found["spend"], found["spend_within_interval"]["value"]
        said += (
            f" They spent {spend['happened']:,.0f} {currency}; {spend['expected']:,.0f} was expected; "
            f"{within:.0%} stayed within their range."
        )
    return {"sentence": said, "plot": _reliability(found["reliability"])}


def _reliability(bins: list[dict[str, Any]]) -> str:
    """Draw forecast probabilities against observed shares; on the diagonal the forecast is calibrated."""
    said, happened, low, high = (
        np.array([one[name] for one in bins]) for name in ("said", "happened", "low", "high")
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=PALETTE[7], linewidth=1, linestyle="--")
        axes.errorbar(
            said, happened, yerr=[happened - low, high - happened], fmt="o", color=PALETTE[0], capsize=3
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("forecast probability of no purchase")
        axes.set_ylabel("observed share without a purchase")
        return svg(figure)
