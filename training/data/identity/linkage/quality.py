"""Pairwise precision and recall of a linkage against a known truth, and their curve over the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from shopsight.training.data.identity.linkage.link import Linkage
from shopsight.training.data.identity.linkage.threshold import THRESHOLDS


@dataclass(frozen=True)
class LinkageQuality:
    """Pairs of records that are one person: planted, found, and in both."""

    precision: float
    recall: float
    f1: float
    num_true_pairs: int
    num_found_pairs: int


def pairwise_quality(found: ArrayLike, truth: ArrayLike) -> LinkageQuality:
    """Compare two clusterings [n] of the same records by the pairs that each puts together.

    With no pair found precision is 1, with no true pair recall is 1.
    """
    frame = pl.DataFrame({"found": np.asarray(found), "truth": np.asarray(truth)})
    num_found = _num_pairs(frame, ["found"])
    num_true = _num_pairs(frame, ["truth"])
    both = _num_pairs(frame, ["found", "truth"])
    precision = both / num_found if num_found else 1.0
    recall = both / num_true if num_true else 1.0
    f1 = 2 * precision * recall / (precision + recall) if both else float(num_true == num_found == 0)
    return LinkageQuality(precision, recall, f1, num_true, num_found)


def curve(linkage: Linkage, truth: ArrayLike, thresholds: NDArray[np.float64] | None = None) -> pl.DataFrame:
    """Return precision, recall and f1 of the clusters at each threshold of the match probability."""
    if thresholds is None:
        thresholds = np.array(THRESHOLDS)
    rows = []
    for threshold in thresholds.tolist():
        quality = pairwise_quality(linkage.clusters_at(threshold), truth)
        rows.append((threshold, quality.precision, quality.recall, quality.f1))
    return pl.DataFrame(rows, schema=["threshold", "precision", "recall", "f1"], orient="row")


def _num_pairs(frame: pl.DataFrame, by: list[str]) -> int:
    sizes = frame.group_by(by).len()["len"].cast(pl.Int64)
    return int((sizes * (sizes - 1) // 2).sum())
