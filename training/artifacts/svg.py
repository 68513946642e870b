"""Figures as SVG text: one palette and one style for every page."""

from __future__ import annotations

import io
import warnings
from typing import Any

from matplotlib.figure import Figure

# Okabe and Ito's palette stays apart for colour-blind readers.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#4D4D4D")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "shopsight",
    "font.family": "sans-serif",
    "text.parse_math": False,  # a name with two $ in it is a name and no formula
}


def svg(figure: Figure) -> str:
    """Return a drawn figure as SVG text to put into a page; equal figures give equal text."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Letters are drawn by the reader's browser, whose fonts have more of them than those here.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
