"""k-means and principal components, by the library of the backend (kernels/backend.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from shopsight.kernels.backend import estimators
from shopsight.training.profiles.scaling import Float32

Int64 = NDArray[np.int64]

RESTARTS = 5
_SINGLE_THREAD_POINTS = 50_000


def principal_components(scaled: Float32, variance: float) -> tuple[Float32, Float32]:
    """Return components float32 [c, features] that keep the share `variance` of scaled rows; offset [c]."""
    most = min(scaled.shape)
    fitted = estimators().PCA(n_components=most, svd_solver="full").fit(scaled)
    kept = int(np.searchsorted(np.cumsum(fitted.explained_variance_ratio_), variance)) + 1
    components = np.asarray(fitted.components_[: min(kept, most)], dtype=np.float32)
    return components, np.asarray(components @ np.asarray(fitted.mean_, dtype=np.float32), dtype=np.float32)


def kmeans(points: Float32, number: int, seed: int, restarts: int = RESTARTS) -> Float32:
    """Return the centres of `number` clusters of points, float32 [number, c]."""
    # On few points the threads of k-means cost more time than they save.
    with threadpool_limits(1 if len(points) <= _SINGLE_THREAD_POINTS else None):
        fitted = estimators().KMeans(n_clusters=number, n_init=restarts, random_state=seed).fit(points)
    return np.asarray(fitted.cluster_centers_, dtype=np.float32)


def distances(points: Float32, centres: Float32) -> Float32:
    """Return Euclidean distances, float32 [points, centres]."""
    squared = np.empty((len(points), len(centres)), dtype=np.float32)
    for number, centre in enumerate(centres):  # one at a time, because all differences need too much memory
        gap = points - centre
        squared[:, number] = (gap * gap).sum(axis=1)
    return np.sqrt(squared)


def nearest(points: Float32, centres: Float32) -> Int64:
    """Return the index of the nearest centre, int64 [points]."""
    return np.asarray(distances(points, centres).argmin(axis=1), dtype=np.int64)
