"""One picture a benchmark: every ratio with its spread, and the line below which a peer is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def plot_ratios(rows: list[dict[str, Any]], path: Path) -> None:
    """Horizontal bars of ratio (ours against each peer), and cost against size where rows carry it."""
    compared = [row for row in rows if row["metric"] != "growth"]
    sized = [row for row in rows if row["metric"] == "growth" and _size(row) is not None]
    figure, axes = pyplot.subplots(
        1, 2 if sized else 1, figsize=(14 if sized else 9, 1.2 + 0.32 * len(compared)), squeeze=False
    )
    bars = axes[0][0]
    labels = [f"{row['case']}, against {row['peer']}" for row in compared]
    ratios = [row["ratio"] for row in compared]
    spread = [
        [max(0.0, row["ratio"] - row["p20"]) for row in compared],
        [max(0.0, row["p80"] - row["ratio"]) for row in compared],
    ]
    bars.barh(labels, ratios, xerr=spread, color="#4c78a8")
    bars.axvline(1.0, color="black", linewidth=0.8)
    bars.invert_yaxis()
    bars.set_xlabel("theirs / ours: above 1, ours is faster (p20 to p80)")
    if sized:
        _plot_growth(axes[0][1], sized)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _plot_growth(axis: Any, rows: list[dict[str, Any]]) -> None:
    for case in dict.fromkeys(row["case"] for row in rows):
        points = sorted((_size(row)[1], row["ours"]) for row in rows if row["case"] == case)
        (line,) = axis.plot(*zip(*points, strict=True), marker="o", label=case)
        linear = sorted((_size(row)[1], row["theirs"]) for row in rows if row["case"] == case)
        axis.plot(*zip(*linear, strict=True), "--", color=line.get_color(), label=f"{case}, were it linear")
    axis.set_xlabel(_size(rows[0])[0])
    axis.set_ylabel("seconds")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.legend()


def _size(row: dict[str, Any]) -> tuple[str, int] | None:
    """What a row's time grows with, and how many of it there were: details of the form num_<what>."""
    found = (name for name in ("num_interactions", "num_records") if name in row["details"])
    return next(((name.removeprefix("num_"), row["details"][name]) for name in found), None)
