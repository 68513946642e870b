"""Figures of behaviour: cohorts as a grid, and curves over the days after a purchase."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shopsight.training.artifacts.svg import PALETTE, STYLE, svg

_MOST_WRITTEN = 14  # columns in which numbers can be read


def grid(shares: NDArray[np.float64], names: Sequence[str], periods: Sequence[str], unit: str) -> str:
    """Draw cohorts as rows and periods as columns; shares float [rows, columns], NaN stays blank."""
    highest, columns = float(np.nanmax(shares, initial=0.01)), len(periods)
    written = np.isfinite(shares) & (columns <= _MOST_WRITTEN)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 1.2 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=highest, aspect="auto")
        for row, column in zip(*np.nonzero(written), strict=True):
            part = shares[row, column]
            colour = "white" if part > 0.6 * highest else "black"
            axes.text(column, row, f"{part:.0%}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_yticks(range(len(names)), names)
        step = 1 + columns // (_MOST_WRITTEN + 1)
        axes.set_xticks(range(0, columns, step), periods[::step])
        axes.set_xlabel(unit)
        axes.spines[:].set_visible(False)
        return svg(figure)


def curves(table: pl.DataFrame, days: str, value: str, unit: str) -> str:
    """Draw a value over days, one line a purchase number with its interval.

    table: as in training/behaviour/timing.py; `value` has its bounds in the columns value_low and value_high.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        axes = figure.subplots()
        known = table.drop_nulls([value, f"{value}_low", f"{value}_high"])
        for row, (purchase,) in enumerate(known.select("purchase").unique(maintain_order=True).iter_rows()):
            own, colour = known.filter(purchase=purchase), PALETTE[row % len(PALETTE)]
            axes.plot(own[days], own[value], marker=".", color=colour, label=f"after purchase {purchase}")
            axes.fill_between(own[days], own[f"{value}_low"], own[f"{value}_high"], alpha=0.15, color=colour)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("days after the purchase")
        axes.set_ylabel(unit)
        if known.height:
            axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg(figure)
