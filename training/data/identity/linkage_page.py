"""Report of the linkage, as HTML and JSON: evidence of each field, and the curve behind the threshold."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from shopsight.serving.durable import write_text
from shopsight.training.artifacts.svg import PALETTE, STYLE, svg
from shopsight.training.data.identity.linkage import Linkage, curve
from shopsight.training.data.identity.linkage.comparisons import DIFFERENT, EXACT, FIELDS, levels_of

FORMAT_VERSION = 1
PAGE_FILE, JSON_FILE = "linkage.html", "linkage.json"


def write_linkage_report(folder: Path, linkage: Linkage, truth: ArrayLike | None = None) -> Path:
    """Write linkage.html and linkage.json into `folder` and return the path of the page.

    truth: who each record is [n], where that is known; its curve is then drawn beside the expected one. The
    files hold counts and rates alone, no value of any record.
    """
    real = None if truth is None else curve(linkage, truth)
    content = _content(linkage, real)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / JSON_FILE, json.dumps(content, indent=1, sort_keys=True) + "\n")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        files("shopsight.training.data.identity").joinpath("linkage_page.html").read_text("utf-8")
    )
    page = template.render(**content, curve_svg=_draw(linkage, real), rules=_rules(linkage))
    write_text(folder / PAGE_FILE, page)
    return folder / PAGE_FILE


def linkage_row(linkage: Linkage) -> dict[str, Any]:
    """The chosen point, why, what is expected of it and what it joined: a row of the data-quality output."""
    choice = linkage.choice
    at = min(choice.curve.to_dicts(), key=lambda row: abs(row["threshold"] - choice.threshold))
    ignored: dict[str, int] = {}
    for one in linkage.ignored:
        ignored[one.field] = ignored.get(one.field, 0) + one.num_records
    return {
        "threshold": choice.threshold,
        "reason": choice.reason,
        "expected_precision": linkage.precision.value,
        "expected_precision_low": linkage.precision.low,
        "expected_precision_high": linkage.precision.high,
        "expected_recall": at["recall"],
        "num_accounts": int(linkage.clusters.size),
        "num_people": int(linkage.clusters.max()) + 1 if linkage.clusters.size else 0,
        "num_pairs_joined": int((linkage.probability >= choice.threshold).sum()),
        "ignored_values": ignored,
    }


def _content(linkage: Linkage, real: pl.DataFrame | None) -> dict[str, Any]:
    chosen = linkage_row(linkage)
    if real is not None:
        near = min(real.to_dicts(), key=lambda row: abs(row["threshold"] - chosen["threshold"]))
        chosen |= {"true_precision": near["precision"], "true_recall": near["recall"]}
    return {
        "format_version": FORMAT_VERSION,
        "chosen": chosen,
        "expected": linkage.choice.curve.to_dicts(),
        "truth": None if real is None else real.to_dicts(),
        "weights": _weights(linkage),
        "skipped_blocks": linkage.skipped_blocks,
    }


def _weights(linkage: Linkage) -> list[dict[str, Any]]:
    """What agreement and disagreement of each field speak for, in bits; fields without data are left out."""
    model = linkage.model
    if model is None:
        return []
    rows = []
    for name in FIELDS:
        bits = np.log2(np.maximum(model.m[name], 1e-9)) - np.log2(np.maximum(model.u[name], 1e-12))
        if levels_of(linkage.pattern, name).any():
            rows.append(
                {"field": name, "same": float(bits[EXACT]), "different": float(bits[DIFFERENT[name]])}
            )
    return rows


def _rules(linkage: Linkage) -> list[tuple[str, int]]:
    names, counts = np.unique(linkage.rule, return_counts=True)
    return sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])


def _draw(linkage: Linkage, real: pl.DataFrame | None) -> str:
    """Precision and recall over the threshold, and over each other; the chosen point marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        over_threshold, over_recall = figure.subplots(1, 2)
        for frame, style, label in ((linkage.choice.curve, "-", "expected"), (real, "--", "true")):
            if frame is None:
                continue
            odds = _log_odds(frame["threshold"].to_numpy())
            for name, colour in (("precision", PALETTE[0]), ("recall", PALETTE[5])):
                over_threshold.plot(odds, frame[name], style, color=colour, label=f"{label} {name}")
            over_recall.plot(
                frame["recall"], frame["precision"], f"o{style}", color=PALETTE[2], label=label, ms=4
            )
        threshold = linkage.choice.threshold
        over_threshold.axvline(float(_log_odds(np.array([threshold]))[0]), color=PALETTE[7], linewidth=0.9)
        shown = np.array([0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999])
        over_threshold.set_xticks(_log_odds(shown), [f"{value:g}" for value in shown])
        over_threshold.set_xlabel(f"threshold of the match probability (chosen: {threshold:g})")
        at = min(linkage.choice.curve.to_dicts(), key=lambda row: abs(row["threshold"] - threshold))
        over_recall.plot([at["recall"]], [at["precision"]], "*", color=PALETTE[5], ms=13, label="chosen")
        over_recall.set_xlabel("recall")
        over_recall.set_ylabel("precision")
        for axes in (over_threshold, over_recall):
            axes.ticklabel_format(useOffset=False, axis="y")
            axes.legend(frameon=False, fontsize=8)
        return svg(figure)


def _log_odds(probability: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.log10(probability) - np.log10(1 - probability)  # type: ignore[no-any-return]
