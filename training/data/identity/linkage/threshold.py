"""Chooses the threshold of the match probability from the model's expected precision and recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import nbinom

from shopsight.training.data.identity.linkage.relatives import Relatives, kinds_of

THRESHOLDS = (
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999,
)  # fmt: skip
# Fewer likely pairs than this say nothing about each other, and a careful threshold is taken.
MIN_LIKELY_PAIRS, CAREFUL = 200, 0.99
LEAST = 0.7  # a pair less likely than this is never joined, however good the others are
# The model's own count of wrong pairs may be off by this share; and one wrong edge that no model foresees.
_MODEL_DOUBT, _UNSEEN = 1.0, 1.0


@dataclass(frozen=True)
class Choice:
    """The chosen threshold, why, and the curve that it was chosen from."""

    threshold: float
    reason: str
    curve: pl.DataFrame


@dataclass(frozen=True)
class Expected:
    """The share of right pairs among all that share a cluster, with an interval of 95 %."""

    value: float
    low: float
    high: float


def expected_precision(
    clusters: NDArray[np.int64],
    pattern: NDArray[np.int64],
    probability: NDArray[np.float64],
    is_said: NDArray[np.bool_],
    relatives: Relatives,
) -> Expected:
    """Expect the precision of the clusters [n] from the joined candidate pairs' probabilities.

    The number of wrong pairs is taken for negative binomial: its variance adds up that of counting, of
    the rates of relatives (all pairs of one kind are wrong together) and of the model. A wrong edge joins
    everything that is connected to it, so the count grows with the pairs a cluster has for each edge it
    needs.
    """
    sizes = np.bincount(clusters)
    num_pairs = int((sizes * (sizes - 1) // 2).sum())
    if not num_pairs or not probability.size:
        return Expected(1.0, 1.0, 1.0)
    chained = num_pairs / max(int((sizes - 1).clip(0).sum()), 1)
    doubted = ~is_said
    wrong = float((1 - probability[doubted]).sum())
    of_kind = np.bincount(
        kinds_of(pattern[doubted & (relatives.among(pattern) > 0)]), minlength=relatives.rate.size
    )
    variance = float((of_kind**2 * relatives.variance).sum()) + (_MODEL_DOUBT * wrong) ** 2
    share = doubted.mean() * num_pairs / probability.size
    mean, deviation = (
        chained * (wrong * share + _UNSEEN),
        chained * np.sqrt(variance * share**2 + wrong * share + _UNSEEN),
    )
    size = mean**2 / max(deviation**2 - mean, 1e-9)
    low, high = (float(nbinom.ppf(q, size, size / (size + mean))) for q in (0.975, 0.025))
    return Expected(*(float(np.clip(1 - count / num_pairs, 0.0, 1.0)) for count in (mean, low, high)))


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

    Precision comes first: a missed join costs a tip, a wrong one shows a customer what another did.
    """
    curve = estimated_curve(probability)
    likely = int((probability >= 0.5).sum())
    if likely < MIN_LIKELY_PAIRS:
        reason = f"{likely} likely pairs are too few to choose by ({MIN_LIKELY_PAIRS}): the careful default"
        return Choice(CAREFUL, reason, curve)
    precise = curve.filter((pl.col("precision") >= min_precision) & (pl.col("threshold") >= LEAST))
    if precise.is_empty():
        reason = f"no threshold is expected to reach precision {min_precision}: the most precise one"
        return Choice(THRESHOLDS[-1], reason, curve)
    best = precise.sort("f1", "threshold", descending=True).row(0, named=True)
    reason = (
        f"best expected F1 ({best['f1']:.4f}) of the thresholds whose expected precision is at least "
        f"{min_precision} (here {best['precision']:.4f}, recall {best['recall']:.4f})"
    )
    return Choice(best["threshold"], reason, curve)
