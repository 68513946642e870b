"""Choose the number of segments by their stability on bootstrap resamples and their silhouette."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score, confusion_matrix, silhouette_score

from shopsight.serving.progress import Progress, counted
from shopsight.training.profiles.clusters import Int64, kmeans, nearest
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.scaling import Float32

_SILHOUETTE_SAMPLE = 3_000
_STABILITY_SLACK, _SILHOUETTE_SLACK = 0.05, 0.005
_COMES_BACK = 0.75  # Hennig (2007): a cluster of lower mean Jaccard index is not a stable pattern
RULE = (
    f"of the numbers whose stability (adjusted Rand index) is within {_STABILITY_SLACK} of the best, those "
    f"of which every segment comes back on resampled customers (mean Jaccard index at least {_COMES_BACK}); "
    f"of these, those whose silhouette is within {_SILHOUETTE_SLACK} of the best; of these, the largest; "
    "where no number is so, the one whose least stable segment comes back best"
)


def choose_number(points: Float32, config: ProfilesConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return one row for each number of segments tried on points float32 [n, c], the chosen one by RULE.

    A row has num_segments; stability and stability_min, the median and the lowest adjusted Rand index (Hubert
    and Arabie, 1985) between the segments of all points and those of bootstrap resamples; jaccard_min, for
    the least stable segment the mean over resamples of the Jaccard index with its best match (Hennig, 2007,
    "Cluster-wise Assessment of Cluster Stability"); silhouette (Rousseeuw, 1987); and chosen.
    """
    num_distinct = len(np.unique(points, axis=0))
    highest = min(config.max_segments, num_distinct, max(config.min_segments, len(points) // 2))
    numbers = [config.num_segments] if config.num_segments else range(config.min_segments, highest + 1)
    tried: list[dict[str, Any]] = []
    with counted(progress, "numbers of segments", len(numbers)) as done:
        for number in numbers:
            labels = nearest(points, kmeans(points, number, config.seed))
            rand, jaccard = _come_back(points, labels, number, config)
            tried.append({
                "num_segments": number,
                "stability": float(np.median(rand)),
                "stability_min": float(np.min(rand)),
                "jaccard_min": float(jaccard.mean(axis=0).min()),
                "silhouette": _silhouette(points, labels, config.seed),
                "chosen": False,
            })  # fmt: skip
            progress(
                f"{number} segments: stability {tried[-1]['stability']:.2f}, least stable segment "
                f"{tried[-1]['jaccard_min']:.2f}, silhouette {tried[-1]['silhouette']:.3f}"
            )
            done(1)
    _best(tried)["chosen"] = True
    return tried


def comes_back(row: dict[str, Any]) -> bool:
    """Return whether each segment of a tried number is found again on resampled customers."""
    return float(row["jaccard_min"]) >= _COMES_BACK


def _best(tried: list[dict[str, Any]]) -> dict[str, Any]:
    best = max(row["stability"] for row in tried)
    stable = [row for row in tried if row["stability"] >= best - _STABILITY_SLACK and comes_back(row)]
    if not stable:
        return max(tried, key=lambda row: float(row["jaccard_min"]))
    furthest = max(float(row["silhouette"]) for row in stable)
    return [row for row in stable if row["silhouette"] >= furthest - _SILHOUETTE_SLACK][-1]


def _come_back(
    points: Float32, labels: Int64, number: int, config: ProfilesConfig
) -> tuple[list[float], np.ndarray[Any, Any]]:
    """Return the adjusted Rand index and, per segment, the Jaccard index of its best match, per resample."""
    rng = np.random.default_rng([config.seed, number])
    rand, jaccard = [], []
    for _ in range(config.num_bootstraps):
        resample = points[rng.integers(0, len(points), len(points))]
        again = nearest(points, kmeans(resample, number, int(rng.integers(2**31)), restarts=3))
        rand.append(float(adjusted_rand_score(labels, again)))
        shared = confusion_matrix(labels, again, labels=np.arange(number))
        together = shared.sum(axis=1)[:, None] + shared.sum(axis=0)[None, :] - shared
        jaccard.append((shared / np.maximum(together, 1)).max(axis=1))
    return rand, np.array(jaccard)


def _silhouette(points: Float32, labels: Int64, seed: int) -> float:
    num_found = len(np.unique(labels))
    if not 1 < num_found < len(points):
        return 0.0
    size = min(_SILHOUETTE_SAMPLE, len(points))
    chosen = np.random.default_rng(seed).permutation(len(points))[:size]
    if len(np.unique(labels[chosen])) < 2:
        return 0.0
    return float(silhouette_score(points[chosen], labels[chosen]))
