"""Match new segments with earlier ones, so that a segment keeps its key when the models are retrained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment

_SAME = 0.3  # Jaccard index from which a new segment counts as an earlier one


@dataclass(frozen=True)
class Match:
    """The cluster numbers in the order of the new segments, and their keys in that order."""

    order: list[int]
    keys: list[str]


def match_segments(
    segment: pl.DataFrame, value: list[float], previous: pl.DataFrame | None, used_keys: list[str]
) -> Match:
    """Return the match of clusters 0 to k - 1 with earlier segments, by the customers that they share.

    segment: customer_id, segment (cluster number); previous: customer_id, key, as written by the earlier
    training, or None. value: mean value of each cluster. A cluster whose customers overlap an earlier
    segment's by a Jaccard index of at least 0.3 (best assignment over all pairs) keeps its key and place;
    new ones follow by value, the highest first, with keys never used before.
    """
    by_value = sorted(range(len(value)), key=lambda cluster: (-value[cluster], cluster))
    if previous is None or previous.is_empty():
        first = max((int(key[1:]) for key in used_keys if key[1:].isdigit()), default=0) + 1
        return Match(by_value, [f"S{first + i}" for i in range(len(value))])
    both = segment.join(previous.select("customer_id", "key"), on="customer_id")
    kept = _best_pairs(both, len(value))
    number = max((int(key[1:]) for key in used_keys if key[1:].isdigit()), default=0)
    order = sorted(kept, key=lambda cluster: used_keys.index(kept[cluster]))
    keys = [kept[cluster] for cluster in order]
    for cluster in by_value:
        if cluster not in kept:
            number += 1
            order.append(cluster)
            keys.append(f"S{number}")
    return Match(order, keys)


def _best_pairs(both: pl.DataFrame, num_clusters: int) -> dict[int, str]:
    old_keys = sorted(both.filter(pl.col("key").str.starts_with("S"))["key"].unique().to_list())
    shared = np.zeros((num_clusters, len(old_keys)))
    for cluster, key, count in both.group_by("segment", "key").len().iter_rows():
        if cluster < num_clusters and key in old_keys:
            shared[cluster, old_keys.index(key)] = count
    # The overlap is measured on customers of both trainings alone.
    new_size = np.array([both.filter(pl.col("segment") == c).height for c in range(num_clusters)])
    old_size = np.array([both.filter(pl.col("key") == k).height for k in old_keys])
    jaccard = shared / np.maximum(new_size[:, None] + old_size[None, :] - shared, 1)
    rows, columns = linear_sum_assignment(-jaccard)
    return {int(r): old_keys[c] for r, c in zip(rows, columns, strict=True) if jaccard[r, c] >= _SAME}
