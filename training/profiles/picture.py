"""A two-dimensional picture of customers, by UMAP if it is installed, else by two principal components."""

from __future__ import annotations

import numpy as np

from shopsight.kernels.backend import umap
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.scaling import Float32

_NEIGHBOURS = 15
UMAP, PCA = "UMAP", "the first two principal components"


def draw(points: Float32, config: ProfilesConfig) -> tuple[Float32, str]:
    """Return coordinates float32 [n, 2] of points float32 [n, c], and the name of the method.

    They are used for the picture alone. UMAP (McInnes, Healy, Melville, 2018) keeps neighbours together;
    distances between distant groups mean little.
    """
    estimator = umap() if config.draw_umap and len(points) > _NEIGHBOURS else None
    if estimator is None:
        flat = np.zeros((len(points), 2), dtype=np.float32)
        flat[:, : points.shape[1]] = points[:, :2]
        return flat, PCA
    fitted = estimator(n_neighbors=_NEIGHBOURS, n_components=2, min_dist=0.1, random_state=config.seed)
    return np.asarray(fitted.fit_transform(points), dtype=np.float32), UMAP
