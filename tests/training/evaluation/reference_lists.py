"""Obvious float64 references of the figures of ranked lists, one user at a time."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np


def once(items: list[int]) -> list[int]:
    """The places of a list, in which a repeated item or an empty place is -1."""
    return [item if item >= 0 and item not in items[:place] else -1 for place, item in enumerate(items)]


def accuracy(items: list[int], wanted: set[int], capped: bool) -> dict[str, float]:
    if not wanted:
        return dict.fromkeys(("recall", "hit_rate", "ndcg", "mrr", "map"), math.nan)
    ranks = [place + 1 for place, item in enumerate(once(items)) if item in wanted]
    whole = min(len(items), len(wanted)) if capped else len(wanted)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(items), len(wanted)) + 1))
    return {
        "recall": len(ranks) / whole,
        "hit_rate": float(bool(ranks)),
        "ndcg": sum(1 / math.log2(rank + 1) for rank in ranks) / ideal,
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "map": sum(number / rank for number, rank in enumerate(ranks, 1)) / whole,
    }


def mean_of(items: list[int], value: np.ndarray) -> float:
    kept = [item for item in once(items) if item >= 0]
    return sum(float(value[item]) for item in kept) / len(kept) if kept else math.nan


def diversity(items: list[int], vectors: np.ndarray) -> float:
    kept = [item for item in once(items) if item >= 0]
    if len(kept) < 2:
        return math.nan
    unlike = []
    for a, b in combinations(kept, 2):
        lengths = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        unlike.append(1 - (float(vectors[a] @ vectors[b] / lengths) if lengths else 0.0))
    return sum(unlike) / len(unlike)


def calibration(items: list[int], past: np.ndarray, category: np.ndarray, smoothing: float) -> float:
    kept = [item for item in once(items) if item >= 0 and category[item] >= 0]
    weight = np.where(category >= 0, past, 0.0)
    if not kept or not weight.sum():
        return math.nan
    divergence = 0.0
    for one in set(category.tolist()) - {-1}:
        p = weight[category == one].sum() / weight.sum()
        q = sum(category[item] == one for item in kept) / len(kept)
        divergence += p * math.log(p / ((1 - smoothing) * q + smoothing * p)) if p else 0.0
    return divergence


def gini(counts: list[int]) -> float:
    differences = sum(abs(a - b) for a in counts for b in counts)
    return differences / (2 * len(counts) * sum(counts))
