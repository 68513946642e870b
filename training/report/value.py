"""What the page says of value and churn: who is worth what, and whether such forecasts came true before."""

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
    """Return the section on value and churn; `worth` is None when no value model was trained."""
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
        said += f" The expected share of them who buy nothing in the next {days} days is {churn:.0%}."
    if priced:
        total = float(rows["value"].sum())
        best = float(rows["value"].top_k(max(1, rows.height // _TENTHS)).sum()) / max(total, 1e-9)
        said += f" Their expected spending in the next {days} days is {total:,.0f} {currency}"
        if trained.trusts.value.status == "widened":
            factor = trained.trusts.value.factor
            said += f" (by the backtest, from {total / factor:,.0f} to {total * factor:,.0f} {currency})"
        said += f", the best tenth of them {best:.0%} of it."
    return said


def _badges(trained: Trained) -> list[dict[str, str]]:
    """The status of each quantity with its reason, as the served answers tell it."""
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
        f"; of two customers the one who left was named in {auc['value']:.0%} of cases"
    )  # fmt: skip
    said = (
        f"The same was told of {found['num_customers']:,} customers as of {found['cut'][:10]}, from what was "
        f"known then, and held against the {found['horizon_days']} days that followed: "
        f"{found['churned']:.0%} bought nothing, {found['churn_said']:.0%} was said. Brier score "
        f"{brier['value']:.3f} ({brier['low']:.3f} to {brier['high']:.3f}), against {base['value']:.3f} for "
        f"giving everybody the same chance{ranked}."
    )
    if "spend" in found:
        spend, within = found["spend"], found["spend_within_interval"]["value"]
        said += (
            f" They spent {spend['happened']:,.0f} {currency}, {spend['expected']:,.0f} was expected; "
            f"{within:.0%} stayed within their range."
        )
    return {"sentence": said, "plot": _reliability(found["reliability"])}


def _reliability(bins: list[dict[str, Any]]) -> str:
    """Draw what was said against what happened; on the diagonal a probability means what it says."""
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
        axes.set_xlabel("said: probability of no purchase")
        axes.set_ylabel("happened: share without a purchase")
        return svg(figure)
