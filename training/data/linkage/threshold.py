"""Which probability of a match joins two records: chosen from the curve that the model itself expects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

THRESHOLDS = (
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999,
)  # fmt: skip
# Fewer likely pairs than this say nothing about each other, and a careful threshold is taken.
MIN_LIKELY_PAIRS, CAREFUL = 200, 0.99


@dataclass(frozen=True)
class Choice:
    """The chosen threshold, why, and the curve that it was chosen from."""

    threshold: float
    reason: str
    curve: pl.DataFrame


def estimated_curve(probability: NDArray[np.float64]) -> pl.DataFrame:
    """Return threshold, precision, recall, f1 and num_pairs as the match probabilities of pairs [n] say.

    Of the pairs above a threshold their mean probability is expected to be right, and their sum is the found
    part of the sum over all (Fellegi and Sunter, 1969). No label is read; the recall is that among the
    candidate pairs, because nobody counts a match that no block brought together.
    """
    ascending = np.sort(probability)
    above = np.append(np.cumsum(ascending[::-1])[::-1], 0.0)
    first = np.searchsorted(ascending, THRESHOLDS)
    num = ascending.size - first
    found, total = above[first], above[0]
    precision = np.where(num > 0, found / np.maximum(num, 1), 1.0)
    recall = found / total if total else np.ones(first.size)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return pl.DataFrame(
        {"threshold": THRESHOLDS, "precision": precision, "recall": recall, "f1": f1, "num_pairs": num}
    )


def choose_threshold(probability: NDArray[np.float64], min_precision: float) -> Choice:
    """Choose the threshold of the best expected F1 among those that keep to `min_precision`.

    Precision comes first: a missed join costs a tip, a wrong one shows a customer what another did. The
    expectation is too bright where people resemble each other on purpose (households), so ask for more than
    is needed.
    """
    curve = estimated_curve(probability)
    likely = int((probability >= 0.5).sum())
    if likely < MIN_LIKELY_PAIRS:
        reason = f"{likely} likely pairs are too few to choose by ({MIN_LIKELY_PAIRS}): the careful default"
        return Choice(CAREFUL, reason, curve)
    precise = curve.filter(pl.col("precision") >= min_precision)
    if precise.is_empty():
        reason = f"no threshold is expected to reach precision {min_precision}: the most precise one"
        return Choice(THRESHOLDS[-1], reason, curve)
    best = precise.sort("f1", "threshold", descending=True).row(0, named=True)
    reason = (
        f"best expected F1 ({best['f1']:.4f}) of the thresholds whose expected precision is at least "
        f"{min_precision} (here {best['precision']:.4f}, recall {best['recall']:.4f})"
    )
    return Choice(best["threshold"], reason, curve)
