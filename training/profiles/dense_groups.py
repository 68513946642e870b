"""Dense groups of customers by HDBSCAN, and the share of customers in none, for exploration.

Segments, not dense groups, are served. A dense group inside a segment may deserve a closer look. A large
share of customers in no group means that the segments divide a continuum.
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

    segment: int64 [n], the served segment of each. Returns num_points, noise_share and groups; each
    group, largest first, has its size, its share of the points, the segment of most of its customers, and the
    share of them in it.
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
