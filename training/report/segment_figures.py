"""Figures of segments: the choice of their number, and moves between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shopsight.training.artifacts.svg import PALETTE, STYLE, svg
from shopsight.training.report.figures import shortened


def choice(tried: Sequence[dict[str, Any]]) -> str:
    """Draw stability, the least stable segment and silhouette over the number of segments, the chosen marked.

    tried: rows of training/profiles/choosing.py.
    """
    told = {
        "stability": "stability of all groups",
        "jaccard_min": "stability of the least stable group",
        "silhouette": "distance between groups",
    }
    numbers = [row["num_segments"] for row in tried]
    chosen = next(row["num_segments"] for row in tried if row["chosen"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        axes = figure.subplots()
        for (key, label), colour in zip(told.items(), PALETTE, strict=False):
            axes.plot(numbers, [row[key] for row in tried], marker="o", color=colour, label=label)
        axes.axvline(chosen, color=PALETTE[-1], linewidth=0.8, linestyle="--")
        axes.annotate("chosen", (chosen, 1.0), ha="left", xytext=(4, 0), textcoords="offset points")
        axes.set_xticks(numbers)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("number of groups")
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg(figure)


def migration(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    """Draw the moves of customers between segments: rows before, columns after, as shares of the row.

    counts: int [n, n] from training/profiles/migration.py; the last name stands for absent customers.
    """
    rows, columns = (np.flatnonzero(counts.sum(axis=axis)) for axis in (1, 0))
    share = counts[rows][:, columns] / counts[rows].sum(axis=1, keepdims=True)
    labels = [shortened(name, 30) for name in names]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 1.6 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in zip(*np.nonzero(share), strict=True):
            part = share[row, column]
            colour = "white" if part > 0.55 else "black"
            axes.text(column, row, f"{part:.0%}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_yticks(range(len(rows)), [labels[row] for row in rows])
        axes.set_xticks(range(len(columns)), [labels[column] for column in columns], rotation=35, ha="right")
        axes.set_ylabel("before")
        axes.set_xlabel("after")
        axes.spines[:].set_visible(False)
        return svg(figure)
