"""What density says: groups of customers who lie close together, and how many lie in none.

This explores; segments are what is served. Dense groups inside a segment are worth a marketer's look, and a
large share of customers in none says that segments cut a continuum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shopsight.kernels.backend import estimators
from shopsight.training.profiles.clusters import Int64
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.scaling import Float32

_SMALLEST_SHARE = 0.02
_MIN_SAMPLES = 10


def find_dense_groups(points: Float32, segment: Int64, config: ProfilesConfig) -> dict[str, Any]:
    """Find dense groups with HDBSCAN (Campello, Moulavi, Sander, 2013) among points float32 [n, c].

    segment: int64 [n], the served segment of each. Returns num_points, noise_share, and groups: for each,
    the largest first, its size, its share of the points, the segment that most of it lies in and how much.
    """
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.permutation(len(points))[: config.sample_size])
    smallest = max(_MIN_SAMPLES, int(_SMALLEST_SHARE * len(chosen)))
    if len(chosen) < 2 * smallest:
        return {"num_points": len(chosen), "noise_share": 1.0, "groups": []}
    fitted = estimators().HDBSCAN(
        min_cluster_size=smallest, min_samples=_MIN_SAMPLES, cluster_selection_method="eom"
    )
    labels = np.asarray(fitted.fit(points[chosen]).labels_)
    groups = []
    for label in range(int(labels.max()) + 1):
        inside = segment[chosen][labels == label]
        main = int(np.bincount(inside).argmax())
        groups.append({
            "num_customers": len(inside),
            "share": len(inside) / len(chosen),
            "segment": main,
            "share_in_segment": float((inside == main).mean()),
        })  # fmt: skip
    groups.sort(key=lambda group: -int(group["num_customers"]))
    return {"num_points": len(chosen), "noise_share": float((labels < 0).mean()), "groups": groups}
