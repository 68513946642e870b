"""Figures of the report as SVG text, drawn to be read by people who are no engineers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's palette stays apart for colour-blind readers.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#4D4D4D")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "shopsight",
    "font.family": "sans-serif",
}


def bars(names: Sequence[str], values: Sequence[float], *, unit: str) -> str:
    """Draw one horizontal bar a name, the longest name fully legible, values written at the bars' ends."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.5 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(names)), values, color=PALETTE[0])
        axes.set_yticks(range(len(names)), [shortened(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        for row, value in enumerate(values):
            axes.text(value, row, f" {_number(value)}", va="center", fontsize=9)
        axes.set_xlim(0, max(values, default=1.0) * 1.18 or 1.0)
        return svg(figure)


def line(days: Sequence[object], values: Sequence[float], *, unit: str) -> str:
    """Draw one value over time from zero up."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(np.asarray(days), values, color=PALETTE[0], linewidth=1.8)
        axes.fill_between(np.asarray(days), values, alpha=0.15, color=PALETTE[0])
        axes.set_ylim(bottom=0)
        axes.set_ylabel(unit)
        return svg(figure)


def scatter(points: NDArray[np.float32], groups: NDArray[np.int64], names: Sequence[str]) -> str:
    """Draw customers as points, one colour per segment; points [n, 2], groups int [n] indexing names."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        axes = figure.subplots()
        for group, name in enumerate(names):
            chosen = points[groups == group]
            axes.scatter(
                chosen[:, 0], chosen[:, 1], s=7, alpha=0.55, linewidths=0,
                color=PALETTE[group % len(PALETTE)], label=name,
            )  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(frameon=False, markerscale=2.5, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg(figure)


def shortened(name: str, limit: int = 44) -> str:
    """Cut a name to what a figure has room for."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def svg(figure: Figure) -> str:
    """The drawn figure as SVG text to put into a page; equal figures give equal text."""
    """Return a figure as SVG text, the same bytes for the same figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
