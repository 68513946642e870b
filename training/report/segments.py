"""The report's section on segments: descriptions, numbers, the choice of their number, and moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.profiles.choosing import comes_back
from shopsight.training.report import figures, segment_figures


def segments(workspace: Workspace) -> dict[str, Any]:
    """Return the section on segments; its list of segments is empty if no profiles were trained."""
    from shopsight.training import profiles
    from shopsight.training.artifacts.trained_state import NotTrained

    try:
        trained = profiles.load(workspace)
    except NotTrained:
        return {"segments": [], "segment_detail": None}
    metrics = trained.metrics
    return {
        "segments": trained.segments,
        "segment_detail": {
            "plot": _plot(trained.points, [segment["name"] for segment in trained.segments]),
            "picture": metrics["picture"],
            "traits": _traits(trained.segments, trained.model.spec),
            "choice": _choice(metrics["tried"]),
            "choice_plot": segment_figures.choice(metrics["tried"]) if len(metrics["tried"]) > 1 else "",
            "dense_groups": _dense_groups(metrics["dense_groups"], trained.segments),
            "moves": [_moves(moves) for moves in metrics["migration"].values() if moves],
        },
    }


def _plot(points: pl.DataFrame, names: list[str]) -> str:
    if points.is_empty():
        return ""
    shown = [name for name in names if name in set(points["name"])]
    place = {name: position for position, name in enumerate(shown)}
    groups = points["name"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    return figures.scatter(points.select("x", "y").to_numpy(), groups, shown)


def _traits(segments: list[dict[str, Any]], spec: Any) -> list[dict[str, Any]]:
    from shopsight.training.profiles.describe import figure

    rows = []
    for segment in segments:
        for trait in segment["traits"]:
            feature = spec.features[spec.index(trait["feature"])]
            inside, outside = (figure(trait[side], feature, spec.currency) for side in ("inside", "outside"))
            rows.append({
                "segment": segment["name"] if trait is segment["traits"][0] else "",
                "label": feature.label,
                "inside": inside,
                "outside": outside,
                "effect": f"{trait['effect']:+.1f}",
            })  # fmt: skip
    return rows


def _choice(tried: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("stability", "jaccard_min", "silhouette")
    rows = [
        {"number": row["num_segments"], "chosen": row["chosen"], **{k: f"{row[k]:.2f}" for k in keys}}
        for row in tried
    ]
    return {"rows": rows, "sentence": _reason(tried)}


def _reason(tried: list[dict[str, Any]]) -> str:
    chosen = next(row for row in tried if row["chosen"])
    number, least = chosen["num_segments"], f"{chosen['jaccard_min']:.2f} of 1"
    if len(tried) == 1:
        return f"The number of groups, {number}, was set in the configuration."
    opening = f"{tried[0]['num_segments']} to {tried[-1]['num_segments']} groups were tried."
    if not comes_back(chosen):
        return (
            f"{opening} With no number are all groups stable when the customers are resampled; {number} "
            f"groups are the most stable (the least stable group: {least}). The groups overlap: take them "
            "as a rough division."
        )
    return (
        f"{opening} With {number} groups, the groups are stable when the customers are resampled (agreement "
        f"{chosen['stability']:.2f} of 1; the least stable group {least}). Among stable numbers, {number} "
        f"separates the groups best (silhouette {chosen['silhouette']:.2f}; 0 would be no separation)."
    )


def _dense_groups(found: dict[str, Any], segments: list[dict[str, Any]]) -> str:
    if not found["groups"]:
        return (
            "There are no dense clusters of customers: the groups above divide customers who vary gradually."
        )
    crowds = [
        f"{group['share']:.0%} ({group['share_in_segment']:.0%} of these are "
        f"“{segments[group['segment']]['name']}”)"
        for group in found["groups"][:4]
    ]
    return (
        f"Dense clusters of customers: {'; '.join(crowds)}. "
        f"{found['noise_share']:.0%} of the customers are in none."
    )


def _moves(moves: dict[str, Any]) -> dict[str, str]:
    counts = np.array(moves["counts"])
    names = [segment["name"] for segment in moves["segments"]]
    plot = segment_figures.migration(counts, names) if counts[:-1, :-1].any() else ""
    title = f"From {moves['before'].removeprefix('on ')} to {moves['after'].removeprefix('on ')}"
    return {"title": title, "words": moves["words"], "plot": plot}
