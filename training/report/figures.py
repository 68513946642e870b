"""Figures of the report as SVG text, for readers without technical background."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shopsight.training.artifacts.svg import PALETTE, STYLE, svg

_JOINERS = "\u200c\u200d"  # without them Persian, Indic and emoji names read differently


def bars(names: Sequence[str], values: Sequence[float], *, unit: str) -> str:
    """Draw one horizontal bar per name, with room for the longest name and the values at the bars' ends."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.5 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(names)), values, color=PALETTE[0])
        axes.set_yticks(range(len(names)), [shortened(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel(shortened(unit, 80))
        for row, value in enumerate(values):
            axes.text(value, row, f" {_number(value)}", va="center", fontsize=9)
        axes.set_xlim(0, max(values, default=1.0) * 1.18 or 1.0)
        return svg(figure)


def line(days: Sequence[object], values: Sequence[float], *, unit: str) -> str:
    """Draw one value over time, on an axis that starts at zero."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(np.asarray(days), values, color=PALETTE[0], linewidth=1.8)
        axes.fill_between(np.asarray(days), values, alpha=0.15, color=PALETTE[0])
        axes.set_ylim(bottom=0)
        axes.set_ylabel(shortened(unit, 80))
        return svg(figure)


def scatter(points: NDArray[np.float32], groups: NDArray[np.int64], names: Sequence[str]) -> str:
    """Draw customers as points, one colour per segment; points [n, 2], groups int [n] indexing names."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        axes = figure.subplots()
        for group in range(len(names)):
            chosen = points[groups == group]
            axes.scatter(
                chosen[:, 0], chosen[:, 1], s=7, alpha=0.55, linewidths=0,
                color=PALETTE[group % len(PALETTE)], label=f"group {group}",
            )  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks([])
        legend = axes.legend(
            frameon=False, markerscale=2.5, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(shortened(name))  # a label that begins with _ would be left out of the legend
        return svg(figure)


def shortened(name: str, limit: int = 44) -> str:
    """Return a name in one line, without invisible characters, cut to the space in a figure.

    limit: in letters; a Chinese, Japanese or Korean character has the width of two.
    """
    shown = "".join(c if c.isprintable() or c in _JOINERS else " " for c in name)
    shown = " ".join(shown.split())
    ends = list(accumulate(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown))
    if not ends or ends[-1] <= limit:
        return shown
    return shown[: bisect_right(ends, limit - 1)] + "…"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"
