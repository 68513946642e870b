"""One picture a benchmark: every ratio with its spread, and the line below which a peer is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

_WIDE = 20.0  # ratios beyond this would flatten the others on a linear axis


def plot_ratios(rows: list[dict[str, Any]], path: Path) -> None:
    """Horizontal bars of ratio (ours against each peer); beside them, where rows carry it, the share of the
    floor and cost against size.
    """
    growth = [row for row in rows if "num_interactions" in row["details"] and row["metric"] == "growth"]
    floors = [row for row in rows if row["metric"] == "share of the floor"]
    compared = [row for row in rows if row["metric"] != "growth" and row not in floors]
    panels = [
        draw
        for draw, shown in (
            (lambda axis: _plot_bars(axis, compared), True),
            (lambda axis: _plot_baselines(axis, floors), bool(floors)),
            (lambda axis: _plot_growth(axis, growth), bool(growth)),
        )
        if shown
    ]
    height = 1.2 + 0.32 * max(len(compared), len(floors))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(2 + 7 * len(panels), height), squeeze=False)
    for axis, draw in zip(axes[0], panels, strict=True):
        draw(axis)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plot_risk(rows: list[dict[str, Any]], path: Path) -> None:
    """Error among the messages that are answered against the share that is, a line a case.

    rows: with `risk_coverage` in their details, as abstention.risk_coverage gives it.
    """
    figure, axis = pyplot.subplots(figsize=(7, 4.5))
    for row in rows:
        points = row["details"]["risk_coverage"]
        axis.plot(
            [point["coverage"] for point in points],
            [point["risk"] for point in points],
            marker="o",
            markersize=3,
            label=row["case"],
        )
    axis.set_xlabel("share of the messages in scope that are answered, the surest first")
    axis.set_ylabel("share of them answered wrongly")
    axis.set_ylim(bottom=0)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _plot_bars(axis: Any, rows: list[dict[str, Any]]) -> None:
    ratios = [row["ratio"] for row in rows]
    spread = [
        [max(0.0, row["ratio"] - row["p20"]) for row in rows],
        [max(0.0, row["p80"] - row["ratio"]) for row in rows],
    ]
    labels = [f"{row['case']}, against {row['peer']}" for row in rows]
    axis.barh(labels, ratios, xerr=spread, color="#4c78a8")
    axis.axvline(1.0, color="black", linewidth=0.8)
    if max(ratios, default=0.0) > _WIDE:
        axis.set_xscale("log")
    axis.invert_yaxis()
    axis.set_xlabel("theirs / ours: above 1, ours is faster (p20 to p80)")


def _plot_baselines(axis: Any, rows: list[dict[str, Any]]) -> None:
    axis.barh([row["case"] for row in rows], [row["ratio"] for row in rows], color="#72b7b2")
    for wanted in {row["details"]["wanted"] for row in rows if "wanted" in row["details"]}:
        axis.axvline(wanted, color="black", linewidth=0.8, linestyle="--")
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("share of the floor (dashed: what is wanted)")


def _plot_growth(axis: Any, rows: list[dict[str, Any]]) -> None:
    for case in dict.fromkeys(row["case"] for row in rows):
        points = sorted(
            (row["details"]["num_interactions"], row["ours"]) for row in rows if row["case"] == case
        )
        linear = sorted(
            (row["details"]["num_interactions"], row["theirs"]) for row in rows if row["case"] == case
        )
        (line,) = axis.plot(*zip(*points, strict=True), marker="o", label=case)
        axis.plot(*zip(*linear, strict=True), "--", color=line.get_color(), label=f"{case}, were it linear")
    axis.set_xlabel("interactions")
    axis.set_ylabel("seconds")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.legend()
